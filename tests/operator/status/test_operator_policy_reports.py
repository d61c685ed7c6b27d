"""Reports as objects, by the operator as a process, with the rights that an installation gives it and no others."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from limited import account, withdraw
from world import World

from claude_sandbox.install.manifests import Installation
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.resources import POLICY_REPORTS
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

PATIENCE = 120.0


@pytest.fixture(autouse=True)
async def no_rights_stay(api: Api) -> AsyncIterator[None]:
    """No test gives the next one rights."""
    yield
    await withdraw(api)


async def reports(api: Api, namespace: str, *names: str) -> dict[str, Obj]:
    """Those of the namespace, once there are those of just these sandboxes."""
    until = time.monotonic() + PATIENCE
    wanted = {f"sandbox-{name}" for name in names}
    while True:
        listed = (await api.list(POLICY_REPORTS, namespace)).items
        found = {one["metadata"]["name"]: one for one in listed}
        if found.keys() == wanted:
            return found
        assert time.monotonic() < until, (sorted(found), wanted)
        await asyncio.sleep(0.2)


def passing(report: Obj) -> set[str]:
    return {one["rule"] for one in report["results"] if one["result"] == "pass"}


def told(sandbox: dict[str, Any] | None) -> set[str]:
    assert sandbox is not None
    return {one for group in sandbox["status"]["compliance"]["passed"] for one in group["controls"]}


async def test_each_sandbox_has_a_report_as_long_as_it_is_there_and_it_costs_nothing_at_rest(
    world: World, api: Api, ground: Cluster
) -> None:
    installation = Installation(namespaces=(world.namespace,), policy_reports="Auto")
    await world.log_in(await account(api, ground, installation))
    operator = world.operator("--policy-reports=Auto")
    await operator.start()
    for name in ("alice", "bob"):
        await world.create(name)
        await world.ready(name)
        await world.said(name, "CredentialsCurrent", "True", "KeyMounted")
        await world.said(name, "Compliant", "True")
    found = await reports(api, world.namespace, "alice", "bob")
    until = time.monotonic() + PATIENCE
    while passing(found["sandbox-alice"]) != told(world.sandbox("alice")):
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
        found = await reports(api, world.namespace, "alice", "bob")
    counted = await operator.metrics()
    assert counted['claudesandbox_report_writes_total{result="written"}'] >= 2
    assert counted["claudesandbox_reports_not_written"] == 0
    # At rest, and after a restart, nothing is written.
    await operator.crash()
    written = len(world.gate.writes)
    await operator.start()
    await operator.has_looked(2)
    await asyncio.sleep(5)
    assert world.gate.writes[written:] == []
    assert await reports(api, world.namespace, "alice", "bob") == found
    # It goes with its sandbox, by the garbage collector: the operator has no right to delete it.
    await world.delete("alice")
    await reports(api, world.namespace, "bob")


async def test_without_its_rights_sandboxes_are_looked_after_all_the_same(
    world: World, api: Api, ground: Cluster
) -> None:
    await world.log_in(await account(api, ground, Installation(namespaces=(world.namespace,))))
    operator = world.operator("--policy-reports=PolicyReports")
    await operator.start()
    await world.create("alice")
    await world.ready("alice")
    await world.said("alice", "Compliant", "True")
    assert (await api.list(POLICY_REPORTS, world.namespace)).items == []
    until = time.monotonic() + PATIENCE
    while "policyreports.wgpolicyk8s.io is forbidden" not in operator.said():
        assert time.monotonic() < until, operator.said()
        await asyncio.sleep(0.2)
    while (await operator.metrics()).get("claudesandbox_reports_not_written") != 1:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
