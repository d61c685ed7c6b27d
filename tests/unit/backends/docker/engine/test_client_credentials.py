"""What a Secret has to hold for the operator to connect with it, and that nothing of it gets out."""

import base64
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.api.docker_hosts.conditions import HostReason
from claude_sandbox.api.docker_hosts.endpoints import Scheme
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    KEYS,
    ClientCredentialsError,
    SshCredentials,
    TlsCredentials,
    from_secret,
)

PRIVATE = "very-private"


def secret(scheme: Scheme, kind: str = meta.HOST_SECRET_TYPE, **changes: Any) -> dict[str, Any]:
    data = {key: base64.b64encode(f"{PRIVATE} {key}".encode()).decode() for key in KEYS[scheme]}
    return {"metadata": {"namespace": "system", "name": "build-1"}, "type": kind, "data": data} | changes


def test_each_scheme_has_its_keys() -> None:
    tls, ssh = from_secret(secret("tcp"), "tcp"), from_secret(secret("ssh"), "ssh")
    assert isinstance(tls, TlsCredentials)
    assert (tls.ca, tls.certificate, tls.key) == tuple(f"{PRIVATE} {key}".encode() for key in KEYS["tcp"])
    assert isinstance(ssh, SshCredentials)
    assert (ssh.private_key, ssh.known_hosts) == tuple(f"{PRIVATE} {key}".encode() for key in KEYS["ssh"])


def test_a_private_key_is_not_in_what_is_printed() -> None:
    for credentials in (from_secret(secret("tcp"), "tcp"), from_secret(secret("ssh"), "ssh")):
        assert "tls.key" not in repr(credentials)
        assert "ssh-privatekey" not in repr(credentials)


def test_a_secret_may_opt_in_by_a_label() -> None:
    labelled = {"namespace": "system", "name": "a", "labels": {meta.LABEL_HOST_SECRET_OPT_IN: "true"}}
    assert from_secret(secret("tcp", "Opaque", metadata=labelled), "tcp")


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"type": "Opaque"}, HostReason.SECRET_NOT_OPTED_IN, "--type=claudesandbox.dev/docker-host"),
        # One for API keys is not one for hosts.
        ({"type": meta.SECRET_TYPE}, HostReason.SECRET_NOT_OPTED_IN, "label it"),
        ({"data": None}, HostReason.SECRET_KEY_MISSING, "has no ca.crt, tls.crt, tls.key"),
        ({"data": {"ca.crt": "YQ==", "tls.crt": "YQ=="}}, HostReason.SECRET_KEY_MISSING, "has no tls.key"),
        ({"data": dict.fromkeys(KEYS["tcp"], "very-private!")}, HostReason.SECRET_INVALID, "decoded"),
    ],
)
def test_a_secret_that_can_not_be_used_says_what_to_do(changes: dict[str, Any], reason: HostReason, says: str) -> None:
    with pytest.raises(ClientCredentialsError) as refused:
        from_secret(secret("tcp") | changes, "tcp")
    assert refused.value.reason is reason
    assert says in refused.value.message
    assert "system/build-1" in refused.value.message
    assert PRIVATE not in refused.value.message
