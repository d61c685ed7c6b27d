"""Which Docker Engine is meant, and how to connect to it: by options, or as the docker command would."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.api.docker_hosts.endpoints import Address, parse
from claude_sandbox.backends.docker.engine.connection.client_credentials import TlsCredentials

DEFAULT = "unix:///var/run/docker.sock"
_FILES = ("ca.pem", "cert.pem", "key.pem")


class AddressError(Exception):
    """No engine can be meant by that; the message says why."""


@dataclass(frozen=True)
class EngineAddress:
    """`endpoint` is as it was given, for people."""

    endpoint: str
    address: Address
    credentials: TlsCredentials | None = None


@dataclass(frozen=True)
class Tls:
    """The command line's options. Files that are not named are those of DOCKER_CERT_PATH, by docker's own names."""

    verify: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    @property
    def given(self) -> bool:
        """Whether any of them was."""
        return self.verify or any((self.ca, self.certificate, self.key))


def engine_address(host: str | None, tls: Tls, environment: Mapping[str, str] = os.environ) -> EngineAddress:
    """The engine: `host`, or else DOCKER_HOST, or docker's current context, or the local socket. Raises AddressError.

    TLS always means that both sides prove who they are.
    """
    home = Path(environment.get("DOCKER_CONFIG") or Path(environment.get("HOME", "/")) / ".docker")
    endpoint = host or environment.get("DOCKER_HOST")
    if not endpoint and (context := _context(environment, home)):
        return _of_context(context, home, tls)
    return _address(endpoint or DEFAULT, tls, environment, home)


def _address(endpoint: str, tls: Tls, environment: Mapping[str, str], home: Path) -> EngineAddress:
    try:
        address = parse(endpoint)
    except ValueError as error:
        # Not the endpoint itself: somebody may have written a password into it.
        raise AddressError(f"{error}, for example {DEFAULT} or tcp://build-1.example:2376") from None
    if address.scheme != "tcp":
        if tls.given:
            raise AddressError(f"the --tls… options are for tcp://, not for {address.scheme}://")
        return EngineAddress(endpoint, address)
    if not tls.given and not environment.get("DOCKER_TLS_VERIFY"):
        return EngineAddress(endpoint, address)
    directory = Path(environment.get("DOCKER_CERT_PATH") or home)
    named = (tls.ca, tls.certificate, tls.key)
    return EngineAddress(
        endpoint, address, _credentials([Path(own or directory / one) for own, one in zip(named, _FILES, strict=True)])
    )


def _credentials(files: list[Path]) -> TlsCredentials:
    contents = []
    for file in files:
        try:
            contents.append(file.read_bytes())
        except OSError as error:
            raise AddressError(
                f"{file} can't be read: {error.strerror}; name it with --tlscacert, --tlscert, --tlskey"
            ) from None
    return TlsCredentials(*contents)


def _context(environment: Mapping[str, str], home: Path) -> str | None:
    """The name of docker's current context, None for the default one."""
    name = environment.get("DOCKER_CONTEXT")
    if not name:
        try:
            name = json.loads((home / "config.json").read_bytes()).get("currentContext")
        except (OSError, ValueError, AttributeError):
            return None
    return None if name in (None, "", "default") else str(name)


def _of_context(name: str, home: Path, tls: Tls) -> EngineAddress:
    """As the docker command keeps contexts: in directories that are named by a hash of the context's name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta = json.loads((home / "contexts/meta" / digest / "meta.json").read_bytes())
        endpoint = str(meta["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        raise AddressError(f"docker's context {name!r} can't be read; name the engine with --host") from None
    files = [home / "contexts/tls" / digest / "docker" / file for file in _FILES]
    if not tls.given and files[0].exists():
        tls = Tls(True, *map(str, files))
    return _address(endpoint, tls, {}, home)
