"""The status of a Docker host that follows from what one look at it found. Pure: the clock is an argument."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.docker_hosts.conditions import HostConditionType, HostReason
from claude_sandbox.api.docker_hosts.incident import HostIncidentStatus
from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.docker_hosts.status import (
    MAX_NAMED,
    Amounts,
    DockerHostStatus,
    DrainStatus,
    EngineStatus,
    HostCondition,
    KeptWorkspaces,
    MeantNamespace,
    SecurityOptions,
    Staying,
    StayReason,
)
from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.api.status_fields.due import DueDate, DueSubject
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.connection.certificates import CertificateEnd
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentialsError
from claude_sandbox.backends.docker.engine.connection.errors import ConnectErrorReason
from claude_sandbox.backends.docker.hosts.capacity import Allocatable, Allocated, capacity_of
from claude_sandbox.backends.docker.hosts.hosts import HostState
from claude_sandbox.backends.docker.hosts.placement import Stay
from claude_sandbox.compliance.docker_hosts.host import Host
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments, HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.docker_hosts import evaluate
from claude_sandbox.controller.machinery.conditions import stamped
from claude_sandbox.controller.machinery.merge_patch import without_times

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

PATIENCE = 30.0
"""Seconds without an answer after which a host that was ready is not known to be: an engine restarts within them."""
RENEWED_BEFORE = timedelta(days=30)
"""How long before its end a certificate is to be exchanged."""
CERTIFICATES = 2
"""In a Secret for an engine by TLS: the authority's and the operator's."""
EVIDENCE_AGE = timedelta(minutes=3)
"""How old what an engine said of itself may be and still count; it is asked every minute."""

_REASONS = {
    ConnectErrorReason.UNREACHABLE: HostReason.ENGINE_UNREACHABLE,
    ConnectErrorReason.SLOW: HostReason.ENGINE_SLOW,
    ConnectErrorReason.DENIED: HostReason.ACCESS_DENIED,
    ConnectErrorReason.UNTRUSTED: HostReason.ENGINE_UNTRUSTED,
    ConnectErrorReason.UNSUPPORTED: HostReason.ENGINE_UNSUPPORTED,
    ConnectErrorReason.BAD_CREDENTIALS: HostReason.SECRET_INVALID,
}


@dataclass(frozen=True)
class State:
    """A condition without its times."""

    status: ConditionStatus
    reason: HostReason
    message: str = ""


@dataclass(frozen=True)
class DrainProgress:
    """How far the draining of a host is.

    `moved`: how many sandboxes left it since it began; `moving`: how many are on their way or wait for their turn;
    `stays`: the others, as namespace/name, and why they stay.
    """

    moved: int = 0
    moving: int = 0
    stays: Mapping[str, Stay] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.moved} moved, {self.moving} moving, {len(self.stays)} staying"


@dataclass(frozen=True)
class HostFindings:
    """What one look found. `spec` is None where it could not be understood; then `invalid` says why.

    `secret` is why the Secret can't be used; `secret_unread` why nobody knows. `same_engine` is the older DockerHost
    that stands for the same engine, `compromised` one by which it was declared compromised. `demands` are those of the
    sandboxes that are placed on the host. `drain` is None where it is not being drained. `namespaces` are those that
    the spec names. `kept` are the volumes of workspaces whose namespace is gone; None where that was not found out now.
    `incident`: of one that is compromised, of which nothing else is asked.
    """

    spec: DockerHostSpec | None
    invalid: str = ""
    secret: ClientCredentialsError | None = None
    secret_unread: str = ""
    known: HostState = field(default_factory=HostState)
    same_engine: str | None = None
    compromised: str | None = None
    demands: Allocated = field(default_factory=Allocated)
    drain: DrainProgress | None = None
    namespaces: tuple[MeantNamespace, ...] = ()
    kept: tuple[str, ...] | None = None
    certificates: tuple[CertificateEnd, ...] = ()
    incident: HostIncidentStatus | None = None


def conditions_of(found: HostFindings, compliance: Compliance | None, now: datetime) -> dict[HostConditionType, State]:
    """Every condition, in the order in which they are shown."""
    stalled = _stalled(found)
    return {
        HostConditionType.READY: _ready(found, stalled),
        HostConditionType.RECONCILING: _reconciling(found, stalled),
        HostConditionType.STALLED: stalled,
        HostConditionType.COMPLIANT: _compliant(compliance),
        HostConditionType.DRAINED: drained(found),
        HostConditionType.CERTIFICATES_CURRENT: _certificates(found, now),
    }


def due_of(found: HostFindings) -> list[DueDate]:
    """When which certificate is to be exchanged, the earliest first."""
    dates = [
        DueDate(
            what=DueSubject.CERTIFICATE,
            name=one.key,
            at=(one.at - RENEWED_BEFORE).replace(microsecond=0),
            message=f"It ends on {one.at:%Y-%m-%d}: make another, and put it into the host's Secret.",
        )
        for one in found.certificates
    ]
    return sorted(dates, key=lambda date: (date.at, date.name))


def _certificates(found: HostFindings, now: datetime) -> State:
    """Told by days, so that it turns with a date and is written no more often."""
    if found.spec is None or found.secret is not None or found.secret_unread:
        return State(UNKNOWN, HostReason.CERTIFICATES_UNREAD, "Nothing is known of its certificates.")
    if found.spec.address.scheme != "tcp" or found.spec.credentials_secret_ref is None:
        return State(TRUE, HostReason.NO_CERTIFICATES, "It is reached without certificates.")
    if len(found.certificates) < CERTIFICATES:
        return State(UNKNOWN, HostReason.CERTIFICATES_UNREAD, "A certificate of its Secret can't be read.")
    first = min(found.certificates, key=lambda one: one.at)
    where = f"{first.key} of Secret {found.spec.credentials_secret_ref.name}"
    if first.at <= now:
        message = f"{where} ended on {first.at:%Y-%m-%d}: put another one there."
        return State(FALSE, HostReason.CERTIFICATE_EXPIRED, message)
    if first.at - RENEWED_BEFORE <= now:
        message = f"{where} ends on {first.at:%Y-%m-%d}: make another, and put it there."
        return State(FALSE, HostReason.CERTIFICATE_DUE, message)
    return State(TRUE, HostReason.CERTIFICATES_LAST, f"The first that ends is {where}, on {first.at:%Y-%m-%d}.")


def ready(found: HostFindings) -> State:
    """The condition Ready."""
    return _ready(found, _stalled(found))


def drained(found: HostFindings) -> State:
    """The condition Drained."""
    drain, state = found.drain, ready(found)
    if drain is None:
        return State(FALSE, HostReason.NOT_DRAINING, "spec.drain is false.")
    left = drain.moving + len(drain.stays)
    if not left:
        return State(TRUE, HostReason.NO_SANDBOX_LEFT, f"No sandbox is left: {drain}.")
    if state.status is not TRUE:
        message = f"The host does not answer, so nothing can be moved from it: {drain}. {left} may still run there."
        return State(UNKNOWN, state.reason, message)
    why = "; ".join(
        f"{one.count} because of {one.reason} ({', '.join(one.sandboxes)}{', …' if one.count > MAX_NAMED else ''})"
        for one in _staying(drain.stays.items())
    )
    if drain.moving:
        return State(FALSE, HostReason.DRAINING, f"{drain}{f': {why}' if why else ''}.")
    return State(FALSE, HostReason.SANDBOXES_STAY, f"{drain}: {why}. What to do is in status.drain.staying.")


def meant(
    named: Iterable[str], before: Iterable[Mapping[str, Any]], uid_of: Callable[[str], str | None]
) -> tuple[MeantNamespace, ...]:
    """The namespaces that a spec names, by those that were known `before` and what is there now.

    Whose UID was known before stays the one that is meant, for as long as it is named.
    """
    known = {str(one.get("name")): str(one.get("uid")) for one in before}
    now = {name: uid_of(name) for name in named}
    # Or who makes a namespace of a name that is free by now would get what its former one was allowed.
    found = {name: known.get(name) or uid for name, uid in now.items()}
    return tuple(
        MeantNamespace(name=name, uid=uid, replaced=now[name] not in (None, uid)) for name, uid in found.items() if uid
    )


def _kept(volumes: tuple[str, ...]) -> KeptWorkspaces | None:
    if not volumes:
        return None
    message = (
        "Their namespace is gone, or another has its name by now, so nobody's sandbox gets them. Copy out what is"
        " wanted, and remove them on the host: docker volume ls --filter"
        f" label={names.LABEL_COMPONENT}={names.WORKSPACE}; docker volume rm NAME."
    )
    return KeptWorkspaces(count=len(volumes), volumes=list(volumes[:MAX_NAMED]), message=message)


def compose(previous: Mapping[str, Any], generation: int, found: HostFindings, now: datetime) -> dict[str, Any]:
    """The whole status as it goes over the wire. `previous` is the status that the object has now."""
    compliance = _measured(found, now)
    documents = found.known.documents
    capacity = free = None
    if documents is not None and found.spec is not None:
        room = capacity_of(found.spec.capacity, documents.info)
        capacity, free = _amounts(room), _amounts(room.without(found.demands))
    before, states = previous.get("conditions") or (), conditions_of(found, compliance, now)
    status = DockerHostStatus(
        observed_generation=generation,
        conditions=stamped(HostCondition, before, states, generation, now),
        engine=None if documents is None else engine_of(documents),
        capacity=capacity,
        free=free,
        sandboxes=found.demands.sandboxes,
        drain=None if found.drain is None else _drain(found.drain),
        incident=found.incident,
        namespaces=list(found.namespaces),
        kept_workspaces=_kept(found.kept or ()),
        due=due_of(found),
        last_contact=None if found.known.contact is None else found.known.contact.replace(microsecond=0),
        compliance=compliance,
    )
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    # Not looked for this time, which is not the same as none.
    if found.kept is None and (kept := previous.get("keptWorkspaces")):
        dumped["keptWorkspaces"] = kept
    for field_ in ("namespaces", "due"):
        if not dumped[field_]:
            del dumped[field_]
    if found.incident is not None and (engine := previous.get("engine")):
        # By which another DockerHost for the same engine is told.
        dumped["engine"] = engine
    if status.compliance is not None:
        slim = [
            control.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for control in status.compliance.controls
        ]
        dumped["compliance"]["controls"] = slim
    return dumped


def worth_writing(previous: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether anything but a time changed: that an engine goes on answering is no news."""
    return _timeless(previous) != _timeless(status)


