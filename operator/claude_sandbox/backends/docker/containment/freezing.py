"""No way in or out, and nothing goes on: a sandbox's containers are paused, and on no network.

Theory of operation. Nothing is held: what is to be done is found by looking, each time. First all containers of the
sandbox are paused, at the same time, whatever they are called; a process can't refuse that, or see it coming. Then all
of them leave all their networks: what a frozen gateway had taken is in the kernel's buffers, and the kernel goes on
sending it. What was open stays open and leads nowhere, so that it can still be seen who it was open to. Then it is
looked at once more, and only that look says that it is contained.

Where an engine can't pause (a rootless one without the freezer), the container is killed once it is cut off: what was
in its memory is lost, and an Event says so. A crash at any point leaves less going on than before; the next pass goes
on from there.
"""

import asyncio
from collections.abc import Iterable

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.backends.containment import Containment, as_file
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of_summary
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import is_owned, selector
from claude_sandbox.blueprint.model import Identity

PARTS = (names.AGENT, names.CLONER, names.GATEWAY, names.RELAY, names.HOLDER)
"""What goes on of a sandbox. Helpers and probes end by themselves, and nothing of the agent is in them."""
FOUND = "containers-before.json"
"""The file of evidence with what was listed before anything was done."""


async def containers(engine: Engine, cluster: str, identity: Identity) -> list[Object]:
    """The sandbox's own, under whatever name. Raises EngineError."""
    found = await engine.containers(selector(cluster, identity))
    return [one for one in found if any(is_owned(one, cluster, identity, part) for part in PARTS)]


async def contain(engine: Engine, cluster: str, identity: Identity) -> Containment:
    """Freeze the sandbox and cut it off. Raises EngineError where the engine can't be asked."""
    before = await containers(engine, cluster, identity)
    if not before:
        return Containment(ConditionStatus.TRUE, "it has no container", vanished=True)
    did: list[str] = []
    # At the same time: the one that is frozen last could still act upon seeing the others stop.
    await asyncio.gather(*(_freeze(engine, one, did) for one in before if one.get("State") not in _STILL))
    await asyncio.gather(*(_leave(engine, one, name, did) for one in before for name in _networks(one)))
    if not did:
        return _judged(before, ())
    after = await containers(engine, cluster, identity)
    unfrozen = [one for one in after if one.get("State") not in _STILL]
    # Last: what was in its memory, which is evidence, is lost with it.
    if unfrozen:
        await asyncio.gather(*(_kill(engine, one, did) for one in unfrozen))
        after = await containers(engine, cluster, identity)
    seen = _judged(after, did)
    found = {FOUND: as_file(before)}
    return Containment(seen.status, seen.message, tuple(did), found)


async def release(engine: Engine, cluster: str, identity: Identity) -> None:
    """Remove what was frozen, without its going on for a moment. Raises EngineError."""
    for one in await containers(engine, cluster, identity):
        # By force: what is asked to stop is thawed first, and goes on until it has.
        await engine.remove_container(str(one["Id"]))


_STILL = ("paused", "exited", "created", "dead", "removing")


def _judged(found: Iterable[Object], did: Iterable[str]) -> Containment:
    going = [name_of_summary(one) for one in found if one.get("State") not in _STILL]
    joined = [
        f"{name_of_summary(one)} is on network {name}"
        for one in found
        if one.get("State") == "paused"
        for name in _networks(one)
    ]
    if going or joined:
        problems = [f"{name} is not frozen" for name in going] + joined
        return Containment(ConditionStatus.FALSE, "; ".join(problems), tuple(did))
    states = sorted({f"{_part(one)} {one.get('State')}" for one in found})
    return Containment(ConditionStatus.TRUE, f"{', '.join(states)}; on no network", tuple(did))


def _part(summary: Object) -> str:
    return str(labels(summary).get(names.LABEL_COMPONENT))


def _networks(summary: Object) -> list[str]:
    """Those that a container is on; one that has none at all is on `none`, which leads nowhere."""
    found = (summary.get("NetworkSettings") or {}).get("Networks") or {}
    return [str(name) for name in found if name != "none"]


async def _freeze(engine: Engine, one: Object, did: list[str]) -> None:
    try:
        await engine.pause(str(one["Id"]))
        did.append(f"froze {name_of_summary(one)}")
    except EngineError as error:
        if error.is_unreachable:
            raise
        # It has ended meanwhile, or the engine can't: the next look tells.
        did.append(f"could not freeze {name_of_summary(one)}: {error}")


async def _leave(engine: Engine, one: Object, network: str, did: list[str]) -> None:
    try:
        await engine.disconnect(network, str(one["Id"]))
        did.append(f"took {name_of_summary(one)} off {network}")
    except EngineError as error:
        if error.is_unreachable:
            raise
        did.append(f"could not take {name_of_summary(one)} off {network}: {error}")


async def _kill(engine: Engine, one: Object, did: list[str]) -> None:
    try:
        await engine.stop(str(one["Id"]), 0)
        did.append(f"killed {name_of_summary(one)}, which could not be frozen")
    except EngineError as error:
        if error.is_unreachable:
            raise
        did.append(f"could not kill {name_of_summary(one)}: {error}")
