"""The end of a sandbox on an engine: its relay and its container first, then its volumes, then its networks."""

import asyncio
from dataclasses import dataclass

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of_summary, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.names import identity_in, is_kept_by, is_owned, names_of, selector
from claude_sandbox.blueprint.model import Identity

# Seconds that processes get to end by themselves.
GRACE = 10
_CONTAINERS = (
    *(names.AGENT, names.HELPER, names.RELAY, names.GATEWAY, names.PROBE, names.CLONER, names.BACKUP),
    *(names.HOLDER, names.BACKUP_WAY, names.CANARY, names.CHECKPOINT),
)
_NETWORKS = (names.NETWORK, names.OUTER, names.GATEWAY_NETWORK, names.BACKUP_NETWORK)


@dataclass(frozen=True)
class Removal:
    """What became of it. Not `done`: `problem` says why, and it is to be tried again."""

    done: bool
    removed: tuple[str, ...] = ()
    problem: str = ""


async def remove(engine: Engine, cluster: str, identity: Identity, *, retain: bool) -> Removal:
    """Remove what belongs to the sandbox, and unless they are to be kept its workspace and home.

    Never raises EngineError.
    Only what carries all its labels under its own names goes, or, for containers, what carries them under any name.
    """
    removed: list[str] = []
    try:
        await _remove(engine, cluster, identity, retain, removed)
    except EngineError as error:
        return Removal(False, tuple(removed), str(error))
    return Removal(True, tuple(removed))


async def orphans(engine: Engine, cluster: str, living: frozenset[str]) -> tuple[Identity, ...]:
    """The sandboxes that have a container, a network or a volume of their own here and are not among the living UIDs.

    What was kept makes no orphan: it waits for the next sandbox of its name. Raises EngineError.
    """
    wanted = selector(cluster)
    found: list[Object] = [
        *await engine.containers(wanted),
        *await engine.networks(labels=wanted),
        *await engine.volumes(labels=wanted),
    ]
    owners = (
        identity_in(labels(live), cluster)
        for live in found
        if labels(live).get(names.LABEL_COMPONENT) not in names.KEPT
    )
    return tuple(dict.fromkeys(owner for owner in owners if owner is not None and owner.uid not in living))


async def workspaces(engine: Engine, cluster: str) -> tuple[tuple[str, str, str], ...]:
    """The volumes that are workspaces or homes, with name and UID of the namespace that each is of. Raises EngineError.

    The UID is empty of those that were made before any was noted.
    """
    all_of_cluster = await engine.volumes(labels=selector(cluster))
    found = [live for live in all_of_cluster if labels(live).get(names.LABEL_COMPONENT) in names.KEPT]
    owners = ((str(live["Name"]), identity_in(labels(live), cluster)) for live in found)
    return tuple((name, owner.namespace, owner.namespace_uid) for name, owner in owners if owner is not None)


async def _remove(engine: Engine, cluster: str, identity: Identity, retain: bool, removed: list[str]) -> None:
    called = names_of(cluster, identity)
    for summary in await engine.containers(selector(cluster, identity)):
        if any(is_owned(summary, cluster, identity, one) for one in _CONTAINERS):
            if running(summary):
                await _stop(engine, str(summary["Id"]))
            # Containers before volumes and networks: an engine removes neither while a container has it.
            await engine.remove_container(str(summary["Id"]))
            removed.append(f"Container {name_of_summary(summary)}")
    volumes = []
    for live in await engine.volumes(called=(*called.all_volumes, called.checkpoint)):
        # By name and labels both: a name alone may be taken by anybody who has the engine, and labels can be copied.
        mine = any(is_owned(live, cluster, identity, one) for one in names.OWN_VOLUMES)
        what = called.kept.get(live["Name"])
        kept = what is not None and is_kept_by(live, cluster, identity, what)
        if mine or (kept and not retain):
            volumes.append(str(live["Name"]))
    await asyncio.gather(*(_remove_volume(engine, name, removed) for name in volumes))
    for network in await engine.networks(labels=selector(cluster, identity)):
        if any(is_owned(network, cluster, identity, one) for one in _NETWORKS):
            await remove_network(engine, str(network["Id"]))
            removed.append(f"Network {network['Name']}")


async def _stop(engine: Engine, container: str) -> None:
    try:
        await engine.stop(container, GRACE)
    except EngineError as error:
        # Somebody was faster, which is as good.
        if not error.is_not_found:
            raise


async def _remove_volume(engine: Engine, name: str, removed: list[str]) -> None:
    await engine.remove_volume(name)
    removed.append(f"Volume {name}")


async def remove_network(engine: Engine, network: str) -> None:
    """Remove a network; where somebody else joined it, it is emptied first. Raises EngineError."""
    try:
        await engine.remove_network(network)
    except EngineError:
        for member in (await engine.network(network) or {}).get("Containers") or {}:
            await engine.disconnect(network, member)
        await engine.remove_network(network)
