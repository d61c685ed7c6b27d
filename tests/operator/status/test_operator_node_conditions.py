"""A node that is short of something takes no pods: of the sandboxes on it that is written once, and once its end."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from kubelet import Kubelet
from world import World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.probe import VERSION
from claude_sandbox.probe.kernel import ATTEMPTS

# Half a minute of probes; what is told of one that was cut short has tests without a server.
pytestmark = [pytest.mark.controlplane, pytest.mark.slow]

IMAGE = "probe.example/operator:1"
PROBING = ("--pod-probe-interval=2", f"--gateway-image={IMAGE}")
ROUNDS = 4
"""Probes of a sandbox that are seen: so many in a row may each find, or not find, another thing."""


class Node(Kubelet):
    """Runs probes and their controls to their end; `short` of room, it refuses them, or ends them early, in turn."""

    def __init__(self, api: Api, node: str) -> None:
        super().__init__(api, node)
        self.short = False
        self.probes = 0
        self._cut = itertools.cycle([_refused, _evicted])

    async def _look(self, pod: Obj) -> None:
        name, going = str(pod["metadata"]["name"]), "deletionTimestamp" in pod["metadata"]
        if going or not name.startswith((meta.PROBE_PREFIX, "control-")):
            await super()._look(pod)
        elif (pod.get("status") or {}).get("phase") == "Pending":
            self.probes += name.startswith(meta.PROBE_PREFIX)
            await self.write(pod, next(self._cut)() if self.short else _ended(pod))

    async def is_short(self, *, now: bool) -> None:
        """What its kubelet says of it, whereupon the node controller taints it, or takes the taint away."""
        self.short = now
        reason = "KubeletHasDiskPressure" if now else "KubeletHasNoDiskPressure"
        said = {"type": "DiskPressure", "status": str(now), "reason": reason}
        node = await self._api.get(r.NODES, self.node)
        conditions = [one for one in node["status"]["conditions"] if one["type"] != said["type"]] + [said]
        await self._api.patch_status(r.NODES, self.node, None, {"conditions": conditions}, field_manager="kubelet")

    async def saw(self, count: int) -> None:
        """Wait for so many further probes."""
        wanted = self.probes + count
        async with asyncio.timeout(60):
            while self.probes < wanted:  # noqa: ASYNC110 - only the watch tells
                await asyncio.sleep(0.1)


def _refused() -> dict[str, Any]:
    """In the kubelet's own words (pkg/kubelet/eviction)."""
    message = "Pod was rejected: The node had condition: [DiskPressure]. "
    return {"phase": "Failed", "reason": "Evicted", "message": message}


def _evicted() -> dict[str, Any]:
    message = "The node was low on resource: ephemeral-storage. "
    return {"phase": "Failed", "reason": "Evicted", "message": message, **_container(137, "")}


def _ended(pod: Obj) -> dict[str, Any]:
    """Nothing of what is denied is reached from beside a sandbox, and from elsewhere all is."""
    asked = orjson.loads(pod["spec"]["containers"][0]["args"][0])["targets"]
    control = str(pod["metadata"]["name"]).startswith("control-")
    attempts = [["self", "connected", "", 0]]
    attempts += [[one["name"], "connected" if control or one["allowed"] else "timeout", "", 3000] for one in asked]
    kernel = [[name, "denied", "EPERM"] for name in ATTEMPTS]
    told = {"version": VERSION, "attempts": attempts, "open": 0, "kernel": kernel, "strict": []}
    return {"phase": "Succeeded", **_container(0, orjson.dumps(told).decode())}


def _container(code: int, message: str) -> dict[str, Any]:
    ended = {"name": "probe", "image": IMAGE, "imageID": IMAGE, "ready": False, "restartCount": 0}
    return {"containerStatuses": [ended | {"state": {"terminated": {"exitCode": code, "message": message}}}]}


def writes(world: World) -> int:
    """Of the sandboxes' statuses."""
    return sum(call.method == "PATCH" and "/claudesandboxes/" in call.path for call in world.gate.calls)


async def test_a_node_that_is_short_of_room_has_one_status_written_and_so_has_its_end(world: World, api: Api) -> None:
    await api.create(r.NAMESPACES, {"metadata": {"name": (controls := f"{world.namespace}-controls")}})
    node = f"short-{world.namespace}"
    cordon: Callable[[bool | None], Any] = lambda now: api.patch(  # noqa: E731
        r.NODES, "node-a", None, {"spec": {"unschedulable": now}}
    )
    await cordon(True)
    try:
        async with Node(api, node) as own:
            await world.operator(*PROBING, f"--probe-control-namespace={controls}").start()
            await world.create("alice")
            await world.ready("alice")
            await world.said("alice", "IsolationVerified", "True")
            await own.saw(ROUNDS)
            at_rest = writes(world)
            # A taint alone is no matter to who runs already.
            taint = {"key": "by-hand", "value": "yes", "effect": "NoSchedule"}
            await api.patch(r.NODES, node, None, {"spec": {"taints": [taint]}})
            await own.saw(ROUNDS)
            assert writes(world) == at_rest
            await own.is_short(now=True)
            told = await world.said("alice", "IsolationVerified", "Unknown", "NotProbed")
            assert "did not run to its end: Evicted" in told["message"]
            await own.saw(ROUNDS)
            assert writes(world) == at_rest + 1
            await own.is_short(now=False)
            await world.said("alice", "IsolationVerified", "True")
            await own.saw(ROUNDS)
            assert writes(world) == at_rest + 2
    finally:
        await cordon(None)
        await api.delete(r.NODES, node)
        await api.delete(r.NAMESPACES, controls)
