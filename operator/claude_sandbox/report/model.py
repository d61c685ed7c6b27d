"""A report: sandboxes, and what each control found of each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from claude_sandbox.api.spec import BackendType, Level, Profile
from claude_sandbox.api.status import Result, Severity
from claude_sandbox.compliance.evidence.exemptions import Exemption


class Verdict(StrEnum):
    """Whether everything required holds, of one sandbox or of all."""

    COMPLIANT = "Compliant"
    NOT_COMPLIANT = "NotCompliant"
    NOT_VERIFIED = "NotVerified"


@dataclass(frozen=True)
class Reference:
    """The same demand in another catalogue."""

    framework: str
    version: str
    id: str


@dataclass(frozen=True)
class ControlEntry:
    """What is said of a control once, for all sandboxes. `known`: whether this version's catalogue has it."""

    id: str
    title: str
    severity: Severity
    family: str
    level: str = ""
    references: tuple[Reference, ...] = ()
    known: bool = True
    meaning: str = ""
    """What is so where it passes."""
    why: str = ""
    """What can happen where it does not."""

    @property
    def page(self) -> str:
        """Where the project's documentation has more of it; empty of one that the catalogue does not have."""
        return f"docs/reference/controls/{self.id}.md" if self.known else ""

    @property
    def elsewhere(self) -> str:
        """The same demand in other catalogues, each of them named once."""
        found: dict[str, list[str]] = {}
        for one in self.references:
            found.setdefault(" ".join(filter(None, (one.framework, one.version))), []).append(one.id)
        return "; ".join(f"{catalogue}: {', '.join(ids)}" for catalogue, ids in found.items())


@dataclass(frozen=True)
class Evidence:
    """What a result rests on. `observed_at`: None where it was fresh when the sandbox was evaluated."""

    source: str
    observed_at: datetime | None = None
    value: str = ""


@dataclass(frozen=True)
class Outcome:
    """One control's result for one sandbox."""

    control: str
    result: Result
    required: bool
    message: str = ""
    remedy: str = ""
    evidence: Evidence | None = None
    exemption: Exemption | None = None
    """Why, and until when, it may fail or be Unknown."""

    @property
    def decides(self) -> bool:
        """Whether the verdict depends on it."""
        return self.required and self.exemption is None


@dataclass(frozen=True)
class Condition:
    """A condition of the sandbox, as its status has it."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Measured:
    """What has outcomes, in the catalogue's order."""

    outcomes: tuple[Outcome, ...]

    @property
    def failing(self) -> tuple[Outcome, ...]:
        """What the verdict depends on and fails."""
        return tuple(one for one in self.outcomes if one.decides and one.result is Result.FAIL)

    @property
    def undecided(self) -> tuple[Outcome, ...]:
        """What the verdict depends on and is not known to hold."""
        return tuple(one for one in self.outcomes if one.decides and one.result is Result.UNKNOWN)

    @property
    def verdict(self) -> Verdict:
        """What nothing was measured of is not verified."""
        if self.failing:
            return Verdict.NOT_COMPLIANT
        return Verdict.NOT_VERIFIED if self.undecided or not self.outcomes else Verdict.COMPLIANT

    @property
    def counts(self) -> Mapping[Result, int]:
        """How many controls have each result."""
        return counted(self.outcomes)

    @property
    def required(self) -> tuple[int, int]:
        """How many of the required controls that apply pass, and how many there are."""
        asked = [one for one in self.outcomes if one.required and one.result is not Result.NOT_APPLICABLE]
        return sum(one.result is Result.PASS for one in asked), len(asked)


@dataclass(frozen=True, kw_only=True)
class Sandbox(Measured):
    """A ClaudeSandbox and its outcomes, in the catalogue's order.

    `measured_at` is when its controls last came out differently; a status does not tell of later evaluations that came
    out the same. None where it was never measured. `doubt` says why nothing that passed counts; empty where it does.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    backend: BackendType
    profile: Profile
    level: Level
    measured_at: datetime | None
    conditions: tuple[Condition, ...] = ()
    workload: str = ""
    place: str = ""
    """The node or the DockerHost."""
    image: str = ""
    read_only_workspace: bool = False
    doubt: str = ""

    @property
    def full_name(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Host(Measured):
    """A DockerHost and its outcomes. Its verdict is its own: no sandbox's depends on it."""

    name: str
    uid: str = ""
    generation: int = -1
    endpoint: str = ""
    """How its engine is reached, as its spec says."""
    measured_at: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """What its engine says of itself and of the machine: words, and what is said."""
    placed: int = 0
    """How many sandboxes its status says are placed there, in whatever namespaces."""
    sandboxes: tuple[str, ...] = ()
    """Those of them that the report is about, as NAMESPACE/NAME."""
    doubt: str = ""


