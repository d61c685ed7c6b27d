"""What has to be done so that the live objects become the desired ones. Pure.

The order is the fail-closed one: what is in the way goes first; then the network that leads nowhere and the volumes;
then what the container is on and made of; that it runs, with its key, comes last.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.engine.capabilities import EngineFacts
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of, running
from claude_sandbox.backends.docker.health import is_lost
from claude_sandbox.backends.docker.names import is_owned, is_workspace_of
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.backends.docker.relay import drift as relay_drift
from claude_sandbox.blueprint.model import Identity, Probe

CONTAINER, NETWORK, VOLUME = "Container", "Network", "Volume"
# A relay with its outer network: made and removed together.
RELAY = "Relay"


SETTINGS = "managed settings"


class Verb(Enum):
    """What is done to an object."""

    CREATE = "create"
    # Remove it, whatever is on it, and create it as it should be: networks and volumes can't be changed.
    REPLACE = "replace"
    REMOVE = "remove"
    UPDATE = "update the limits of"
    RENAME = "rename"
    CONNECT = "connect"
    DISCONNECT = "disconnect"
    UNPAUSE = "unpause"
    RESTART = "restart"
    # Settings and key first, then the container itself.
    START = "start"
    DELIVER = "deliver the key to"


@dataclass(frozen=True)
class Step:
    """One thing to do. `live` is what it was decided upon; `other` is the second party of a connection, by name."""

    verb: Verb
    cause: Cause
    kind: str
    name: str
    live: Object | None = None
    other: str = ""
    paths: tuple[str, ...] = ()
    # Repeated without bound it would be harmful: a workload that ends or drifts again at once.
    paced: bool = False
    # Of a repair: why it was needed, where the verb alone does not tell; one of `Healed`'s reasons.
    reason: str = ""
    # Of a removal: without a grace period.
    at_once: bool = False

    @property
    def brings_key(self) -> bool:
        """Whether it takes a helper container."""
        return self.verb in (Verb.START, Verb.RESTART, Verb.DELIVER)


@dataclass(frozen=True)
class Desired:
    """What a sandbox should have, and whether its container may run."""

    identity: Identity
    cluster: str
    facts: EngineFacts
    documents: Documents
    settings: str
    suspended: bool
    # Whether the key that a container needs is there, and which generation it is; None for not known.
    may_start: bool
    key_generation: str | None
    # Whether the key may certainly not be used any more: then nothing may run that has it.
    withdrawn: bool = field(default=False, kw_only=True)
    update: UpdateStrategyType
    liveness: Probe

    @property
    def ended(self) -> bool:
        """Whether nothing of it is to run."""
        return self.suspended or self.withdrawn


@dataclass(frozen=True)
class Inside:
    """What was delivered to a running container.

    `key_generation`: the operator's own word for the key that is in it, where what was read there is that very word;
    it is never what was read. `has_key`: whether any was delivered since its start. `settings` as they were read.
    """

    key_generation: str | None = None
    settings: str | None = None
    has_key: bool = False

    def is_current(self, generation: str | None) -> bool:
        """Whether the key of this generation is in it; where that is not known, whether any is."""
        return self.is_keyed and generation in (None, self.key_generation)

    @property
    def is_keyed(self) -> bool:
        """Whether any key was delivered."""
        return self.has_key or self.key_generation is not None


@dataclass(frozen=True)
class Observed:
    """The live objects under the sandbox's names, whoever made them, and those that have its labels."""

    container: Object | None = None
    # The document of the container's image; None where that is gone.
    image: Object | None = None
    # None for a container that does not run.
    inside: Inside | None = None
    network: Object | None = None
    volumes: Mapping[str, Object] = field(default_factory=dict)
    # Summaries of helper containers: of an earlier pass that did not end.
    helpers: tuple[Object, ...] = ()
    # The container and the outer network under the relay's name, whoever made them, and the relay's image. Only looked
    # for where the sandbox should have a relay, or may have something of one.
    relay: Object | None = None
    outer: Object | None = None
    relay_image: Object | None = None
    # Summaries of relays of the sandbox's under other names.
    other_relays: tuple[Object, ...] = ()
    # Names of other containers that carry the sandbox's labels.
    strays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Stages, each of which needs the one before it; the steps of a stage don't need each other."""

    stages: tuple[tuple[Step, ...], ...] = ()
    # Objects in the way that are not ours, as "Kind name".
    foreign: tuple[str, ...] = ()
    # In what the running container is not the desired one, and only a new one could be.
    drifted: tuple[str, ...] = ()
    spec_changed: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage)


