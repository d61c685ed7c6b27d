"""Which Secrets open services and repositories on Docker: the same as the gateway itself takes in a cluster."""

import base64
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.keys.gateway_secrets import git_credential, service_credential
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.gateway.config.cluster import GitSecret, ServiceSecret
from claude_sandbox.gateway.kubernetes.credentials import of_git, read
from claude_sandbox.gateway.services.declared import Unopened


def secret(kind: str, labels: dict[str, str], host: str, text: str) -> dict[str, Any]:
    data = {"host": host, "token": text}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "k", "resourceVersion": "1", "labels": labels}, "type": kind, "data": encoded}


@pytest.mark.parametrize("kind", [meta.SERVICE_SECRET_TYPE, meta.SECRET_TYPE, "Opaque"])
@pytest.mark.parametrize(
    "labels", [{}, {meta.SERVICE_SECRET_TYPE: "true"}, {meta.LABEL_SECRET_OPT_IN: "true"}], ids=str
)
@pytest.mark.parametrize(
    "host", ["a.example.org", "https://A.example.org/", "b.example.org", "a.example.org:8443", "a.example.org/a", ""]
)
@pytest.mark.parametrize(
    "text", ["t\n", "", "two words", "t" * 20_000, "\u00e9"], ids=["good", "empty", "words", "long", "other letters"]
)
def test_both_backends_take_the_same(kind: str, labels: dict[str, str], host: str, text: str) -> None:
    one = secret(kind, labels, host, text)
    found = service_credential(one, "token", "a.example.org:443")
    in_a_cluster = read(one, ServiceSecret("k", "token", "a.example.org"))
    taken = None if isinstance(found, Unopened) else found.decode().strip()
    assert taken == in_a_cluster.text
    # And why it is not taken is said in the same words.
    assert taken is not None or found is in_a_cluster.why


def test_without_the_key_there_is_none() -> None:
    one = secret(meta.SERVICE_SECRET_TYPE, {}, "a.example.org", "t")
    assert service_credential(one, "other", "a.example.org") is Unopened.NO_KEY
    one["data"]["token"] = "?"
    assert service_credential(one, "token", "a.example.org") is Unopened.NO_KEY


@pytest.mark.parametrize("kind", [meta.GIT_SECRET_TYPE, meta.SERVICE_SECRET_TYPE, "Opaque"])
@pytest.mark.parametrize("labels", [{}, {meta.GIT_SECRET_TYPE: "true"}, {meta.GIT_SECRET_TYPE: "false"}], ids=str)
@pytest.mark.parametrize(
    "data",
    [
        {"host": "git.example.org", "token": "t"},
        {"host": "git.example.org/team/", "username": "a", "password": "b c"},
        {"token": "t"},
        {"host": "git.example.org", "token": "t", "username": "a", "password": "b"},
        {"host": "git.example.org", "other": "t"},
        {},
    ],
    ids=str,
)
def test_both_backends_take_the_same_for_git(kind: str, labels: dict[str, str], data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    one = {"metadata": {"name": "k", "resourceVersion": "1", "labels": labels}, "type": kind, "data": encoded}
    in_a_cluster = read(one, GitSecret("k"))
    taken = git_credential(one)
    if taken is None:
        assert "has not opted in" in in_a_cluster.problem
        return
    found = of_git("k", {key: bytes(value) for key, value in taken.items()}, "1")
    assert (found.git, found.scope, found.problem) == (in_a_cluster.git, in_a_cluster.scope, in_a_cluster.problem)
    assert set(taken) <= {"host", "token", "username", "password"}


def test_what_is_read_is_in_no_repr_and_is_wiped() -> None:
    found = GatewayTexts({"issues": bytearray(b"secret")}, git={"git": {"token": bytearray(b"secret")}})
    assert "secret" not in repr(found)
    found.wipe()
    assert found.services["issues"] == found.git["git"]["token"] == bytes(6)
