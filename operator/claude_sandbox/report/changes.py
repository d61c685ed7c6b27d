"""What came out differently than in an earlier report, which is read from its JSON."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from claude_sandbox.api.status import Result
from claude_sandbox.report.model import Change, Changes, Report, Sandbox

_SINCE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_RANKS = {Result.PASS: 0, Result.NOT_APPLICABLE: 0, Result.UNKNOWN: 1, Result.FAIL: 2}

Results = Mapping[str, Mapping[str, Result]]
"""By NAMESPACE/NAME, the result of each control."""


class NotAReportError(Exception):
    """The document is no report that this version reads; the message says why."""


def changes(before: Any, report: Report) -> Changes:
    """What changed since the report `before`, as `formats.documents` writes it. Raises NotAReportError."""
    if not isinstance(before, Mapping) or before.get("kind") != "ClaudeSandboxReport":
        raise NotAReportError("it is no report")
    if not str(before.get("schemaVersion")).startswith("1."):
        raise NotAReportError("it is a report of a schema that this version does not read")
    since = before.get("generatedAt")
    if not isinstance(since, str) or not _SINCE.fullmatch(since):
        raise NotAReportError("it does not say when it was written")
    earlier = _results(before)
    now = {one.full_name for one in report.sandboxes}
    found = [change for one in report.sandboxes if one.full_name in earlier for change in _of(one, earlier)]
    return Changes(
        since=since,
        worse=tuple(one for one in found if _RANKS[one.now] > _rank(one.was)),
        better=tuple(one for one in found if _RANKS[one.now] < _rank(one.was)),
        new=tuple(one.full_name for one in report.sandboxes if one.full_name not in earlier),
        gone=tuple(sorted(set(earlier) - now)),
    )


def _of(sandbox: Sandbox, earlier: Results) -> list[Change]:
    before = earlier[sandbox.full_name]
    return [Change(sandbox.full_name, one.control, before.get(one.control), one.result) for one in sandbox.outcomes]


def _rank(was: Result | None) -> int:
    """A control that was not there before can only have become worse."""
    return 0 if was is None else _RANKS[was]


def _results(before: Mapping[str, Any]) -> Results:
    found = {}
    for sandbox in _objects(before.get("sandboxes")):
        names = [sandbox.get(key) for key in ("namespace", "name")]
        if not all(isinstance(one, str) and _NAME.fullmatch(one) for one in names):
            raise NotAReportError("it has a sandbox without a name")
        results = {}
        for one in _objects(sandbox.get("results")):
            try:
                results[str(one.get("control"))] = Result(str(one.get("result")))
            except ValueError:
                raise NotAReportError("it has a result that is none") from None
        found["/".join(map(str, names))] = results
    return found


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