def plan(desired: Desired, observed: Observed, past: Past) -> Plan:
    """What to do, and why."""
    foreign = tuple(_foreign(desired, observed))
    missing = Cause.HEAL if past.provisioned else Cause.PROVISION
    differs = Cause.HEAL if past.settled else Cause.UPDATE
    live = observed.container
    ours = live if live is not None and _is_agent(desired, live) else None
    changed = ours is not None and is_outdated(desired, ours)
    paths = _drifted(desired, observed, ours, changed) if ours is not None else ()
    removal = _removal(desired, ours, changed, paths, past)
    blocked = bool(foreign) or desired.ended
    stages: list[tuple[Step, ...]] = [
        tuple(
            Step(Verb.REMOVE, Cause.PROVISION, CONTAINER, name_of_summary(helper), helper)
            for helper in (*observed.helpers, *observed.other_relays)
        ),
        removal,
        (
            *_network(desired, observed, ours, (missing, differs), foreign),
            *_volumes(desired, observed, (missing, differs), foreign, free=ours is None or bool(removal)),
        ),
    ]
    if ours is not None and not removal:
        stages += _live(desired, observed, ours, differs, past, foreign)
    elif not blocked and desired.may_start:
        made = Cause.HEAL if past.ran and past.settled and live is None else Cause.PROVISION
        name = desired.documents.names.container
        stages.append((Step(Verb.CREATE, made, CONTAINER, name),))
        stages.append((Step(Verb.START, Cause.PROVISION, CONTAINER, name),))
    stages.append(_relay(desired, observed, past, may_be_made=not blocked and (ours is not None or desired.may_start)))
    return Plan(tuple(filter(None, stages)), foreign, paths, changed)


def is_outdated(desired: Desired, live: Object) -> bool:
    """Whether the container was made from another spec than the one that is asked for."""
    wanted = desired.documents.container["Labels"][names.LABEL_SPEC_HASH]
    return bool(labels(live).get(names.LABEL_SPEC_HASH) != wanted)


def name_of_summary(summary: Object) -> str:
    """The name of a container in a list."""
    return str((summary.get("Names") or ["/"])[0]).removeprefix("/")


def _is_agent(desired: Desired, live: Object) -> bool:
    return is_owned(live, desired.cluster, desired.identity, names.AGENT)


def _drifted(desired: Desired, observed: Observed, ours: Object, changed: bool) -> tuple[str, ...]:
    """In what the container is no longer what it was made from, and only a new one could be; but for settings.

    Of one of an earlier spec (`changed`) the engine lets nobody change what isn't put back while it runs, but for the
    volumes below it. Its settings are those of now, whatever it was made from: they are a guard, and are put back.
    """
    wanted = desired.documents
    fixed = drift.container_differences(wanted.container, ours, observed.image, desired.facts).fixed
    volumes = tuple(
        f"{VOLUME} {volume['Name']} {path}"
        for volume in (wanted.key, wanted.settings)
        if (live := observed.volumes.get(volume["Name"])) is not None
        for path in drift.volume_differences(volume, live)
    )
    return (*(() if changed else fixed), *volumes, *((SETTINGS,) if _lacks_settings(desired, observed) else ()))


def _lacks_settings(desired: Desired, observed: Observed) -> bool:
    """Whether the managed settings that a running container sees are not those that are asked for."""
    return observed.inside is not None and observed.inside.settings != desired.settings


def _removal(
    desired: Desired, ours: Object | None, changed: bool, paths: tuple[str, ...], past: Past
) -> tuple[Step, ...]:
    if ours is None:
        return ()
    status = ours.get("State", {}).get("Status")
    name = name_of(ours)
    if desired.ended:
        return (Step(Verb.REMOVE, Cause.UPDATE, CONTAINER, name, ours, at_once=desired.withdrawn),)
    if status in ("dead", "removing"):
        return (Step(Verb.REMOVE, Cause.HEAL, CONTAINER, name, ours, paths=("State.Status",), paced=True),)
    # One that does not run is of no use to anyone as it is; one that runs is left to whoever works in it, unless told.
    replaceable = not running(ours) or desired.update is UpdateStrategyType.RECREATE
    # Settings are put back in what runs.
    paths = tuple(path for path in paths if path != SETTINGS or not running(ours))
    if not (changed or paths) or not replaceable or not desired.may_start:
        return ()
    cause = Cause.UPDATE if changed or not past.settled else Cause.HEAL
    return (Step(Verb.REMOVE, cause, CONTAINER, name, ours, paths=paths, paced=True),)


