"""What has to be done so that the live objects become the desired ones. Pure.

The order is the fail-closed one: what is in the way goes first; then the network that leads nowhere and the volumes;
then what the container is on and made of; that it runs, with its key, comes last. Where repositories are cloned by a
container of their own (`cloning`), that one and the gateway come first, and the sandbox's is made when it has ended.
"""

from collections.abc import Iterator, Mapping

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause, KeyState, Past
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.cloning.plan import keeps_cloner, outcome, plan_cloner, remove_cloner
from claude_sandbox.backends.docker.documents.health import is_lost
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of, name_of_summary, running
from claude_sandbox.backends.docker.gateway.gateways import Brokering
from claude_sandbox.backends.docker.gateway.plan import foreign_to_gateway, keeps_gateway, plan_gateway
from claude_sandbox.backends.docker.holding.plan import foreign_to_holder, has_lost, plan_holder
from claude_sandbox.backends.docker.model import (
    CONTAINER,
    NETWORK,
    SETTINGS,
    VOLUME,
    Desired,
    Observed,
    Plan,
    Step,
    Verb,
)
from claude_sandbox.backends.docker.names import is_kept_by, is_owned
from claude_sandbox.backends.docker.objects import documents
from claude_sandbox.backends.docker.relay.plan import is_outer, is_relay, keeps_relay, plan_relay
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.blueprint.model import Blueprint


def desire(
    blueprint: Blueprint,
    cluster: str,
    key: KeyState,
    capabilities: EngineCapabilities,
    publishing: Publishing,
    brokering: Brokering,
    update: UpdateStrategyType,
) -> Desired:
    """What the blueprint asks of an engine, and whether the container may run."""
    compromised = key.problem is Reason.KEY_COMPROMISED
    return Desired(
        identity=blueprint.identity,
        cluster=cluster,
        capabilities=capabilities,
        documents=documents(blueprint, cluster, capabilities, publishing, brokering),
        settings=blueprint.settings.content,
        suspended=not blueprint.running,
        may_start=key.problem is None,
        # Who does not hold the key need not end with one that is compromised: the gateway is told to use none.
        withdrawn=key.withdrawn and not (compromised and blueprint.gateway is not None),
        keyless=compromised and blueprint.gateway is not None,
        key_generation=key.generation,
        brokered=blueprint.gateway is not None,
        held=blueprint.held,
        exchanged=blueprint.exchanged,
        update=update,
        liveness=blueprint.liveness,
    )


def plan(desired: Desired, observed: Observed, past: Past) -> Plan:
    """What to do, and why."""
    foreign = tuple(_foreign(desired, observed))
    missing = Cause.HEAL if past.provisioned else Cause.PROVISION
    differs = Cause.HEAL if past.settled else Cause.UPDATE
    live = observed.container
    ours = live if live is not None and _is_agent(desired, live) else None
    changed = ours is not None and is_outdated(desired, ours)
    paths = _drifted(desired, observed, ours, changed) if ours is not None else ()
    lost = ("EmptyDir",) if ours is not None and has_lost(desired, observed, ours) else ()
    removal = _removal(desired, ours, changed, (*paths, *lost), past)
    blocked = bool(foreign) or desired.ended
    needed = ours is None or bool(removal)
    cloner = keeps_cloner(desired, observed, needed=needed)
    # What is beside a container that is there is mended also while none may be made.
    may_be_made = not blocked and (ours is not None or desired.may_make)
    unheld, held = plan_holder(desired, observed, past, needed=needed, may_be_made=may_be_made)
    stages: list[tuple[Step, ...]] = [
        () if cloner else remove_cloner(desired, observed),
        tuple(
            Step(Verb.REMOVE, Cause.PROVISION, CONTAINER, name_of_summary(helper), helper)
            for helper in (*observed.helpers, *observed.other_companions)
        ),
        removal,
        unheld,
        (
            *_network(desired, observed, ours, (missing, differs), foreign, cloner=cloner),
            *_volumes(
                desired,
                observed,
                (missing, differs if past.provisioned else missing, differs),
                foreign,
                free=needed,
            ),
            *_accounts(desired, observed, past),
        ),
        held,
    ]
    gateway = plan_gateway(desired, observed, past, may_be_made=may_be_made)
    if told := tuple(step for step in gateway if step.verb is Verb.DELIVER):
        # It knows another placeholder before the sandbox has it, and the one before for a while: none is refused.
        stages.append(told)
    rest = tuple(step for step in gateway if step not in told)
    cloned = outcome(observed) if cloner else ""
    made = Cause.HEAL if past.ran and past.settled and live is None else Cause.PROVISION
    if ours is not None and not removal:
        stages += _live(desired, observed, ours, differs, past, foreign)
    elif not blocked and desired.may_make and desired.documents.cloner is not None and not cloned:
        # By the gateway it clones.
        stages += [rest, *plan_cloner(desired, observed, made, kept=cloner)]
        rest = ()
    elif not blocked and desired.may_make:
        name = desired.documents.names.container
        stages.append((Step(Verb.CREATE, made, CONTAINER, name, cloned=cloned),))
        stages.append((Step(Verb.START, Cause.PROVISION, CONTAINER, name),))
        stages.append(remove_cloner(desired, observed) if cloner else ())
    stages.append(rest)
    stages.append(plan_relay(desired, observed, past, may_be_made=may_be_made))
    return Plan(tuple(filter(None, stages)), foreign, paths, changed)


