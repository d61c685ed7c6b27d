"""What has to be done about the container that clones for a sandbox, before there is one of the sandbox's own. Pure."""

import json

from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.cloning.beside import has_cloned
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of, running
from claude_sandbox.backends.docker.holding.plan import holds
from claude_sandbox.backends.docker.model import CLONER, CONTAINER, Desired, Observed, Step, Verb
from claude_sandbox.backends.docker.names import is_owned

_CLONE = Cause.PROVISION


def is_cloner(desired: Desired, live: Object | None) -> bool:
    """Whether a container is the one that clones for the sandbox."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.CLONER)


def keeps_cloner(desired: Desired, observed: Observed, *, needed: bool) -> bool:
    """Whether the live one stays. `needed`: no container of the sandbox's own is there that would stay."""
    live = observed.cloner.container
    wanted = desired.documents.cloner
    if not needed or wanted is None or desired.ended or live is None or not is_cloner(desired, live):
        return False
    if labels(live).get(names.LABEL_SPEC_HASH) != wanted["Labels"][names.LABEL_SPEC_HASH]:
        return False
    state = live.get("State") or {}
    own, network = desired.documents.names.network, observed.network
    found = drift.container_differences(wanted, live, observed.cloner.image, desired.capabilities)
    on, current = drift.networks_of(live), str((network or {}).get("Id", "-"))
    elsewhere = set(on) != {own} or on[own] not in ("", current)
    replaced = network is None or bool(drift.network_differences(desired.documents.network, network))
    settings, key = desired.documents.settings, desired.documents.key
    volumes = [(one, observed.volumes.get(one["Name"])) for one in (settings, key)]
    emptied = any(
        volume is None or drift.volume_differences(one, volume) or drift.filled_otherwise(one, volume)
        for one, volume in volumes
    )
    # What was cloned into memory is gone with what held it.
    emptied |= desired.documents.holder is not None and not running(live) and not holds(desired, observed)
    broken = state.get("Status") in ("dead", "removing") or state.get("Paused")
    return not (found.fixed or found.updatable or elsewhere or replaced or emptied or broken)


def remove_cloner(desired: Desired, observed: Observed) -> tuple[Step, ...]:
    """Of one that is the sandbox's own, whatever state it is in."""
    live = observed.cloner.container
    if live is None or not is_cloner(desired, live):
        return ()
    return (Step(Verb.REMOVE, _CLONE, CONTAINER, name_of(live), live),)


def outcome(observed: Observed) -> str:
    """What became of the repositories, as the label of the sandbox's own container; empty until all are there."""
    said = observed.cloner_said
    return json.dumps(said, separators=(",", ":")) if has_cloned(observed.cloner.container, said) else ""


def plan_cloner(desired: Desired, observed: Observed, made: Cause, *, kept: bool) -> list[tuple[Step, ...]]:
    """What is done until it has ended well; the sandbox's gateway is there by then. `made`: why there is to be a
    container of the sandbox's own. `kept`: the live one is as it should be."""
    name, live = desired.documents.names.cloner, observed.cloner.container
    start = Step(Verb.START, _CLONE, CLONER, name, live if kept else None, paced=True)
    if not kept or live is None:
        return [(Step(Verb.CREATE, made, CLONER, name),), (start,)]
    if not running(live):
        return [(start,)]
    if desired.may_start and not observed.cloner_keyed:
        return [(Step(Verb.DELIVER, Cause.UPDATE, CLONER, name, live),)]
    return []
