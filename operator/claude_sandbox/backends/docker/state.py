"""What a live container says about the sandbox: can it be worked with, and if not, why and what to do. Pure."""

from dataclasses import replace
from datetime import datetime

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import Cloning, WorkloadState
from claude_sandbox.backends.docker.cloning.beside import progress_of
from claude_sandbox.backends.docker.cloning.within import AGAIN, cloning_of, is_cloning
from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.documents.profiles import asked_profile, missing_profile
from claude_sandbox.backends.docker.engine.documents import Object, name_of, running
from claude_sandbox.backends.docker.gateway.gateways import KEYLESS, Gateway
from claude_sandbox.backends.docker.gateway.health import said_report, works
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.blueprint.tools import DIRECTORY, NO_SHELL, UNUSABLE

# What a process gets as its exit code that a signal ended.
_KILLED, _TERMINATED = 137, 143
_NEVER = "0001-01-01"


def state_of(
    container: Object | None,
    host: str,
    key_generation: str | None,
    unsupported: tuple[str, ...],
    pressure: tuple[str, ...] = (),
) -> WorkloadState:
    """The state of the sandbox's container, None where there is none.

    `unsupported`: what the spec asks for and an engine can't give, said of a sandbox that can be used; `pressure`: what
    it ran out of, said of one that runs. Each is a clause.
    """
    if container is None:
        return WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no container.")
    status, reason, message = _readiness(container)
    cloning = cloning_of(container)
    clauses = (*(pressure if running(container) else ()), *(unsupported if status is ConditionStatus.TRUE else ()))
    if clauses:
        message = f"{message} {'But' if status is ConditionStatus.TRUE else 'And'} {'; '.join(clauses)}."
    return WorkloadState(
        status,
        reason,
        message,
        workload=workload_of(container, host),
        key_generation=key_generation,
        again=_again(container, cloning),
        cloning=cloning,
        pressure=pressure if running(container) else (),
    )


def being_cloned(cloner: Object, outcomes: tuple[str, ...] | None) -> WorkloadState:
    """The state of a sandbox whose repositories are cloned before it has a container."""
    message = f"Container {name_of(cloner)} clones its repositories first: see the condition RepositoriesReady."
    found = progress_of(cloner, outcomes)
    return WorkloadState(ConditionStatus.FALSE, Reason.REPOSITORIES_NOT_READY, message, again=AGAIN, cloning=found)


def _again(container: Object, cloning: Cloning | None) -> float | None:
    """Seconds until it has to be looked at again, though no event tells of it; None for one of which events do."""
    status = health.status(container)
    if status == "unhealthy":
        # An engine tells that a container became unhealthy, and not that it still is.
        return health.interval(container)
    # Nor what the checks of one say that is starting.
    return AGAIN if cloning is not None and not cloning.done and status == "starting" else None


def with_gateway(found: WorkloadState, wanted: Gateway | None, observed: Observed) -> WorkloadState:
    """The state of a sandbox that has a gateway for its only way out: without it, it can't be worked with.

    The key that is in use is the one that the gateway has.
    """
    if wanted is None:
        return found
    live, revision = observed.gateway.container, observed.gateway_revision
    generation = revision.rpartition(".")[0] if revision else None
    generation = None if generation == KEYLESS else generation
    found = replace(found, key_generation=generation, report=said_report(live) if live is not None else None)
    if found.status is not ConditionStatus.TRUE:
        return found
    if live is None or not running(live):
        message = "Claude Code can run, but its gateway does not: it reaches nothing. The gateway is made again."
    elif not works(live):
        message = (
            f"Claude Code can run, but its gateway {name_of(live)} does not answer; it is made again, later each time"
            " that it happens soon again."
        )
    elif not wanted.is_followed(revision, None) and revision != wanted.revision(KEYLESS):
        message = f"Claude Code can run, but its gateway {name_of(live)} has not taken what the spec allows yet."
    else:
        return replace(found, message=f"{found.message} Its way out is the gateway {name_of(live)}.", heard=True)
    return replace(found, status=ConditionStatus.FALSE, reason=Reason.GATEWAY_NOT_READY, message=message)


def with_outcomes(found: WorkloadState, last: WorkloadState | None) -> WorkloadState:
    """With what was said of repositories before, where a container that has gone on says nothing now: an engine keeps
    five outcomes of checks, each of which may have taken too long."""
    if found.cloning is None or found.cloning.outcomes is not None or last is None or found.workload != last.workload:
        return found
    return replace(found, cloning=last.cloning or found.cloning)