def moved_before(status: Mapping[str, Any]) -> int:
    """How many sandboxes were moved since the draining began that the status tells of."""
    return int((status.get("drain") or {}).get("moved") or 0)


def is_news(previous: Mapping[str, Any], kind: HostConditionType, state: State) -> bool:
    """Whether a condition that there was already has another status or reason now."""
    before = [one for one in previous.get("conditions") or () if one["type"] == kind]
    return any((one["status"], one["reason"]) != (state.status, state.reason) for one in before)


def _timeless(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in without_times(status).items() if key != "lastContact"}


def _stalled(found: HostFindings) -> State:
    error = found.known.error
    if found.incident is not None:
        return State(TRUE, HostReason.HOST_COMPROMISED, _compromised(found.incident))
    if found.spec is None:
        return State(TRUE, HostReason.INVALID_SPEC, found.invalid)
    if found.secret is not None:
        return State(TRUE, found.secret.reason, found.secret.message)
    if error is not None and not error.passes:
        return State(TRUE, _REASONS[error.reason], _sentence(error.message))
    if found.compromised is not None:
        message = (
            f"The DockerHost {found.compromised}, which stands for the same engine, is compromised: delete this one, or"
            " end that incident when the host is installed anew."
        )
        return State(TRUE, HostReason.DUPLICATE_ENGINE, message)
    if found.same_engine is not None:
        message = f"The DockerHost {found.same_engine} stands for the same engine: delete one of them."
        return State(TRUE, HostReason.DUPLICATE_ENGINE, message)
    return State(FALSE, HostReason.NOT_STALLED)


