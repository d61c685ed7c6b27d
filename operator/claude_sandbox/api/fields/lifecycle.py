"""How long the workload may run, and what becomes of the sandbox then."""

import re
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import A_DAY, Rule, matching

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGER = "[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d"
_TTL = matching(
    f"(?:[6-9][0-9]|[1-9][0-9]{{2,6}})s|[1-9][0-9]{{0,5}}m|{_LONGER}",
    "must be a number and s, m, h or d, from 1m to 9999d, for example 8h",
)
# A gateway tells what was answered within 60 s, and a request counts when it is over: with less, whoever waits for one
# long answer would be idle.
_IDLE = matching(
    f"(?:[3-9][0-9]{{2}}|[1-9][0-9]{{3,6}})s|(?:[5-9]|[1-9][0-9]{{1,5}})m|{_LONGER}",
    "must be a number and s, m, h or d, from 5m to 9999d, for example 30m",
)
TIME = matching(
    "20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z",
    'must be a time in UTC as a string, for example "2027-03-31T18:00:00Z"',
)
"""A time in UTC, as it is written in a spec."""


class ShutdownPolicy(Choice):
    """What becomes of a sandbox whose time is over."""

    SUSPEND = "Suspend"
    DELETE = "Delete"


class Lifecycle(Strict):
    """How long the workload may run. At the first of these times it ends; five minutes before, or a tenth of the time
    where that is less, a warning Event says so.

    A later time, or none, brings a suspended sandbox back.
    """

    ttl: Annotated[str, Field(min_length=2, max_length=8), _TTL] | None = None
    """How long after the sandbox was made its time is over, for example 8h: from 1m to 9999d. Suspended or not, it
    passes."""
    shutdown_time: Annotated[str, Field(min_length=20, max_length=20), TIME, A_DAY] | None = None
    """When its time is over, in UTC, for example "2027-03-31T18:00:00Z"."""
    idle_timeout: Annotated[str, Field(min_length=2, max_length=8), _IDLE] | None = None
    """How long after the last answered request to the model its time is over, for example 30m: from 5m to 9999d. Only
    with spec.credentials.delivery Brokered, and only while the sandbox is Ready.

    A request counts when it is over. `claude-sandbox shell` counts too, where its user may patch the sandbox, and so
    does `claude-sandbox resume`. Sessions by kubectl or docker don't. What runs on without asking the model, a build,
    counts by the CPU that it takes, where that can be read: it puts the end off once, by idleTimeout at most.
    """
    shutdown_policy: ShutdownPolicy | None = None
    """Suspend, the default: as with spec.operatingMode Suspended. Delete: the ClaudeSandbox is deleted, and its
    workspace with it where spec.workspace.retention says so."""

    RULES = (
        Rule(
            "has(self.ttl) || has(self.shutdownTime) || has(self.idleTimeout)",
            lambda lifecycle: bool(lifecycle.ttl or lifecycle.shutdown_time or lifecycle.idle_timeout),
            "has no time, so that nothing comes of it: write ttl, shutdownTime or idleTimeout, or remove it",
        ),
    )

    @property
    def lives(self) -> timedelta | None:
        """How long after it was made its time is over."""
        return None if self.ttl is None else duration(self.ttl)

    @property
    def shuts_down(self) -> datetime | None:
        """When its time is over."""
        return utc(self.shutdown_time)

    @property
    def rests_after(self) -> timedelta | None:
        """How long after the last sign of activity its time is over."""
        return None if self.idle_timeout is None else duration(self.idle_timeout)

    @property
    def deletes(self) -> bool:
        """Whether the sandbox is deleted then, and not suspended."""
        return self.shutdown_policy is ShutdownPolicy.DELETE

    @property
    def bound(self) -> str:
        """By which field the sandbox ends whatever it does, for example `spec.lifecycle.ttl: 8h`; empty: by none."""
        given = (("ttl", self.ttl), ("shutdownTime", self.shutdown_time))
        return ", ".join(f"spec.lifecycle.{name}: {value}" for name, value in given if value is not None)


def utc(text: object) -> datetime | None:
    """The moment that is written in RFC 3339, in UTC with a Z; None for anything else."""
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def duration(text: str) -> timedelta:
    """Of a number and s, m, h or d. Raises ValueError."""
    found = re.fullmatch("([0-9]{1,7})([smhd])", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
