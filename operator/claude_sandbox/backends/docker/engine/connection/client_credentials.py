"""What the operator connects to an engine with, taken from a Secret. Pure: no secret leaves it but as bytes."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.docker_hosts.endpoints import Scheme


@dataclass(frozen=True)
class TlsCredentials:
    """For tcp://: the authority of the engine's certificate, and a certificate and key of the operator's own. PEM."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class SshCredentials:
    """For ssh://: a private key, and the keys by which the host is known, as in a known_hosts file."""

    private_key: bytes = field(repr=False)
    known_hosts: bytes


@dataclass(frozen=True)
class RegistryLogin:
    """For a registry: whom its images are pulled as."""

    username: str
    password: str = field(repr=False)


ClientCredentials = TlsCredentials | SshCredentials

KEYS: Mapping[Scheme, tuple[str, ...]] = {
    "tcp": ("ca.crt", "tls.crt", "tls.key"),
    "ssh": ("ssh-privatekey", "known_hosts"),
}
"""The keys that a Secret needs; those of TLS and of ssh keys as Kubernetes calls them."""


LOGIN_KEYS = ("username", "password")
"""The keys that a Secret for a registry needs."""


class ClientCredentialsError(Exception):
    """The Secret can't be used. The message names it, and never what is in it."""

    def __init__(self, reason: HostReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def from_secret(secret: Mapping[str, Any], scheme: Scheme) -> ClientCredentials:
    """What the Secret holds for endpoints of that scheme. Raises ClientCredentialsError."""
    values = _values(secret, KEYS[scheme], f"an endpoint by {scheme}://")
    return TlsCredentials(*values) if scheme == "tcp" else SshCredentials(*values)


def login_from(secret: Mapping[str, Any]) -> RegistryLogin:
    """What the Secret holds for a registry. Raises ClientCredentialsError."""
    try:
        return RegistryLogin(*(value.decode() for value in _values(secret, LOGIN_KEYS, "a registry")))
    except UnicodeDecodeError:
        raise ClientCredentialsError(HostReason.SECRET_INVALID, "The Secret for a registry is no text.") from None


def _values(secret: Mapping[str, Any], keys: tuple[str, ...], what: str) -> list[bytes]:
    metadata = secret["metadata"]
    where = f"Secret {metadata['namespace']}/{metadata['name']}"
    label = (metadata.get("labels") or {}).get(meta.LABEL_HOST_SECRET_OPT_IN)
    if secret.get("type") != meta.HOST_SECRET_TYPE and label != meta.LABEL_SECRET_OPT_IN_VALUE:
        raise ClientCredentialsError(
            HostReason.SECRET_NOT_OPTED_IN,
            f"{where} is not for connecting to Docker hosts: make it with --type={meta.HOST_SECRET_TYPE}, or label it"
            f" {meta.LABEL_HOST_SECRET_OPT_IN}={meta.LABEL_SECRET_OPT_IN_VALUE}.",
        )
    data = secret.get("data") or {}
    if missing := [key for key in keys if not data.get(key)]:
        raise ClientCredentialsError(
            HostReason.SECRET_KEY_MISSING,
            f"{where} has no {', '.join(missing)}: {what} needs {', '.join(keys)}.",
        )
    try:
        return [base64.b64decode(data[key], validate=True) for key in keys]
    except (binascii.Error, TypeError):
        raise ClientCredentialsError(HostReason.SECRET_INVALID, f"{where} could not be decoded.") from None


def not_found(namespace: str, name: str, scheme: Scheme) -> ClientCredentialsError:
    """There is no such Secret."""
    files = " ".join(f"--from-file={key}=FILE" for key in KEYS[scheme])
    return ClientCredentialsError(
        HostReason.SECRET_NOT_FOUND,
        f"There is no Secret {namespace}/{name}. Make it with `kubectl create secret generic {name} --namespace"
        f" {namespace} --type={meta.HOST_SECRET_TYPE} {files}`.",
    )