def _compromised(incident: HostIncidentStatus) -> str:
    keys = len(incident.secrets) + incident.more_secrets
    return (
        "By spec.incident it is compromised: nothing is placed there, asked of it or given to it. There were"
        f" {incident.sandboxes} sandboxes and {keys} keys: status.incident names them, and what to do in which order."
    )


def _ready(found: HostFindings, stalled: State) -> State:
    known = found.known
    if stalled.status is TRUE:
        return State(FALSE, stalled.reason, stalled.message)
    if known.error is not None and known.error.reason is ConnectErrorReason.SLOW:
        return State(FALSE, HostReason.ENGINE_SLOW, f"{_sentence(known.error.message)} What runs there is left alone.")
    # An engine that is just restarting stays Ready, or each restart would make every sandbox on it Unknown.
    if known.documents is not None and (known.error is None or known.silent <= PATIENCE):
        version = engine_of(known.documents).version
        return State(TRUE, HostReason.ENGINE_READY, f"Docker {version} answers.")
    if known.error is not None:
        message = f"{_sentence(known.error.message)} What runs there is left alone."
        return State(UNKNOWN, HostReason.ENGINE_UNREACHABLE, message)
    return State(UNKNOWN, HostReason.NOT_YET_CONTACTED, found.secret_unread or "The engine has not been asked yet.")


