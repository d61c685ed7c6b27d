"""What a live container says about the sandbox: can it be worked with, and if not, why and what to do. Pure."""

from dataclasses import replace
from datetime import datetime

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.backends.docker import health
from claude_sandbox.backends.docker.engine.documents import Object, name_of, running
from claude_sandbox.backends.docker.gateway.gateways import Gateway
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
    clauses = (*(pressure if running(container) else ()), *(unsupported if status is ConditionStatus.TRUE else ()))
    if clauses:
        message = f"{message} {'But' if status is ConditionStatus.TRUE else 'And'} {'; '.join(clauses)}."
    return WorkloadState(
        status,
        reason,
        message,
        workload=workload_of(container, host),
        key_generation=key_generation,
        # An engine tells that a container became unhealthy, and not that it still is.
        again=health.interval(container) if health.status(container) == "unhealthy" else None,
        pressure=pressure if running(container) else (),
    )


def with_gateway(found: WorkloadState, wanted: Gateway | None, observed: Observed) -> WorkloadState:
    """The state of a sandbox that has a gateway for its only way out: without it, it can't be worked with.

    The key that is in use is the one that the gateway has.
    """
    if wanted is None:
        return found
    live, revision = observed.gateway.container, observed.gateway_revision
    generation = revision.rpartition(".")[0] if revision else None
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
    elif not wanted.is_followed(revision, None):
        message = f"Claude Code can run, but its gateway {name_of(live)} has not taken what the spec allows yet."
    else:
        return replace(found, message=f"{found.message} Its way out is the gateway {name_of(live)}.")
    return replace(found, status=ConditionStatus.FALSE, reason=Reason.GATEWAY_NOT_READY, message=message)


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
        case "unhealthy" if health.answers(container):
            message = (
                f"Container {name} runs, but Claude Code can't work in it: it has no key, or can't write to its home. "
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
            return Reason.CONTAINER_FAILING, f"Container {name} can't be started: {why}"
        return Reason.POD_PENDING, f"Container {name} is about to be started."
    if status in ("removing", "dead"):
        return Reason.POD_TERMINATING, f"Container {name} is being removed; a new one is made when it is gone."
    if state.get("OOMKilled"):
        return (
            Reason.CONTAINER_FAILING,
            f"Container {name} needed more memory than spec.resources.memory and was killed; it is started again.",
        )
    if why := state.get("Error"):
        return Reason.CONTAINER_FAILING, f"Container {name} can't be started: {why}"
    if code == NO_SHELL and brought:
        return Reason.IMAGE_NOT_USABLE, UNUSABLE.format(image=container.get("Config", {}).get("Image"))
    how = {_KILLED: "was killed", _TERMINATED: "was told to end"}.get(code or 0, f"ended with exit code {code}")
    return Reason.CONTAINER_FAILING, f"Container {name} {how}; it is started again, later each time that it ends soon."