def _network(
    desired: Desired, observed: Observed, ours: Object | None, causes: tuple[Cause, Cause], foreign: tuple[str, ...]
) -> tuple[Step, ...]:
    wanted, live = desired.documents.network, observed.network
    name = desired.documents.names.network
    if f"{NETWORK} {name}" in foreign:
        return ()
    if live is None:
        return (Step(Verb.CREATE, causes[0], NETWORK, name),)
    if paths := drift.network_differences(wanted, live):
        return (Step(Verb.REPLACE, causes[1], NETWORK, name, live, paths=paths),)
    own = ours["Id"] if ours is not None else None
    relay = observed.relay["Id"] if observed.relay is not None and _keeps_relay(desired, observed) else None
    members: Mapping[str, Object] = live.get("Containers") or {}
    return tuple(
        Step(
            Verb.DISCONNECT, Cause.HEAL, NETWORK, name, live, other=identifier, paths=(f"Containers.{member['Name']}",)
        )
        for identifier, member in sorted(members.items())
        if identifier not in (own, relay)
    )


def _volumes(
    desired: Desired, observed: Observed, causes: tuple[Cause, Cause], foreign: tuple[str, ...], *, free: bool
) -> Iterator[Step]:
    """`free`: whether no container of ours has them mounted."""
    for wanted in desired.documents.volumes:
        name = wanted["Name"]
        live = observed.volumes.get(name)
        if live is None:
            yield Step(Verb.CREATE, causes[0], VOLUME, name)
        elif f"{VOLUME} {name}" not in foreign and free and (paths := drift.volume_differences(wanted, live)):
            yield Step(Verb.REPLACE, causes[1], VOLUME, name, live, paths=paths)


def _live(
    desired: Desired, observed: Observed, ours: Object, differs: Cause, past: Past, foreign: tuple[str, ...]
) -> list[tuple[Step, ...]]:
    """What is done to a container that stays."""
    called = desired.documents.names
    strangers = f"{NETWORK} {called.network}" in foreign
    # Another container that merely carries the labels is told of, and keeps this one from nothing.
    blocked = set(foreign) - {f"{CONTAINER} {name}" for name in observed.strays}
    first: list[Step] = []
    if name_of(ours) != called.container:
        first.append(Step(Verb.RENAME, Cause.HEAL, CONTAINER, called.container, ours, paths=("Name",)))
    updatable = drift.container_differences(desired.documents.container, ours, observed.image, desired.facts).updatable
    if updatable:
        first.append(Step(Verb.UPDATE, differs, CONTAINER, called.container, ours, paths=updatable))
    leave, join = _membership(desired, observed, ours, strangers, differs)
    return [leave, join, tuple(first), () if blocked else _run(desired, observed, ours, past)]


def _membership(
    desired: Desired, observed: Observed, ours: Object, strangers: bool, differs: Cause
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The networks that the container has to leave, and then its own if it has to join that.

    `strangers`: the network of its own's name is somebody else's. `differs`: why its own is replaced, if it is.
    """
    own = desired.documents.names.network
    on = drift.networks_of(ours)
    replaced = observed.network is not None and bool(
        drift.network_differences(desired.documents.network, observed.network)
    )
    # A network that was made again is another one, though it has the name; the container remembers the old one.
    current = str(observed.network["Id"]) if observed.network is not None and not replaced else ""
    stale = own in on and (strangers or replaced or on[own] not in ("", current))
    again = differs if replaced else Cause.HEAL
    leave = tuple(
        Step(
            Verb.DISCONNECT,
            again if name == own else Cause.HEAL,
            CONTAINER,
            name_of(ours),
            ours,
            other=name,
            paths=(f"Networks.{name}",),
        )
        for name in sorted(on)
        if name != own or stale
    )
    if strangers or (own in on and not stale):
        return leave, ()
    return leave, (Step(Verb.CONNECT, differs, CONTAINER, name_of(ours), ours, other=own, paths=(f"Networks.{own}",)),)


def _run(desired: Desired, observed: Observed, ours: Object, past: Past) -> tuple[Step, ...]:
    name = desired.documents.names.container
    if not running(ours):
        return (_start(name, ours, past),) if desired.may_start else ()
    if ours.get("State", {}).get("Paused"):
        return (Step(Verb.UNPAUSE, Cause.HEAL, CONTAINER, name, ours, paths=("State.Paused",)),)
    if desired.may_start and is_lost(ours, desired.liveness):
        told = ("State.Health",)
        return (Step(Verb.RESTART, Cause.HEAL, CONTAINER, name, ours, paths=told, paced=True, reason="Unhealthy"),)
    inside = observed.inside
    if desired.may_start and _lacks_settings(desired, observed):
        cause, volume = Cause.HEAL if past.settled else Cause.UPDATE, desired.documents.names.settings
        return (Step(Verb.DELIVER, cause, VOLUME, volume, ours, paths=(SETTINGS,), paced=True, reason="Drifted"),)
    if not desired.may_start or (inside is not None and inside.is_current(desired.key_generation)):
        return ()
    # Without any it was started by somebody else: the volume is empty after every start.
    cause = Cause.UPDATE if inside is not None and inside.is_keyed else Cause.HEAL
    return (Step(Verb.DELIVER, cause, VOLUME, desired.documents.names.key, ours),)


def _start(name: str, ours: Object, past: Past) -> Step:
    state = ours.get("State", {})
    fresh = state.get("Status") == "created"
    cause = Cause.HEAL if past.ran and past.settled and not fresh else Cause.PROVISION
    path, reason = ("State.OOMKilled", "OutOfMemory") if state.get("OOMKilled") else ("State.Status", "")
    return Step(Verb.START, cause, CONTAINER, name, ours, paths=(path,), paced=not fresh, reason=reason)


def _keeps_relay(desired: Desired, observed: Observed) -> bool:
    """Whether the live relay is the sandbox's own, and it should have one."""
    return desired.documents.relay is not None and not desired.ended and _is_relay(desired, observed.relay)


def _is_relay(desired: Desired, live: Object | None) -> bool:
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.RELAY)


