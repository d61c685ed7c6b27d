"""The operator is killed at its k-th write while a newer image is tried beside the workload, for every k.

Whoever comes next goes on with the trial or begins it anew. At no time are there two, the workload stays the same for
as long as the trial lasts, and nothing of it is left.
"""

import itertools
from typing import Any

import pytest
from gate import Gate
from image_registry import ImageRegistry
from kubelet import Kubelet
from striking import Variant, survive
from tagged import BESIDE, CANARY, ENDS, OURS, Policies, Tag, image_of, signed_by
from world import World

from claude_sandbox.kubernetes_api import resources as r

# It takes minutes: the operator starts anew after each write.
pytestmark = [pytest.mark.controlplane, pytest.mark.slow, pytest.mark.timeout(1800)]

BOTH = [pytest.param(Gate.kill_after, id="after"), pytest.param(Gate.kill_before, id="before")]
PATIENT = {**BESIDE, "healthGate": {"readyWithin": "90s", "stableFor": "1s"}}


@pytest.mark.parametrize("kill", BOTH)
@pytest.mark.parametrize("works", [True, False], ids=["works", "crashes"])
async def test_killed_while_a_newer_image_is_tried(
    world: World, kubelet: Kubelet, registry: ImageRegistry, policies: Policies, kill: Variant, works: bool
) -> None:
    tag = Tag(world, kubelet, registry)
    now = tag.push("first")
    await policies.make(**signed_by(registry, OURS))
    operator = world.operator("--image-check-interval=1")
    await operator.start()
    await world.create("alice", image={"repository": f"{registry.host}/a", "tag": "1"}, updatePolicy=PATIENT)
    await tag.runs(now)
    uid = workload(world)
    struck: list[str] = []
    for number in itertools.count(1):
        pushed: list[str] = []

        async def push(pushed: list[str] = pushed, mark: str = f"n{number}") -> None:
            pushed.append(tag.push(mark, state=None if works else ENDS))

        def settled(pushed: list[str] = pushed, before: str = now) -> bool:
            last, digest = tag.said.get("last") or {}, pushed[0] if works else before
            wanted = ("Rolled" if works else "NotRolled", pushed[0])
            runs = image_of(world, "alice") == f"{registry.host}/a:1@{digest}" and world.is_ready("alice")
            return (last.get("result"), last.get("to")) == wanted and runs and not left(world)

        hit = await survive(world, operator, kill(world.gate, operator.kill), number, push, settled)
        found = workload(world)
        assert (found != uid) == works
        now, uid = pushed[0] if works else now, found
        if not hit:
            break
        struck.append(str(world.gate.struck))
    print(struck)
    assert len(struck) >= (8 if works else 6), struck
    assert any("POST" in one and "pods" in one for one in struck), struck
    assert world.heals("alice") == 0
    one_at_a_time(world)
    world.assert_always_isolated()


def workload(world: World) -> str:
    return str((world.child(r.PODS, "alice") or {})["metadata"]["uid"])


def left(world: World) -> list[str]:
    """Of what was tried."""
    return [one for one in world.leftovers() if CANARY in one]


def one_at_a_time(world: World) -> None:
    """Each trial's pod was made after the one before it was gone, and the workload's none while there was one."""
    tried: dict[str, Any] = {}
    for past in world.ledger.history():
        if past.kind != "Pod":
            continue
        if past.name == CANARY:
            assert past.type == "DELETED" or set(tried) <= {past.obj["metadata"]["uid"]}
            tried = {} if past.type == "DELETED" else {past.obj["metadata"]["uid"]: past.obj}
        elif past.type == "ADDED":
            # It may still be ending where the workload is made: what is about to end is no trial any more.
            assert all("deletionTimestamp" in one["metadata"] for one in tried.values())