@dataclass(frozen=True)
class Change:
    """A control that came out differently for a sandbox. `was` is None where it had no result before."""

    sandbox: str
    control: str
    was: Result | None
    now: Result


@dataclass(frozen=True)
class Changes:
    """What is different from an earlier report, of the time `since`. Sandboxes are NAMESPACE/NAME."""

    since: str
    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Day:
    """How sandboxes stood at a day's end, in UTC, and what happened on it."""

    day: date
    sandboxes: Mapping[Verdict, int]
    worse: int
    """Results that became worse: from Pass to Unknown to Fail."""
    better: int
    healed: int
    denied: int
    """Records of what a gateway did not let an agent to."""


@dataclass(frozen=True)
class Trend:
    """Days in their order, without gaps. `source`: where the audit trail was read."""

    days: tuple[Day, ...]
    source: str = ""


@dataclass(frozen=True)
class Report:
    """Sandboxes by namespace and name. `origin`: where they were read; `scope`: which were asked for, as a phrase."""

    generated_at: datetime
    version: str
    origin: str
    scope: str
    sandboxes: tuple[Sandbox, ...]
    controls: Mapping[str, ControlEntry] = field(default_factory=dict)
    """By their identifiers, every control that a sandbox has an outcome of, in the catalogue's order."""
    note: str = ""
    """What is not known of all of it, as a sentence."""
    hosts: tuple[Host, ...] = ()
    """DockerHosts by name, where they could be read."""
    host_controls: Mapping[str, ControlEntry] = field(default_factory=dict)
    """By their identifiers, the controls of hosts."""
    changes: Changes | None = None
    """None where it was not compared with an earlier one."""
    trend: Trend | None = None
    """None where no audit trail was read."""

    @property
    def verdict(self) -> Verdict:
        """The worst of all sandboxes'. Of none nothing is verified: a namespace may be the wrong one."""
        if not self.sandboxes:
            return Verdict.NOT_VERIFIED
        verdicts = {one.verdict for one in self.sandboxes}
        for worst in (Verdict.NOT_COMPLIANT, Verdict.NOT_VERIFIED):
            if worst in verdicts:
                return worst
        return Verdict.COMPLIANT

    @property
    def verdicts(self) -> Mapping[Verdict, int]:
        """How many sandboxes have each verdict."""
        count = Counter(one.verdict for one in self.sandboxes)
        return {verdict: count[verdict] for verdict in Verdict}

    @property
    def counts(self) -> Mapping[Result, int]:
        """How many results of each kind there are in all."""
        return counted(outcome for sandbox in self.sandboxes for outcome in sandbox.outcomes)


def counted(outcomes: Iterable[Outcome]) -> Mapping[Result, int]:
    """How many outcomes have each result."""
    count = Counter(one.result for one in outcomes)
    return {result: count[result] for result in Result}


def sentence(report: Report) -> str:
    """What a report comes to, for people."""
    if not report.sandboxes:
        return f"No ClaudeSandbox was found, so nothing was measured. Asked for: {report.scope}."
    count = report.verdicts
    parts = [
        f"{count[verdict]} {words}"
        for verdict, words in (
            (Verdict.NOT_COMPLIANT, "not compliant"),
            (Verdict.NOT_VERIFIED, "not verified"),
            (Verdict.COMPLIANT, "compliant"),
        )
        if count[verdict]
    ]
    return f"{many(len(report.sandboxes), 'sandbox', 'sandboxes')}: {', '.join(parts)}."


def many(count: int, one: str, more: str) -> str:
    """A number with its word, "1 sandbox", "2 sandboxes"."""
    return f"{count} {one if count == 1 else more}"