def _reconciling(found: HostFindings, stalled: State) -> State:
    if stalled.status is TRUE:
        return State(FALSE, stalled.reason, "Waits for the cause of Stalled to be removed.")
    if _ready(found, stalled).status is TRUE:
        return State(FALSE, HostReason.UP_TO_DATE)
    return State(TRUE, HostReason.CONNECTING, "The engine is tried again every few seconds.")


def _compliant(compliance: Compliance | None) -> State:
    if compliance is None:
        return State(UNKNOWN, HostReason.NOT_EVALUATED, "The engine has not said anything of itself yet.")
    required = [control for control in compliance.controls if control.required]
    failing = [control.id for control in required if control.result is Result.FAIL]
    if failing:
        return State(FALSE, HostReason.CONTROLS_FAIL, f"Required controls fail: {', '.join(failing)}.")
    unverified = [control.id for control in required if control.result is Result.UNKNOWN]
    if unverified:
        return State(UNKNOWN, HostReason.CONTROLS_UNKNOWN, f"Not verified: {', '.join(unverified)}.")
    return State(TRUE, HostReason.ALL_CONTROLS_PASS)


def _measured(found: HostFindings, now: datetime) -> Compliance | None:
    """The controls' results: Unknown throughout where the host is not ready, None where it never said anything."""
    known = found.known
    if found.spec is None or known.documents is None or known.read_at is None:
        return None
    state = ready(found)
    engine: Reading[EngineDocuments] | Unread = Reading(known.documents, EvidenceSource.INSPECT, known.read_at)
    if state.status is not TRUE:
        # What it said before is no evidence of what it is now.
        engine = Unread(f"the host is not ready ({state.reason})")
    address = found.spec.address
    evidence = HostEvidence(
        scheme=address.scheme,
        mutual_tls=address.scheme == "tcp" and found.spec.credentials_secret_ref is not None,
        engine=engine,
        now=now,
        max_age=EVIDENCE_AGE,
    )
    return evaluate(evidence)


def engine_of(documents: EngineDocuments) -> EngineStatus:
    """What the engine says it is."""
    host = Host(HostEvidence("unix", False, Unread(""), datetime.min, timedelta.max), documents)
    security = host.security or {}
    info = host.info
    return EngineStatus(
        id=info.text("ID") or "",
        version=host.release or "",
        api_version=host.version.text("ApiVersion") or "",
        operating_system=info.text("OperatingSystem") or "",
        kernel_version=info.text("KernelVersion") or "",
        architecture=info.text("Architecture") or "",
        storage_driver=info.text("Driver") or "",
        cgroup_driver=info.text("CgroupDriver") or "",
        cgroup_version=info.text("CgroupVersion") or "",
        security_options=SecurityOptions(
            seccomp=security.get("seccomp", {}).get("profile", ""),
            app_armor="apparmor" in security,
            selinux="selinux" in security,
            rootless="rootless" in security,
            user_namespaces="userns" in security,
        ),
    )


def _drain(outlook: DrainProgress) -> DrainStatus:
    return DrainStatus(moved=outlook.moved, moving=outlook.moving, staying=_staying(outlook.stays.items()))


def _staying(stays: Iterable[tuple[str, Stay]]) -> list[Staying]:
    """By reason, in the order of the reasons; of each the first by name."""
    by_reason: dict[StayReason, list[tuple[str, str]]] = {}
    for name, bound in sorted(stays, key=lambda stay: stay[0]):
        by_reason.setdefault(bound.reason, []).append((name, bound.message))
    return [
        Staying(
            reason=reason,
            count=len(found),
            sandboxes=[name for name, _ in found[:MAX_NAMED]],
            message=_sentence(found[0][1]),
        )
        for reason in StayReason
        if (found := by_reason.get(reason))
    ]


def _amounts(room: Allocatable) -> Amounts:
    return Amounts(
        sandboxes=room.sandboxes,
        cpu=None if room.cpu is None else (f"{room.cpu // 1000}" if room.cpu % 1000 == 0 else f"{room.cpu}m"),
        memory=None if room.memory is None else f"{room.memory // 2**20}Mi",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