def host_lost(host: str, why: str, last: WorkloadState | None) -> WorkloadState:
    """The state of a sandbox whose host does not answer: nothing is known, and what was known last still counts."""
    message = (
        f"Docker host {host} can't be asked: {why}. The sandbox may still run there; nothing is made or removed until "
        "it answers again."
    )
    return _not_known(message, last)


def unclear(host: str, why: str, last: WorkloadState | None) -> WorkloadState:
    """The state of a sandbox of which the host tells what can't be understood."""
    return _not_known(f"What Docker host {host} tells of the container can't be used: {why}.", last)


def _not_known(message: str, last: WorkloadState | None) -> WorkloadState:
    return WorkloadState(
        ConditionStatus.UNKNOWN,
        Reason.OBSERVATION_FAILED,
        message,
        workload=last.workload if last else None,
        key_generation=last.key_generation if last else None,
    )


def pulling(message: str) -> WorkloadState:
    """The state of a sandbox whose image is still on its way to the host."""
    return WorkloadState(ConditionStatus.FALSE, Reason.POD_PENDING, message)


def workload_of(container: Object, host: str) -> Workload:
    """What runs, for the status."""
    named = str(container.get("Config", {}).get("Image", ""))
    started = str(container.get("State", {}).get("StartedAt", ""))
    return Workload(
        name=name_of(container),
        uid=str(container["Id"]),
        host=host,
        # A tag may be another image's by now; the identifier is of the one that runs.
        image=named if "@" in named else str(container.get("Image") or named) or None,
        started_at=datetime.fromisoformat(started) if started and not started.startswith(_NEVER) else None,
    )


def _readiness(container: Object) -> tuple[ConditionStatus, Reason, str]:
    name = name_of(container)
    state = container.get("State", {})
    if not running(container):
        return ConditionStatus.FALSE, *_stopped(container, name, state)
    if state.get("Paused"):
        message = f"Container {name} is paused; it is resumed, or remove it from the spec with operatingMode Suspended."
        return ConditionStatus.FALSE, Reason.POD_NOT_READY, message
    match health.status(container):
        case "healthy":
            return ConditionStatus.TRUE, Reason.SANDBOX_READY, f"Claude Code can run in container {name}."
        case "starting" | "unhealthy" if is_cloning(container):
            message = f"Container {name} waits for its repositories: see the condition RepositoriesReady."
            return ConditionStatus.FALSE, Reason.REPOSITORIES_NOT_READY, message
        case "unhealthy" if health.answers(container):
            message = (
                f"Container {name} runs, but Claude Code can't work in it: it has no key, can't write to its home, "
                "or has too little CPU to tell in time. "
                f"See `docker inspect {name}` on the host, State.Health."
            )
            return ConditionStatus.FALSE, Reason.POD_NOT_READY, message
        case "unhealthy":
            message = (
                f"Container {name} runs, but Claude Code does not answer in it any more; it is restarted when that "
                "lasts, later each time that it happens soon again."
            )
            return ConditionStatus.FALSE, Reason.POD_NOT_READY, message
    return ConditionStatus.FALSE, Reason.POD_PENDING, f"Container {name} runs; Claude Code does not answer in it yet."


def _stopped(container: Object, name: str, state: Object) -> tuple[Reason, str]:
    status, code = state.get("Status"), state.get("ExitCode")
    brought = any(mount.get("Destination") == DIRECTORY for mount in container.get("Mounts") or ())
    if status == "created":
        # An engine leaves a container that it could not start as it was, and says why.
        if why := state.get("Error"):
            return _not_started(container, name, str(why))
        return Reason.POD_PENDING, f"Container {name} is about to be started."
    if status in ("removing", "dead"):
        return Reason.POD_TERMINATING, f"Container {name} is being removed; a new one is made when it is gone."
    if state.get("OOMKilled"):
        return (
            Reason.CONTAINER_FAILING,
            f"Container {name} needed more memory than spec.resources.memory and was killed; it is started again.",
        )
    if why := state.get("Error"):
        return _not_started(container, name, str(why))
    if code == NO_SHELL and brought:
        return Reason.IMAGE_NOT_USABLE, UNUSABLE.format(image=container.get("Config", {}).get("Image"))
    how = {_KILLED: "was killed", _TERMINATED: "was told to end"}.get(code or 0, f"ended with exit code {code}")
    return Reason.CONTAINER_FAILING, f"Container {name} {how}; it is started again, later each time that it ends soon."


def _not_started(container: Object, name: str, why: str) -> tuple[Reason, str]:
    if missing := missing_profile(name, asked_profile(container), why):
        return Reason.PROFILE_MISSING, missing
    return Reason.CONTAINER_FAILING, f"Container {name} can't be started: {why}"
