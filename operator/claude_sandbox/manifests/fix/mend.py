"""Mends what fails in a file, and says what was changed and what is left.

What was changed counts as mended only where the file, judged again, passes: nothing is claimed that was not seen.
"""

from dataclasses import dataclass, replace

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.fix import pods, services
from claude_sandbox.manifests.fix.edit import Edit
from claude_sandbox.manifests.fix.written import UnwritableError, Written
from claude_sandbox.manifests.judge import Outcome, judge
from claude_sandbox.manifests.judged import Judged, Standard

_ROUNDS = 5
"""What is mended can uncover what else is wrong: an option that counts only once a container isn't privileged."""
_IF_UNKNOWN = ("PRIV-04", "PRIV-05", "NS-04")
"""What of a service is mended where it is Unknown too, since the service names neither a user nor a namespace."""


@dataclass(frozen=True)
class Change:
    """Something that was changed for a control, and whether that passes now; `why` not, where it doesn't."""

    target: str
    line: int
    control: str
    what: str
    mended: bool = False
    why: str = ""


@dataclass(frozen=True)
class Left:
    """A required control that fails, and what to do about it."""

    target: str
    line: int
    control: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Mended:
    """The file's text as it is mended, what was changed in it, what is left, and what is found in it now."""

    text: str
    changes: tuple[Change, ...]
    left: tuple[Left, ...]
    outcome: Outcome


def mend(source: Text, standard: Standard) -> Mended:
    """Mend what fails and is required, as far as that can be done without knowing what the file is for."""
    text, changes = source.text.removeprefix("\ufeff"), list[Change]()
    first = outcome = judge([source], standard)
    for _ in range(_ROUNDS):
        written = Written(text)
        made = [change for one in outcome.judged for change in _mend_one(one, written)]
        if not made:
            break
        changes += made
        text = written.text()
        outcome = judge([Text(source.file, text, source.directory)], standard)
    # Lines are those of the file as it was given.
    lines = {_name(one): one.line for one in first.judged}
    found = {(_name(one), each.control.id): each for one in outcome.judged for each in one.findings}
    left = [
        Left(_name(one), lines.get(_name(one), one.line), each.control.id, each.verdict.message, each.remedy)
        for one in outcome.judged
        for each in one.findings
        if each.required and each.result is Result.FAIL
    ]
    told = tuple(replace(_told(one, found), line=lines.get(one.target, one.line)) for one in changes)
    return Mended(text, told, tuple(left), Outcome(outcome.judged, first.problems))


def _mend_one(one: Judged, written: Written) -> list[Change]:
    if not one.at:
        return []
    of_service = one.target["kind"] == "ComposeService"
    mends = services.MENDS if of_service else pods.MENDS
    wanted = [each for each in one.findings if each.control.id in mends and _is_wanted(each, of_service=of_service)]
    if not wanted:
        return []
    try:
        value = written.at(one.at)
    except UnwritableError:
        return []
    made = []
    for each in wanted:
        edit = Edit(value)
        mends[each.control.id](edit)
        made += [Change(_name(one), one.line, each.control.id, what) for what in edit.changes]
    if made:
        written.change(one.at)
    return made


def _is_wanted(finding: Finding, *, of_service: bool) -> bool:
    if not finding.required:
        return False
    if finding.result is Result.UNKNOWN:
        return of_service and finding.control.id in _IF_UNKNOWN
    return finding.result is Result.FAIL


def _told(change: Change, found: dict[tuple[str, str], Finding]) -> Change:
    now = found.get((change.target, change.control))
    mended = now is not None and now.result is Result.PASS
    why = "" if mended or now is None else now.verdict.message
    return Change(change.target, change.line, change.control, change.what, mended, why)


def _name(one: Judged) -> str:
    return " ".join(
        (one.target["kind"], "/".join(one.target[key] for key in ("namespace", "name") if key in one.target))
    )