def _is_outer(desired: Desired, live: Object | None) -> bool:
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.OUTER)


def _relay(desired: Desired, observed: Observed, past: Past, *, may_be_made: bool) -> tuple[Step, ...]:
    """What is done about the relay, after everything else: nothing waits for it. One that is there is mended
    whatever is in the sandbox's way, so that it is never looser than it should be.
    """
    name, documents = desired.documents.names.relay, desired.documents
    live = observed.relay if _is_relay(desired, observed.relay) else None
    if documents.relay is None or desired.ended:
        if live is None and not _is_outer(desired, observed.outer):
            return ()
        return (Step(Verb.REMOVE, Cause.UPDATE, RELAY, name, live),)
    # One that could not be made before was not lost, and one that was never started is still being made.
    had = bool(past.endpoints) or (live is not None and live.get("State", {}).get("Status") != "created")
    cause = (Cause.HEAL if had else Cause.PROVISION) if past.settled else Cause.UPDATE
    if live is None:
        return (Step(Verb.CREATE, cause, RELAY, name, paced=True),) if may_be_made else ()
    own = observed.network
    kept = own is not None and not drift.network_differences(documents.network, own)
    inner = str(own["Id"]) if own is not None and kept else ""
    outer = observed.outer
    paths = relay_drift.differences(
        documents.relay, documents.names, live, observed.relay_image, outer, inner, desired.facts
    )
    wish = labels(live).get(names.LABEL_SPEC_HASH) != documents.relay.container["Labels"][names.LABEL_SPEC_HASH]
    if wish or paths:
        cause = Cause.UPDATE if wish else cause
        reason = "Ended" if "State.Status" in paths else ""
        return (Step(Verb.REPLACE, cause, RELAY, name, live, paths=paths, paced=True, reason=reason),)
    return tuple(
        Step(Verb.DISCONNECT, Cause.HEAL, NETWORK, name, outer, other=one, paths=(f"Containers.{member}",))
        for one, member in relay_drift.strangers(outer, live)
    )


def _foreign(desired: Desired, observed: Observed) -> Iterator[str]:
    cluster, identity = desired.cluster, desired.identity
    if desired.documents.relay is not None:
        if observed.relay is not None and not _is_relay(desired, observed.relay):
            yield f"{CONTAINER} {name_of(observed.relay)}"
        if observed.outer is not None and not _is_outer(desired, observed.outer):
            yield f"{NETWORK} {name_of(observed.outer)}"
    if observed.container is not None and not _is_agent(desired, observed.container):
        yield f"{CONTAINER} {name_of(observed.container)}"
    yield from (f"{CONTAINER} {name}" for name in observed.strays)
    if observed.network is not None and not is_owned(observed.network, cluster, identity, names.NETWORK):
        yield f"{NETWORK} {name_of(observed.network)}"
    called = desired.documents.names
    for name, component in ((called.key, names.KEY), (called.settings, names.SETTINGS)):
        live = observed.volumes.get(name)
        if live is not None and not is_owned(live, cluster, identity, component):
            yield f"{VOLUME} {name}"
    workspace = observed.volumes.get(called.workspace)
    if workspace is not None and desired.documents.workspace is not None:
        # What it holds can't be made again, so one that is not as the operator makes them is left alone as well.
        same = not drift.volume_differences(desired.documents.workspace, workspace)
        if not (same and is_workspace_of(workspace, cluster, identity)):
            yield f"{VOLUME} {called.workspace}"
