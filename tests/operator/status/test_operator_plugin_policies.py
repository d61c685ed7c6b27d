"""Policies of a network plugin, followed by the operator as a process with the rights that an installation gives it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from limited import account, withdraw
from report_definitions import DEFINITIONS
from world import World

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import Installation
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PODS, Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

POLICIES = Resource("cilium.io", "v2", "ciliumnetworkpolicies", True, "CiliumNetworkPolicy")


@pytest.fixture(autouse=True)
async def served(api: Api) -> AsyncIterator[None]:
    """The kind, with whatever fields; no test gives the next one rights."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": POLICIES.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    names = {"kind": POLICIES.kind, "plural": POLICIES.plural, "singular": POLICIES.kind.lower()}
    spec = {"group": POLICIES.group, "names": names, "scope": "Namespaced", "versions": [version]}
    kinds = {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind}
    await api.apply(DEFINITIONS, {**kinds, "metadata": {"name": str(POLICIES)}, "spec": spec})

    async with asyncio.timeout(60):
        while not await is_listed(api):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    yield
    await api.delete(DEFINITIONS, str(POLICIES))
    await withdraw(api)


async def is_listed(api: Api) -> bool:
    try:
        await api.list(POLICIES)
    except ApiError:
        return False
    return True


def undecided(world: World, name: str) -> dict[str, str]:
    """The controls that such policies leave open, and why."""
    controls = ((world.sandbox(name) or {}).get("status") or {}).get("compliance", {}).get("controls", ())
    told = {one["id"]: one.get("message", "") for one in controls if one["result"] == "Unknown"}
    return {id: why for id, why in told.items() if "not evaluated" in why or "network plugin" in why}


def policy(name: str, **selector: Any) -> dict[str, Any]:
    spec = {"endpointSelector": selector, "egress": [{"toEntities": ["world"]}]}
    return {"apiVersion": POLICIES.api_version, "kind": POLICIES.kind, "metadata": {"name": name}, "spec": spec}


async def test_one_that_may_select_a_sandbox_leaves_its_network_open_until_it_is_gone(
    world: World, api: Api, ground: Cluster
) -> None:
    await world.log_in(await account(api, ground, Installation(namespaces=(world.namespace,), plugin_policies=True)))
    operator = world.operator("--plugin-policies")
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    await world.said("alice", "Compliant", "True")
    await api.create(POLICIES, policy("others", matchLabels={"app": "else"}), world.namespace)
    made = await api.create(POLICIES, policy("world"), world.namespace)
    await world.said("alice", "Compliant", "Unknown")
    message = "CiliumNetworkPolicy world may select the pod, and is not evaluated"
    found = undecided(world, "alice")
    assert {"NET-01", "NET-02", "NET-06"} <= found.keys()
    assert all(message in told and "others" not in told for told in found.values()), found
    assert message in (await world.said("alice", "IsolationVerified", "Unknown"))["message"]
    await api.delete(POLICIES, made["metadata"]["name"], world.namespace)
    await world.said("alice", "Compliant", "True")


async def probes(world: World, api: Api) -> set[str]:
    """The pods that try; none of them ends here, where no programs run."""
    found = (await api.list(PODS, world.namespace)).items
    return {one["metadata"]["name"] for one in found if one["metadata"]["name"].startswith(meta.PROBE_PREFIX)}


async def another_probe(world: World, api: Api, before: set[str]) -> set[str]:
    async with asyncio.timeout(60):
        while not (now := await probes(world, api)) or now & before:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return now


async def test_one_that_begins_to_select_a_sandbox_has_it_probed_soon_and_so_has_a_change_of_it(
    world: World, api: Api, ground: Cluster
) -> None:
    """As a NetworkPolicy has: what an earlier probe found says nothing of the network that there is now."""
    await world.log_in(await account(api, ground, Installation(namespaces=(world.namespace,), plugin_policies=True)))
    probing = ("--pod-probe-interval=3600", "--gateway-image=probe.example/operator:1")
    operator = world.operator("--plugin-policies", *probing)
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    first = await another_probe(world, api, set())
    made = await api.create(POLICIES, policy("world"), world.namespace)
    second = await another_probe(world, api, first)
    # That was the one policy that may select it: for one that can't, nothing is tried again.
    await api.create(POLICIES, policy("others", matchLabels={"app": "else"}), world.namespace)
    change = {"spec": {"egress": [{"toEntities": ["cluster"]}]}}
    await asyncio.sleep(1)
    assert await probes(world, api) == second
    await api.patch(POLICIES, made["metadata"]["name"], world.namespace, change)
    third = await another_probe(world, api, second)
    await api.delete(POLICIES, made["metadata"]["name"], world.namespace)
    await another_probe(world, api, third)


async def test_without_the_right_to_list_them_it_is_said_that_they_are_not_known(
    world: World, api: Api, ground: Cluster
) -> None:
    await world.log_in(await account(api, ground, Installation(namespaces=(world.namespace,))))
    operator = world.operator("--plugin-policies")
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    await world.said("alice", "Compliant", "Unknown")
    assert "the operator may not list ciliumnetworkpolicies.cilium.io" in undecided(world, "alice")["NET-02"]
