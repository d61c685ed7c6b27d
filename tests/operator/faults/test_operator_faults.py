"""The API server and etcd die, watches break, are refused or lose events: it converges, by itself."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from invariants import violations
from oracle import complaints
from world import PORTS, World
from worlds import Worlds

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.localcluster import cluster, components
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane


async def _well(world: World, *names: str, patience: float = 90.0) -> None:
    for name in names:
        await world.ledger.until(
            lambda name=name: world.is_ready(name) and not complaints(world.ledger, name),
            f"{name} as its spec says",
            patience,
        )


@pytest.fixture
async def whole(ground: Cluster) -> AsyncIterator[Cluster]:
    """The cluster, whose components a test may kill."""
    yield ground
    for component in ("etcd", "kube-apiserver"):
        if components.running(ground.layout, component) is None:
            await asyncio.to_thread(cluster.restart, ground, component)


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
async def test_the_server_dies_while_sandboxes_are_made_changed_and_deleted(
    world: World, whole: Cluster, component: str
) -> None:
    operator = world.operator()
    await operator.start()
    for name in ("kept", "changed", "deleted"):
        await world.create(name, **PORTS)
    await _well(world, "kept", "changed", "deleted")
    written = len(world.gate.writes)
    await asyncio.gather(
        *(world.create(f"new-{number}", **PORTS) for number in range(5)),
        world.edit("changed", network={"ports": []}),
        world.delete("deleted"),
        world.asked(lambda: len(world.gate.writes) > written + 5, "writes in the midst of which the server dies"),
    )
    await asyncio.to_thread(cluster.kill, whole, component)
    await asyncio.to_thread(cluster.restart, whole, component)
    await _well(world, "kept", "changed", *(f"new-{number}" for number in range(5)))
    await world.ledger.until(lambda: not world.owned_by("deleted"), "nothing left of what was deleted")
    assert operator.alive
    await world.change(r.NETWORK_POLICIES, "sandbox-kept", {"spec": {"egress": [{}]}})
    await world.healed("kept", 0)
    assert violations(world.ledger.history()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_server_is_away_for_longer_than_any_patience(world: World, whole: Cluster) -> None:
    operator = world.operator("--resync=20")
    await operator.start()
    await world.create("alice", **PORTS)
    await _well(world, "alice")
    await asyncio.to_thread(cluster.kill, whole, "kube-apiserver")
    await asyncio.sleep(75)  # the fault itself, not a wait for something
    assert operator.alive
    await asyncio.to_thread(cluster.restart, whole, "kube-apiserver")
    await world.create("bob", **PORTS)
    await _well(world, "alice", "bob")
    assert operator.alive


async def _turmoil(world: World) -> None:
    """Changes of every kind, made while the operator hears badly or not at all."""
    await world.change(r.NETWORK_POLICIES, "sandbox-harmed", {"spec": {"egress": [{}]}})
    await world.delete("sandbox-robbed", r.SERVICE_ACCOUNTS)
    await world.delete("sandbox-ended", r.PODS)
    await world.delete("deleted")
    await world.edit("changed", network={"egress": {"allowedCIDRs": ["203.0.113.0/24"]}, "ports": []})
    await world.delete("replaced")
    await world.create("replaced", network={"egress": {"allowedCIDRs": ["198.51.100.0/24"]}})
    await world.create("new", **PORTS)
    await world.change_secret(b"another")


BEFORE = ("harmed", "robbed", "ended", "deleted", "changed", "replaced")
AFTER = ("harmed", "robbed", "ended", "changed", "replaced", "new")


async def _settled(world: World) -> None:
    await _well(world, *AFTER)
    await world.ledger.until(lambda: not world.owned_by("deleted"), "nothing left of what was deleted")
    for name in AFTER:
        await world.said(name, "CredentialsCurrent", "True", "KeyMounted")
    for name in ("harmed", "robbed", "ended"):
        # What was mended is there before the status says so.
        await world.healed(name, 0)
        assert world.heals(name) == 1
    for name in ("changed", "replaced", "new"):
        assert world.heals(name) == 0


async def _before(world: World, *options: str) -> None:
    await world.operator(*options).start()
    for name in BEFORE:
        await world.create(name, **PORTS)
    await _well(world, *BEFORE)


async def test_watches_are_cut_again_and_again(world: World) -> None:
    await _before(world)
    turmoil = asyncio.create_task(_turmoil(world))
    cuts = 0
    while not turmoil.done():
        cuts += world.gate.cut_watches() > 0
        async with asyncio.timeout(30):
            await world.gate.next_call()
    await turmoil
    assert cuts
    await _settled(world)


async def test_events_are_lost_and_the_watches_that_would_go_on_are_told_410(world: World) -> None:
    await _before(world)
    world.gate.tamper = lambda *_: None
    await _turmoil(world)
    streams = world.gate.streams
    world.gate.forget_before((await world.api.list(r.SANDBOXES, world.namespace)).resource_version)
    world.gate.cut_watches()
    world.gate.tamper = lambda _, line: line
    await world.asked(lambda: world.gate.expired >= streams, f"{streams} watches that were told 410")
    await _settled(world)


async def test_nothing_is_made_again_for_a_sandbox_whose_deletion_is_not_told(world: World) -> None:
    def deaf(path: str, line: bytes) -> bytes | None:
        return None if "/claudesandboxes?" in path and b'"type":"DELETED"' in line else line

    await world.operator().start()
    await world.create("alice", **PORTS, workspace={"type": "PersistentVolumeClaim", "size": "1Gi"})
    await _well(world, "alice")
    world.gate.tamper = deaf
    await world.delete("alice")
    await world.delete("sandbox-alice-workspace", r.PERSISTENT_VOLUME_CLAIMS)
    await world.gone()
    ours = [e for e in world.ledger.history() if e.name.startswith("sandbox-alice") and e.kind != "Event"]
    made = [event.kind for event in ours if event.type == "ADDED"]
    assert len(made) == len(set(made)) == 5
    world.assert_always_isolated()


async def test_nothing_is_made_for_an_earlier_sandbox_of_the_same_name(world: World) -> None:
    operator = world.operator()
    await operator.start()
    first = await world.create("alice", **PORTS)
    await _well(world, "alice")
    world.gate.tamper = lambda path, line: None if "/claudesandboxes?" in path else line
    operator.freeze()
    await world.delete("alice")
    await world.ledger.until(lambda: not world.owned_by("alice"), "the collector done")
    second = await world.create("alice", **PORTS)
    asked = len(world.gate.seen("GET", "/claudesandboxes/alice"))
    # When it wakes up it hears that everything is missing, and nothing of why.
    operator.thaw()
    await world.asked(lambda: len(world.gate.seen("GET", "/claudesandboxes/alice")) > asked, "a look at the sandbox")
    world.gate.tamper = lambda _, line: line
    world.gate.cut_watches()
    await _well(world, "alice")
    before = next(e.version for e in world.ledger.history() if e.type == "DELETED" and e.kind == "ClaudeSandbox")
    made = [e.obj["metadata"] for e in world.ledger.history() if e.type == "ADDED" and e.version > before]
    owners = {owner["uid"] for metadata in made for owner in metadata.get("ownerReferences") or ()}
    assert owners == {second["metadata"]["uid"]} != {first["metadata"]["uid"]}
    world.assert_always_isolated()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_it_is_not_ready_while_it_may_not_follow_the_sandboxes_and_goes_on_when_it_may(
    world: World, status: int
) -> None:
    operator = world.operator()
    await operator.start()
    await world.create("alice", **PORTS)
    await _well(world, "alice")
    world.gate.answer("GET", "/claudesandboxes?", status, times=10**6)
    world.gate.cut_watches()
    said = await operator.is_not_ready("/claudesandboxes")
    assert "[-]sandboxes failed: " in said
    assert f"is answered with {status}" in said
    await world.create("bob", **PORTS)
    world.gate.faults.clear()
    await _well(world, "bob")
    await operator.is_up()
    log = operator.said()
    assert log.count("ClaudeSandboxes can't be followed") == log.count("ClaudeSandboxes can be followed again") == 1


@pytest.mark.parametrize("seed", range(2))
async def test_half_of_all_events_are_lost(world: World, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    await _before(world, "--resync=1")
    world.gate.tamper = lambda _, line: line if dice.random() < 0.5 else None
    await _turmoil(world)
    await _settled(world)


async def test_no_event_ever_arrives(world: World) -> None:
    world.gate.tamper = lambda *_: None
    await _before(world, "--resync=1")
    await _turmoil(world)
    await _settled(world)


async def test_two_namespaces_of_one_operator_do_not_wait_for_each_other(worlds: Worlds) -> None:
    first, second = await worlds(), await worlds()
    await first.operator(f"--namespace={second.namespace}").start()
    # Whatever is written into the first namespace is refused: its sandboxes fail and are tried again and again.
    first.gate.answer("POST", f"/namespaces/{first.namespace}/", 500, times=10**6)
    for number in range(30):
        await first.create(f"stuck-{number}")
    await second.create("alice", **PORTS)
    await second.ready("alice")
    await first.said("stuck-0", "Reconciling", "True", "Retrying")
