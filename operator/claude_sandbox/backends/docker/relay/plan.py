"""What has to be done about a sandbox's relay. Pure."""

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.companions import strangers
from claude_sandbox.backends.docker.engine.documents import Object, labels
from claude_sandbox.backends.docker.model import NETWORK, RELAY, Desired, Observed, Step, Verb
from claude_sandbox.backends.docker.names import is_owned
from claude_sandbox.backends.docker.relay import drift as relay_drift


def keeps_relay(desired: Desired, observed: Observed) -> bool:
    """Whether the live relay is the sandbox's own, and it should have one."""
    return desired.documents.relay is not None and not desired.ended and is_relay(desired, observed.relay)


def is_relay(desired: Desired, live: Object | None) -> bool:
    """Whether a container is the sandbox's own relay."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.RELAY)


def is_outer(desired: Desired, live: Object | None) -> bool:
    """Whether a network is the one that the sandbox's own relay publishes from."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.OUTER)


def plan_relay(desired: Desired, observed: Observed, past: Past, *, may_be_made: bool) -> tuple[Step, ...]:
    """What is done about the relay, after everything else: nothing waits for it. One that is there is mended
    whatever is in the sandbox's way, so that it is never looser than it should be.
    """
    name, documents = desired.documents.names.relay, desired.documents
    live = observed.relay if is_relay(desired, observed.relay) else None
    if documents.relay is None or desired.ended:
        if live is None and not is_outer(desired, observed.outer):
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
        documents.relay, documents.names, live, observed.relay_image, outer, inner, desired.capabilities
    )
    wish = labels(live).get(names.LABEL_SPEC_HASH) != documents.relay.container["Labels"][names.LABEL_SPEC_HASH]
    if wish or paths:
        cause = Cause.UPDATE if wish else cause
        reason = "Ended" if "State.Status" in paths else ""
        return (Step(Verb.REPLACE, cause, RELAY, name, live, paths=paths, paced=True, reason=reason),)
    return tuple(
        Step(Verb.DISCONNECT, Cause.HEAL, NETWORK, name, outer, other=one, paths=(f"Containers.{member}",))
        for one, member in strangers(outer, live)
    )
