"""When a Secret's data was written last, by a real API server's word: a label is another version, and no other data."""

import asyncio

import pytest

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import opted_in
from claude_sandbox.gateway.config.cluster import SecretKey
from claude_sandbox.gateway.kubernetes.credentials import read
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane
NAME = "written-last"


async def test_operator_and_gateway_hear_that_the_key_is_the_same_after_somebody_wrote_a_label(
    control_plane: Cluster,
) -> None:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    body = {"metadata": {"name": NAME}, "type": meta.SECRET_TYPE, "stringData": {"api-key": "not-a-real-key"}}
    async with Api(credentials, user_agent="tests") as writer:
        first = await writer.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", **body}, "default")
        try:
            # Times have seconds: of two writes in one, nothing tells.
            await asyncio.sleep(1.1)
            label = {"metadata": {"labels": {"team": "red"}}}
            await writer.patch(SECRETS, NAME, "default", label, field_manager="kubectl-label")
            whole = await writer.get(SECRETS, NAME, "default")
            known = opted_in(await writer.get(SECRETS, NAME, "default", metadata_only=True))
        finally:
            await writer.delete(SECRETS, NAME, "default")
    found, before = read(whole, SecretKey(NAME, "api-key")), read(first, SecretKey(NAME, "api-key"))
    assert found.generation != before.generation
    assert found.changed == before.changed == known.changed
    assert found.changed is not None
