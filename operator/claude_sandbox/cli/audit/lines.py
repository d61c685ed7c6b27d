"""Lines of the gateway's audit: which are some, and which are asked for. Pure.

What is in a line was chosen by a hostile agent, as far as it could: a name, a model, a session. The gateway makes it
plain, but whoever hands the file on may not have; so it is made plain again, and numbers that are none count nothing.
"""

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

KINDS = ("request", "tunnel", "http", "git", "service")
VERDICTS = ("Allowed", "Refused", "Failed", "Cancelled")
MAX_LINE = 64 * 1024
"""Bytes of a line; the gateway's are a few hundred."""
_TOO_MUCH = 2**63
"""No number of the gateway's is as large; nor is what is no number (NaN) smaller."""
_STRANGE = re.compile(r"[^\x20-\x7e]")

Value = str | int | float | bool


@dataclass(frozen=True)
class Line:
    """One request or tunnel, at its end."""

    time: datetime
    kind: str
    fields: Mapping[str, Value]

    def text(self, name: str) -> str:
        """A field as text; empty where it is not there."""
        found = self.fields.get(name)
        return "" if found is None else str(found)

    def number(self, name: str) -> int:
        """A count; 0 where it is not there, or is none."""
        found = self.fields.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0

    @property
    def sandbox(self) -> str:
        """How people call it: NAMESPACE/NAME where they are known, else the UID, else nothing."""
        name = self.text("name")
        return f"{self.text('namespace')}/{name}" if name and self.text("namespace") else name or self.text("sandbox")

    @property
    def destination(self) -> str:
        """`NAME` or `NAME:PORT`, as it stands in spec.network.egress.allowedDomains; a repository; a service, with the
        method and the path; empty for the model's API."""
        if self.kind == "git":
            return self.text("repository")
        if self.kind == "service":
            return " ".join(filter(None, map(self.text, ("service", "method", "path"))))
        host, port = self.text("host"), self.number("port")
        ordinary = port in (0, 443 if self.kind == "tunnel" else 80)
        return host if ordinary else f"{host}:{port}"


def parse(data: bytes) -> Line | None:
    """Read a line, also one that `kubectl logs --prefix --timestamps` put something before; None for what is none."""
    start = data.find(b"{")
    if start < 0 or len(data) > MAX_LINE:
        return None
    try:
        document = json.loads(data[start:])
        kind, time = document.pop("kind"), datetime.fromisoformat(document.pop("time")).astimezone(UTC)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    if kind not in KINDS or document.get("verdict") not in VERDICTS:
        return None
    fields = {
        plain(name): plain(value) if isinstance(value, str) else value
        for name, value in document.items()
        if isinstance(value, str) or (isinstance(value, int | float) and abs(value) < _TOO_MUCH)
    }
    return Line(time, kind, fields)


def plain(text: str) -> str:
    """The text without what a terminal would obey."""
    return _STRANGE.sub("?", text)


@dataclass(frozen=True)
class Filter:
    """Which lines are asked for; what is empty asks for all. `domains` and `models` are patterns with `*`."""

    verdicts: frozenset[str] = frozenset()
    sandboxes: frozenset[str] = frozenset()
    since: datetime | None = None
    domains: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def takes(self, line: Line) -> bool:
        """Whether the line is one of them."""
        names = {line.text("sandbox"), line.text("name"), line.sandbox} - {""}
        return (
            (not self.verdicts or line.text("verdict") in self.verdicts)
            and (not self.sandboxes or not names.isdisjoint(self.sandboxes))
            and (self.since is None or line.time >= self.since)
            and (not self.domains or _matches(line.text("host").lower(), self.domains))
            and (not self.models or _matches(line.text("model"), self.models))
        )


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return bool(text) and any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
