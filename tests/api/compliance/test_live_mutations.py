"""Each thing that can be wrong with a pod, with one that a real API server has made: it fails what it is about.

The table of what can be wrong is that of the controls' own tests, which breaks documents. Here an API server takes the
broken pod, policies and Services, fills in what it fills in, and what it answers is judged. What it refuses can't come
to be by it: that is seen too, so that nobody takes the table for more than it is. docs/reference/mutations.md says
which are which.
"""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from compliant_sandbox import World, changed, compliant
from test_pod_mutations import MUTATIONS
from tests.conformance.mutations import DIFFERENT, REFUSED, SHARES_THE_NODES_USERS

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

# As the compliant sandbox's pod has it.
PLACE = "agents"
Object = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    """A namespace that lets everything in."""
    async with Api(from_kubeconfig(str(control_plane.kubeconfig), None)) as api:
        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLACE, "labels": labels}}
        await api.apply(NAMESPACES, space)
        for name in ("sandbox-alice", "builder", "default"):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": PLACE}}
            await api.apply(SERVICE_ACCOUNTS, account)
        runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}}
        await api.apply(RUNTIME_CLASSES, {**runtime, "handler": "runsc"})
        yield api
        await api.delete(RUNTIME_CLASSES, "gvisor")
        await api.delete(NAMESPACES, PLACE)


async def made(api: Api, resource: Resource, wanted: Object) -> Object:
    """What the server makes of an object; and it is gone again. Raises ApiError."""
    manifest: Object = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(wanted)}
    manifest["metadata"] = {**manifest["metadata"], "namespace": PLACE}
    # What a node reports, which there is none of here.
    status = manifest.pop("status", None)
    live = await api.create(resource, manifest, PLACE)
    await api.delete(resource, live["metadata"]["name"], PLACE, grace_seconds=0)
    return live if status is None else {**live, "status": status}


async def live(api: Api, world: World) -> World:
    """The same, with what is another than in the compliant one as the server has it. Raises ApiError."""
    plain = compliant()
    if world.pod != plain.pod:
        world.pod = await made(api, PODS, world.pod)
    for resource, theirs, before in (
        (NETWORK_POLICIES, world.policies, plain.policies),
        (SERVICES, world.services, plain.services),
    ):
        for place, one in enumerate(theirs):
            if place >= len(before) or one != before[place]:
                theirs[place] = await made(api, resource, one)
    return world


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", MUTATIONS)
async def test_what_is_wrong_with_a_live_pod_fails_what_it_is_about(api: Api, name: str) -> None:
    mutate, failing = MUTATIONS[name]
    world, expected = changed(mutate), DIFFERENT.get(name, failing)
    if name in SHARES_THE_NODES_USERS:
        # Only such a pod may be so; of which there is a control.
        del world.spec["hostUsers"]
        expected = f"{expected} PRIV-06"
    if name in REFUSED:
        with pytest.raises(ApiError):
            await live(api, world)
        return
    found = findings((await live(api, world)).evidence())
    assert {one.control.id for one in found if one.result is Result.FAIL} == set(expected.split())
