"""What has to be done about a sandbox's gateway. Pure."""

from collections.abc import Iterator

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker import drift, names
from claude_sandbox.backends.docker.companions import strangers
from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.engine.documents import Object, labels, name_of
from claude_sandbox.backends.docker.gateway.drift import differences
from claude_sandbox.backends.docker.gateway.gateways import KEYLESS
from claude_sandbox.backends.docker.model import CONTAINER, GATEWAY, NETWORK, VOLUME, Desired, Observed, Step, Verb
from claude_sandbox.backends.docker.names import is_owned


def keeps_gateway(desired: Desired, observed: Observed) -> bool:
    """Whether the live gateway is the sandbox's own, and it should have one."""
    wanted = desired.documents.gateway is not None and not desired.ended
    return wanted and is_gateway(desired, observed.gateway.container)


def is_gateway(desired: Desired, live: Object | None) -> bool:
    """Whether a container is the sandbox's own gateway."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.GATEWAY)


def is_gateway_network(desired: Desired, live: Object | None) -> bool:
    """Whether a network is the one by which the sandbox's own gateway gets out."""
    return live is not None and is_owned(live, desired.cluster, desired.identity, names.GATEWAY_NETWORK)


def foreign_to_gateway(desired: Desired, observed: Observed) -> Iterator[str]:
    """What is under the gateway's names and not the sandbox's own, as "Kind name"."""
    seen = observed.gateway
    if desired.documents.gateway is None:
        return
    if seen.container is not None and not is_gateway(desired, seen.container):
        yield f"{CONTAINER} {name_of(seen.container)}"
    if seen.network is not None and not is_gateway_network(desired, seen.network):
        yield f"{NETWORK} {name_of(seen.network)}"
    if _has_foreign_accounts(desired, observed):
        yield f"{VOLUME} {desired.documents.names.accounts}"


def _has_foreign_accounts(desired: Desired, observed: Observed) -> bool:
    """Whether the volume under the name of the accounts is not as the operator makes them, or somebody else's: what it
    holds can't be made again, so it is left alone."""
    wanted, live = desired.documents.gateway, observed.volumes.get(desired.documents.names.accounts)
    if wanted is None or live is None:
        return False
    owned = is_owned(live, desired.cluster, desired.identity, names.ACCOUNTS)
    return not owned or bool(drift.volume_differences(wanted.accounts, live))


def plan_gateway(desired: Desired, observed: Observed, past: Past, *, may_be_made: bool) -> tuple[Step, ...]:
    """What is done about the gateway, after the sandbox's own container: without it that one reaches nothing, which
    is safe. One that is there is mended whatever is in the sandbox's way.
    """
    name, wanted, seen = desired.documents.names.gateway, desired.documents.gateway, observed.gateway
    live = seen.container if is_gateway(desired, seen.container) else None
    if wanted is None or desired.ended:
        if live is None and not is_gateway_network(desired, seen.network):
            return ()
        return (Step(Verb.REMOVE, Cause.UPDATE, GATEWAY, name, live),)
    had = live is not None and live.get("State", {}).get("Status") != "created"
    cause = (Cause.HEAL if had or past.ran else Cause.PROVISION) if past.settled else Cause.UPDATE
    may_be_made = may_be_made and desired.may_start
    if live is None:
        return (Step(Verb.CREATE, cause, GATEWAY, name, paced=past.ran),) if may_be_made else ()
    paths = differences(
        wanted, desired.documents.names, live, seen.image, seen.network, _inner(desired, observed), desired.capabilities
    )
    wish = labels(live).get(names.LABEL_SPEC_HASH) != wanted.container["Labels"][names.LABEL_SPEC_HASH]
    if wish or paths:
        if _has_foreign_accounts(desired, observed):
            # What is there is no account of this sandbox: none is had by it, and without one nothing gets out.
            return (Step(Verb.REMOVE, Cause.HEAL, GATEWAY, name, live, paths=paths),)
        cause = Cause.UPDATE if wish else cause
        reason = "Ended" if "State.Status" in paths else "Unhealthy" if "State.Health" in paths else ""
        return (Step(Verb.REPLACE, cause, GATEWAY, name, live, paths=paths, paced=True, reason=reason),)
    if desired.may_start and not wanted.is_followed(observed.gateway_revision, desired.key_generation):
        # One that has nothing was started by somebody else; unless it has not been asked yet what it has.
        told = observed.gateway_revision is not None or health.status(live) == "starting"
        cause = Cause.UPDATE if told else Cause.HEAL
        return (Step(Verb.DELIVER, cause, GATEWAY, name, live),)
    if desired.keyless and observed.gateway_revision != wanted.revision(KEYLESS):
        return (Step(Verb.DELIVER, Cause.UPDATE, GATEWAY, name, live, at_once=True),)
    return tuple(
        Step(Verb.DISCONNECT, Cause.HEAL, NETWORK, name, seen.network, other=one, paths=(f"Containers.{member}",))
        for one, member in strangers(seen.network, live)
    )


def _inner(desired: Desired, observed: Observed) -> str:
    """The identifier of the sandbox's own network, if that stays as it is."""
    own = observed.network
    kept = own is not None and not drift.network_differences(desired.documents.network, own)
    return str(own["Id"]) if own is not None and kept else ""