def is_outdated(desired: Desired, live: Object) -> bool:
    """Whether the container was made from another spec than the one that is asked for."""
    wanted = desired.documents.container["Labels"][names.LABEL_SPEC_HASH]
    return bool(labels(live).get(names.LABEL_SPEC_HASH) != wanted)


def _is_agent(desired: Desired, live: Object) -> bool:
    return is_owned(live, desired.cluster, desired.identity, names.AGENT)


def _drifted(desired: Desired, observed: Observed, ours: Object, changed: bool) -> tuple[str, ...]:
    """In what the container is no longer what it was made from, and only a new one could be; but for settings.

    Of one of an earlier spec (`changed`) the engine lets nobody change what isn't put back while it runs, but for the
    volumes below it. Its settings are those of now, whatever it was made from: they are a guard, and are put back.
    """
    wanted = desired.documents
    fixed = drift.container_differences(wanted.container, ours, observed.image, desired.capabilities).fixed
    volumes = tuple(
        f"{VOLUME} {volume['Name']} {path}"
        for volume in (wanted.key, wanted.settings)
        if (live := observed.volumes.get(volume["Name"])) is not None
        for path in drift.volume_differences(volume, live)
    )
    return (*(() if changed else fixed), *volumes, *((SETTINGS,) if _lacks_settings(desired, observed) else ()))


def _lacks_settings(desired: Desired, observed: Observed) -> bool:
    """Whether the managed settings that a running container sees are not those that are asked for."""
    return observed.delivered is not None and observed.delivered.settings != desired.settings


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
    replaceable = not running(ours) or desired.update is UpdateStrategyType.RECREATE or desired.exchanged
    # Settings are put back in what runs.
    paths = tuple(path for path in paths if path != SETTINGS or not running(ours))
    # Without its key, or while it is held, no other could be made: what is there is better than nothing.
    if not (changed or paths) or not replaceable or not desired.may_make:
        return ()
    cause = Cause.UPDATE if changed or not past.settled else Cause.HEAL
    # Who has an image exchanged tries each once.
    paced = not (desired.exchanged and changed)
    return (Step(Verb.REMOVE, cause, CONTAINER, name, ours, paths=paths, paced=paced),)


def _network(
    desired: Desired,
    observed: Observed,
    ours: Object | None,
    causes: tuple[Cause, Cause],
    foreign: tuple[str, ...],
    *,
    cloner: bool,
) -> tuple[Step, ...]:
    """`cloner`: the container that clones stays."""
    wanted, live = desired.documents.network, observed.network
    name = desired.documents.names.network
    if f"{NETWORK} {name}" in foreign:
        return ()
    if live is None:
        return (Step(Verb.CREATE, causes[0], NETWORK, name),)
    if paths := drift.network_differences(wanted, live):
        return (Step(Verb.REPLACE, causes[1], NETWORK, name, live, paths=paths),)
    own = ours["Id"] if ours is not None else None
    relay = observed.relay["Id"] if observed.relay is not None and keeps_relay(desired, observed) else None
    gateway = observed.gateway.identifier if keeps_gateway(desired, observed) else None
    clones = observed.cloner.identifier if cloner else None
    members: Mapping[str, Object] = live.get("Containers") or {}
    return tuple(
        Step(
            Verb.DISCONNECT, Cause.HEAL, NETWORK, name, live, other=identifier, paths=(f"Containers.{member['Name']}",)
        )
        for identifier, member in sorted(members.items())
        if identifier not in (own, relay, gateway, clones)
    )


def _volumes(
    desired: Desired, observed: Observed, causes: tuple[Cause, Cause, Cause], foreign: tuple[str, ...], *, free: bool
) -> Iterator[Step]:
    """`causes`: of one that is missing, of one that a spec may ask for later, of one that differs. `free`: whether no
    container of ours has them mounted."""
    missing, later, differs = causes
    called = desired.documents.names
    # Of an EmptyDir nothing was lost with its volume: that has no files while no container has it.
    by_name = {called.home: later, called.empty_dir: Cause.PROVISION if missing is Cause.PROVISION else Cause.UPDATE}
    for wanted in desired.documents.volumes:
        name = wanted["Name"]
        live = observed.volumes.get(name)
        # `_accounts` plans it: what was used is never counted anew because a volume differs.
        if name == called.accounts:
            continue
        if live is None:
            yield Step(Verb.CREATE, by_name.get(name, missing), VOLUME, name)
        elif (
            f"{VOLUME} {name}" not in foreign
            and free
            and (paths := (*drift.volume_differences(wanted, live), *drift.filled_otherwise(wanted, live)))
        ):
            yield Step(Verb.REPLACE, differs, VOLUME, name, live, paths=paths)


