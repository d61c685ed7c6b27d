"""What becomes of a newer image under the tag that a sandbox names."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.lifecycle import duration
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule, matching

_CLOCK = matching(
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]", 'must be a time of the day in UTC as a string, for example "22:00"'
)
# A rule, and no bound of the schema: with a bound alone the API server takes 2.0 too.
_A_DAY_AT_MOST = Rule(
    "self <= 24", lambda hours: hours <= 24, "must be at most 24: for a window that is always open, leave it out"
)
_SHORT = matching("[1-9][0-9]{0,3}s|[1-9][0-9]{0,2}m|[1-9][0-9]?h", "must be a number and s, m or h, for example 10m")
_WAIT = matching(
    "0m|[1-9][0-9]{0,5}m|[1-9][0-9]{0,3}h|[1-9][0-9]{0,2}d", "must be a number and m, h or d, from 0m, for example 7d"
)


class Strategy(Choice):
    """What is done about a newer image."""

    NONE = "None"
    """Nothing is looked for."""
    NOTIFY = "Notify"
    """It is told of."""
    AUTO = "Auto"
    """The sandbox is given it, and the one before back where it does not work."""


class Day(Choice):
    """A day of the week."""

    MONDAY = "Mon"
    TUESDAY = "Tue"
    WEDNESDAY = "Wed"
    THURSDAY = "Thu"
    FRIDAY = "Fri"
    SATURDAY = "Sat"
    SUNDAY = "Sun"


class Window(Strict):
    """When a workload may be replaced, in UTC."""

    start: Annotated[str, Field(min_length=5, max_length=5), _CLOCK]
    """When it opens, for example "22:00"."""
    hours: Annotated[int, Field(ge=1), _A_DAY_AT_MOST]
    """For how many hours it is open."""
    days: Annotated[list[Day], Field(max_length=7)] = []
    """The days on which it opens; without any, each."""

    def is_open(self, now: datetime) -> bool:
        """Whether it is, at a time with a zone. It may have opened the day before."""
        now = now.astimezone(UTC)
        hour, minute = map(int, self.start.split(":"))
        for day in (now, now - timedelta(days=1)):
            opens = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
            if self.days and list(Day)[opens.weekday()] not in self.days:
                continue
            if opens <= now < opens + timedelta(hours=self.hours):
                return True
        return False


class Requires(Choice):
    """What a workload of a newer image has to be."""

    READY = "Ready"
    """Ready, for as long as stableFor says."""
    COMPLIANT = "Compliant"
    """That, and no required control is worse than it was with the image before."""


class HealthGate(Strict):
    """When a newer image is taken to work."""

    ready_within: Annotated[str, Field(max_length=5), _SHORT] | None = None
    """How long the new workload may take to be ready, by default 10m; else the image before comes back."""
    stable_for: Annotated[str, Field(max_length=5), _SHORT] | None = None
    """How long it has to be ready without a break, by default 5m. One that fails meanwhile has the image before come
    back.
    """
    requires: Requires | None = None
    """What it has to be after that. Ready: nothing more. Compliant: no required control may Fail that did not before,
    and none be Unknown that was not; one that fails has the image before come back, and for what is Unknown it is
    waited, for readyWithin once more. Compliant is the default of profile Production and of level Hardened, Ready of
    others.
    """

    @property
    def within(self) -> str:
        """How long the new workload may take to be ready."""
        return self.ready_within or "10m"

    @property
    def stable(self) -> str:
        """How long it has to be ready without a break."""
        return self.stable_for or "5m"


class Canary(Choice):
    """What Auto tries beside the running workload before it replaces that."""

    NONE = "None"
    """Nothing: the workload is replaced at once."""
    IMAGE = "Image"
    """Whether Claude Code runs in the image."""
    COMMAND = "Command"
    """That, while spec.command runs with spec.args."""


class UpdatePolicy(Strict):
    """What becomes of a newer image under spec.image.tag. The registry has to be one that a ClaudeImagePolicy lets the
    operator ask, and the image one that every such policy permits, by its digest.
    """

    strategy: Strategy | None = None
    """None: nothing is looked for. Notify, the default: a newer one is told of in status.image and by an Event. Auto:
    the workload is replaced by one of it when the agent is idle and the window is open, and by one of the image before
    where it does not work; an image that did not work is not tried again.
    """
    window: Window | None = None
    """When Auto may replace the workload; without it, at any time."""
    health_gate: HealthGate | None = None
    """When Auto takes a newer image to work; without it, by the defaults of its fields."""
    canary: Canary | None = None
    """What Auto tries before it replaces the workload, in another one of the newer image beside it: as hardened, with
    the same limits, but without a network, a key, and what is in the workspace. It has to be ready within healthGate's
    readyWithin and for stableFor; else the workload is never touched. Image, the default: Claude Code runs in it.
    Command: while spec.command runs in it, which then has to work so. None: nothing is tried. Where there is no room
    for it nothing is either, and status.image says so.
    """
    max_age: Annotated[str, Field(max_length=7), _WAIT] | None = None
    """How long Auto waits for the agent to be idle, from when the newer image was found, for example 7d. After that the
    next window is enough; 0m: it does not wait. Without it, for as long as the agent works.
    """

    RULES = (
        Rule(
            "(has(self.strategy) && self.strategy == 'Auto')"
            " || !(has(self.window) || has(self.healthGate) || has(self.maxAge) || has(self.canary))",
            lambda policy: (
                policy.strategy is Strategy.AUTO
                or not (policy.window or policy.health_gate or policy.max_age or policy.canary)
            ),
            "has window, healthGate, maxAge or canary, which say how Auto replaces the workload: write strategy Auto,"
            " or remove them",
            field="strategy",
        ),
    )

    @property
    def follows(self) -> bool:
        """Whether newer images are looked for."""
        return self.strategy is not Strategy.NONE

    @property
    def tries_beside(self) -> bool:
        """Whether a newer image is tried beside the workload first."""
        return self.canary is not Canary.NONE

    @property
    def gate(self) -> HealthGate:
        """When an image is taken to work."""
        return self.health_gate or HealthGate()

    @property
    def waits(self) -> timedelta | None:
        """How long it is waited for the agent to be idle; None: for ever."""
        return None if self.max_age is None else duration(self.max_age)
