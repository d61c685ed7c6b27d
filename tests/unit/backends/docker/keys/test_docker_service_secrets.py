"""Which Secrets give a service's credential on Docker: the same as the gateway itself takes in a cluster."""

import base64
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.docker.keys.service_secrets import credential_in
from claude_sandbox.gateway.config.cluster import ServiceSecret
from claude_sandbox.gateway.kubernetes.credentials import read


def secret(kind: str, labels: dict[str, str], host: str, text: str) -> dict[str, Any]:
    data = {"host": host, "token": text}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "k", "resourceVersion": "1", "labels": labels}, "type": kind, "data": encoded}


@pytest.mark.parametrize("kind", [meta.SERVICE_SECRET_TYPE, meta.SECRET_TYPE, "Opaque"])
@pytest.mark.parametrize(
    "labels", [{}, {meta.SERVICE_SECRET_TYPE: "true"}, {meta.LABEL_SECRET_OPT_IN: "true"}], ids=str
)
@pytest.mark.parametrize("host", ["a.example.org", "https://A.example.org/", "b.example.org", "a.example.org:8443", ""])
@pytest.mark.parametrize("text", ["t\n", ""])
def test_both_backends_take_the_same(kind: str, labels: dict[str, str], host: str, text: str) -> None:
    one = secret(kind, labels, host, text)
    found = credential_in(one, "token", "a.example.org:443")
    in_a_cluster = read(one, ServiceSecret("k", "token", "a.example.org")).text
    assert (found.decode().strip() if found is not None else None) == in_a_cluster


def test_without_the_key_there_is_none() -> None:
    one = secret(meta.SERVICE_SECRET_TYPE, {}, "a.example.org", "t")
    assert credential_in(one, "other", "a.example.org") is None
    one["data"]["token"] = "?"
    assert credential_in(one, "token", "a.example.org") is None