def _accounts(desired: Desired, observed: Observed, past: Past) -> tuple[Step, ...]:
    """The volume of the gateway's accounts, which comes with the wish for a gateway, and is never made anew."""
    name = desired.documents.names.accounts
    if desired.documents.gateway is None or name in observed.volumes:
        return ()
    lost = past.provisioned and past.settled
    made = Cause.UPDATE if past.provisioned else Cause.PROVISION
    return (Step(Verb.CREATE, Cause.HEAL if lost else made, VOLUME, name),)


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
    updatable = drift.container_differences(
        desired.documents.container, ours, observed.image, desired.capabilities
    ).updatable
    if updatable:
        first.append(Step(Verb.UPDATE, differs, CONTAINER, called.container, ours, paths=updatable))
    leave, join = _membership(desired, observed, ours, strangers, differs)
    # Off the wrong networks before it is on its own: it is on none for a moment rather than on two.
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
        return (_start(name, ours, past),) if desired.may_make else ()
    if ours.get("State", {}).get("Paused"):
        return (Step(Verb.UNPAUSE, Cause.HEAL, CONTAINER, name, ours, paths=("State.Paused",)),)
    if desired.may_start and is_lost(ours, desired.liveness):
        told = ("State.Health",)
        return (Step(Verb.RESTART, Cause.HEAL, CONTAINER, name, ours, paths=told, paced=True, reason="Unhealthy"),)
    inside = observed.delivered
    # Before the key is asked after: the helper that brings the settings brings it too.
    if desired.may_start and _lacks_settings(desired, observed):
        cause, volume = Cause.HEAL if past.settled else Cause.UPDATE, desired.documents.names.settings
        return (Step(Verb.DELIVER, cause, VOLUME, volume, ours, paths=(SETTINGS,), paced=True, reason="Drifted"),)
    if not desired.may_start or (inside is not None and inside.is_current(desired.word)):
        return ()
    # Without any it was started by somebody else: the volume is empty after every start.
    cause = Cause.UPDATE if inside is not None and inside.is_keyed else Cause.HEAL
    return (Step(Verb.DELIVER, cause, VOLUME, desired.documents.names.key, ours),)


def _start(name: str, ours: Object, past: Past) -> Step:
    state = ours.get("State", {})
    # One that was never started can't be one that ends again and again.
    fresh = state.get("Status") == "created"
    cause = Cause.HEAL if past.ran and past.settled and not fresh else Cause.PROVISION
    path, reason = ("State.OOMKilled", "OutOfMemory") if state.get("OOMKilled") else ("State.Status", "")
    return Step(Verb.START, cause, CONTAINER, name, ours, paths=(path,), paced=not fresh, reason=reason)


def _foreign(desired: Desired, observed: Observed) -> Iterator[str]:
    cluster, identity = desired.cluster, desired.identity
    yield from foreign_to_gateway(desired, observed)
    yield from foreign_to_holder(desired, observed)
    if desired.documents.relay is not None:
        if observed.relay is not None and not is_relay(desired, observed.relay):
            yield f"{CONTAINER} {name_of(observed.relay)}"
        if observed.outer is not None and not is_outer(desired, observed.outer):
            yield f"{NETWORK} {name_of(observed.outer)}"
    if observed.container is not None and not _is_agent(desired, observed.container):
        yield f"{CONTAINER} {name_of(observed.container)}"
    yield from (f"{CONTAINER} {name}" for name in observed.strays)
    if observed.network is not None and not is_owned(observed.network, cluster, identity, names.NETWORK):
        yield f"{NETWORK} {name_of(observed.network)}"
    called = desired.documents.names
    own = ((called.key, names.KEY), (called.settings, names.SETTINGS), (called.empty_dir, names.EMPTY_DIR))
    for name, component in own:
        live = observed.volumes.get(name)
        if live is not None and not is_owned(live, cluster, identity, component):
            yield f"{VOLUME} {name}"
    for wanted in (desired.documents.workspace, desired.documents.home):
        live = observed.volumes.get(wanted["Name"]) if wanted is not None else None
        if wanted is not None and live is not None:
            # What it holds can't be made again, so one that is not as the operator makes them is left alone as well.
            same = not drift.volume_differences(wanted, live)
            if not (same and is_kept_by(live, cluster, identity, called.kept[wanted["Name"]])):
                yield f"{VOLUME} {wanted['Name']}"
