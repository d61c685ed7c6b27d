"""What a control is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.api.clip import plain
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import BackendType, Profile
from claude_sandbox.api.status import EvidenceSource, Result, Severity
from claude_sandbox.compliance.pods.view import View

ALWAYS = frozenset(Profile)
"""Required in every profile."""
PRODUCTION = frozenset({Profile.PRODUCTION})
"""Required in Production; measured and reported in Development."""
OPTIONAL: frozenset[Profile] = frozenset()
"""Measured and reported, never required."""


class Level(StrEnum):
    """What asks for a control."""

    BASELINE = "Baseline"
    """The baseline Pod Security Standard."""
    RESTRICTED = "Restricted"
    """The restricted Pod Security Standard."""
    SANDBOX = "Sandbox"
    """What a place for an agent needs beyond that: the default of this operator."""
    HARDENED = "Hardened"
    """Hardening that has to be opted in to."""


class Evidence(StrEnum):
    """What a control needs to have been read: the names of the readings in KubernetesEvidence."""

    POD = "pod"
    NAMESPACE = "namespace"
    POLICIES = "policies"
    SERVICES = "services"
    SLICES = "slices"
    SERVICE_ACCOUNT = "service_account"
    ACCESS = "access"
    GRANTS = "grants"
    RUNTIME_CLASS = "runtime_class"
    QUOTAS = "quotas"
    DRIFT = "drift"


@dataclass(frozen=True)
class Verdict:
    """What a control found. `value` is what was seen; neither it nor the message ever holds a secret or a time.

    Both may name what a sandbox or an image chose: they are made plain here, for whoever prints them.
    """

    result: Result
    message: str = ""
    value: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", plain(self.message))
        object.__setattr__(self, "value", plain(self.value))


@dataclass(frozen=True)
class Mapping:
    """The same demand in another catalogue: `version` is the edition in which it has this `id`."""

    framework: str
    version: str
    id: str


@dataclass(frozen=True)
class Control:
    """One thing that is measured.

    `judge` is only asked when everything in `needs` was read and is fresh; a control without `judge` can't be
    decided from what is read in this version, and `unproven` says what would decide it.
    """

    id: str
    title: str
    severity: Severity
    level: Level
    remedy: str
    judge: Callable[[View], Verdict] | None = None
    needs: tuple[Evidence, ...] = (Evidence.POD,)
    weighs: tuple[Evidence, ...] = ()
    """What it looks at beside that; what it means that it could not be read is the judge's to say."""
    required: frozenset[Profile] = ALWAYS
    mappings: tuple[Mapping, ...] = ()
    backends: tuple[BackendType, ...] = (BackendType.KUBERNETES,)
    unproven: str = ""
    unseen: str = ""
    """What of its subject no evidence of pods tells, and who could; as a sentence."""
    decided_by: EvidenceSource = EvidenceSource.LIVE_OBJECT


def listed(
    id: str,
    title: str,
    severity: Severity,
    *,
    by: EvidenceSource,
    how: str,
    remedy: str,
    mappings: tuple[Mapping, ...] = (),
    level: Level = Level.SANDBOX,
) -> Control:
    """A control that is listed, always Unknown and not required, because its evidence is not gathered yet."""
    return Control(
        id, title, severity, level, remedy, needs=(), required=OPTIONAL, mappings=mappings, unproven=how, decided_by=by
    )


def passed(value: str = "") -> Verdict:
    """It is as it should be."""
    return Verdict(Result.PASS, value=value)


def failed(message: str, value: str = "") -> Verdict:
    """It is not."""
    return Verdict(Result.FAIL, message, value)


def unknown(message: str, value: str = "") -> Verdict:
    """It could not be told."""
    return Verdict(Result.UNKNOWN, message, value)


def not_applicable(message: str) -> Verdict:
    """There is nothing to judge."""
    return Verdict(Result.NOT_APPLICABLE, message)


def guarded(read: Callable[[], Verdict]) -> Verdict:
    """What `read` finds; Unknown where it raises, whatever it raises: what it looked at is another's to choose."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        return unknown(mishap(error))


def judged(problems: Iterable[str], value: str = "") -> Verdict:
    """Fails with all `problems`, or passes where there are none."""
    found = list(problems)
    return failed("; ".join(found), value) if found else passed(value)


def maps(
    *,
    pss: tuple[str, ...] = (),
    cis_docker: tuple[str, ...] = (),
    kubescape: tuple[str, ...] = (),
    trivy: tuple[str, ...] = (),
) -> tuple[Mapping, ...]:
    """The mappings of a control, by the identifiers that each catalogue gives."""
    catalogues = (
        ("Pod Security Standards", "1.37", pss),
        # docker-bench-security's numbering, which differs from other editions that call themselves 1.6.0.
        ("CIS Docker Benchmark (docker-bench-security)", "1.6.0", cis_docker),
        ("Kubescape", "", kubescape),
        ("Trivy", "", trivy),
    )
    return tuple(Mapping(framework, version, one) for framework, version, ids in catalogues for one in ids)
