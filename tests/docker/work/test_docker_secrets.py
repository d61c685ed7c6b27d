"""The key is read from a real API server, at the moment that it is needed, and only where that is allowed."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.keys.delivery import KeyUnavailableError
from claude_sandbox.backends.docker.keys.secrets import SecretKeys
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import NAMESPACES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

IDENTITY = Identity("docker-secrets", "alice", "1")


@pytest.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane.kubeconfig))) as api:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": IDENTITY.namespace}}
        known = {live["metadata"]["name"] for live in (await api.list(NAMESPACES)).items}
        if IDENTITY.namespace not in known:
            await api.create(NAMESPACES, namespace)
        yield api


async def secret(api: Api, name: str, kind: str = meta.SECRET_TYPE, **data: bytes) -> dict[str, Any]:
    encoded = {key.replace("_", "-"): base64.b64encode(value).decode() for key, value in data.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded}
    return dict(await api.create(SECRETS, body, IDENTITY.namespace))


async def allowed(identity: Identity, name: str, key: str) -> KeyState:
    return KeyState(generation="from-a-watch")


async def test_the_bytes_and_the_generation_are_of_one_reading(api: Api) -> None:
    made = await secret(api, "one", api_key=b"the-key\n")
    key = await SecretKeys(api, allowed).read(IDENTITY, "one", "api-key")
    assert key.value == b"the-key\n"
    assert key.generation == made["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        ({"other": b"something"}, "two", Reason.SECRET_KEY_MISSING),
        ({"api_key": b" \n"}, "three", Reason.SECRET_KEY_MISSING),
        (None, "nowhere", Reason.SECRET_NOT_FOUND),
    ],
)
async def test_what_is_missing_is_said(api: Api, data: dict[str, bytes] | None, name: str, reason: Reason) -> None:
    if data is not None:
        await secret(api, name, **data)
    with pytest.raises(KeyUnavailableError) as refused:
        await SecretKeys(api, allowed).read(IDENTITY, name, "api-key")
    assert refused.value.reason is reason
    assert name in str(refused.value)
    assert "something" not in str(refused.value)


async def test_a_secret_that_has_not_opted_in_is_not_read(api: Api) -> None:
    await secret(api, "four", "Opaque", api_key=b"the-key")

    async def refused(identity: Identity, name: str, key: str) -> KeyState:
        return KeyState(problem=Reason.SECRET_NOT_OPTED_IN, message="it has not opted in")

    with pytest.raises(KeyUnavailableError, match="opted in"):
        await SecretKeys(api, refused).read(IDENTITY, "four", "api-key")


async def test_it_is_the_document_that_was_read_that_has_to_have_opted_in(api: Api) -> None:
    """What was seen before may be of another Secret of the name, which somebody else has made since."""
    await secret(api, "five", "Opaque", api_key=b"somebody-elses")
    with pytest.raises(KeyUnavailableError) as refused:
        await SecretKeys(api, allowed).read(IDENTITY, "five", "api-key")
    assert refused.value.reason is Reason.SECRET_NOT_OPTED_IN


async def test_an_administrators_word_for_it_counts_where_its_own_is_not_followed(api: Api) -> None:
    await secret(api, "six", "Opaque", api_key=b"the-key")

    async def listed(identity: Identity, name: str, key: str) -> KeyState:
        return KeyState()

    assert (await SecretKeys(api, listed).read(IDENTITY, "six", "api-key")).value == b"the-key"
