"""The three checklists of the security guide that this project began with, each line answered by what was measured.

A line rests on controls, on conditions and on what a ClaudeSandbox declares. One that nothing of these can answer is
Unknown, and says what would answer it: a list whose lines are ticked because nobody looked is worth nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from claude_sandbox.api.conditions import ConditionStatus, ConditionType
from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import Result
from claude_sandbox.report.entries import ORDER
from claude_sandbox.report.model import Outcome, Report, Sandbox

_WORST = (Result.FAIL, Result.UNKNOWN, Result.PASS, Result.NOT_APPLICABLE)
_NAMED = 3

Answer = tuple[str, Result]
"""What was asked, in a word, and what came out."""


@dataclass(frozen=True)
class Line:
    """A line of a checklist: by which controls and conditions it is answered, or why nothing answers it.

    `also` answers by what is neither.
    """

    text: str
    controls: tuple[str, ...] = ()
    conditions: tuple[ConditionType, ...] = ()
    also: Callable[[Sandbox], tuple[Answer, ...]] | None = None
    unmeasured: str = ""


@dataclass(frozen=True)
class CheckedLine:
    """What came out of a line. `sandboxes`: those with the result, where it is Fail or Unknown."""

    text: str
    result: Result
    why: str
    controls: tuple[str, ...] = ()
    sandboxes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedList:
    """A checklist, answered."""

    title: str
    lines: tuple[CheckedLine, ...]


def _every_required(sandbox: Sandbox) -> tuple[Answer, ...]:
    """An exception answers nothing."""
    return tuple((_asked(one), one.result) for one in sandbox.outcomes if one.required or one.exemption)


def _asked(outcome: Outcome) -> str:
    """What is said here is in words of our own: an identifier that is not the catalogue's may be any text."""
    return outcome.control if outcome.control in ORDER else "a control that is not in the catalogue"


def _measured(sandbox: Sandbox) -> tuple[Answer, ...]:
    """A control that fails was measured."""
    return tuple(
        (_asked(one), Result.UNKNOWN if one.result is Result.UNKNOWN else Result.PASS)
        for one in sandbox.outcomes
        if one.required
    )


def _in_production(sandbox: Sandbox) -> tuple[Answer, ...]:
    return (("spec.profile", Result.PASS if sandbox.profile is Profile.PRODUCTION else Result.FAIL),)


def _read_only(sandbox: Sandbox) -> tuple[Answer, ...]:
    return (("spec.workspace.readOnly", Result.PASS if sandbox.read_only_workspace else Result.FAIL),)


CHECKLISTS: tuple[tuple[str, tuple[Line, ...]], ...] = (
    (
        "Before first use",
        (
            Line(
                "Set security up (security-setup.sh)",
                (
                    *("PRIV-01", "PRIV-02", "PRIV-03", "PRIV-04", "KERN-01", "FS-01", "FS-02", "FS-03"),
                    *("RES-01", "RES-02", "OPS-03"),
                ),
            ),
            Line("Give it a real API key", ("SEC-01", "SEC-02", "SEC-05"), (ConditionType.CREDENTIALS,)),
            Line("Review the security settings", also=_every_required),
            Line("Test it (security-check.sh)", ("OPS-04",), also=_measured),
        ),
    ),
    (
        "Regular maintenance (monthly)",
        (
            # By its age: no control knows whether an image has a newer release.
            Line("Update base images", conditions=(ConditionType.IMAGE_CURRENT,)),
            Line(
                "Review security logs",
                unmeasured="No control can see that somebody read them; claude-sandbox audit shows what was refused.",
            ),
            Line(
                "Look for known flaws in dependencies",
                unmeasured="No control looks into an image; have a scanner look at the digests in this report.",
            ),
            # True once one was restored and compared. A sandbox without spec.backup has no such condition: Unknown.
            Line("Test backup and restore", conditions=(ConditionType.BACKUP_VERIFIED,)),
        ),
    ),
    (
        "Before production use",
        (
            Line("Say that it is production", also=_in_production),
            Line("Make the workspace read-only", ("FS-08",), also=_read_only),
            Line(
                "Restrict the network",
                ("NET-01", "NET-02", "NET-03", "NET-06", "NET-08", "NET-10", "NET-11", "NET-12", "NET-13", "NS-06"),
            ),
            Line(
                "Set up monitoring and alerts",
                unmeasured="OPS-01 says that health is checked. That somebody reads the operator's metrics and is "
                "alerted can't be seen from a sandbox.",
            ),
            Line(
                "Document what is done in an incident",
                unmeasured="A document is no property of a sandbox; the guide and docs/operations.md have the steps.",
            ),
        ),
    ),
)


def checked(report: Report) -> tuple[CheckedList, ...]:
    """Every list with every line answered, the worst answer of all sandboxes counting."""
    return tuple(CheckedList(title, tuple(_line(line, report) for line in lines)) for title, lines in CHECKLISTS)


def _line(line: Line, report: Report) -> CheckedLine:
    if line.unmeasured:
        return CheckedLine(line.text, Result.UNKNOWN, line.unmeasured)
    answers = [(sandbox, asked, result) for sandbox in report.sandboxes for asked, result in _answers(line, sandbox)]
    if not answers:
        return CheckedLine(line.text, Result.UNKNOWN, "There is no sandbox to ask.", line.controls)
    worst = min((result for _, _, result in answers), key=_WORST.index)
    those = [(sandbox, asked) for sandbox, asked, result in answers if result is worst]
    names = tuple(dict.fromkeys(sandbox.full_name for sandbox, _ in those))
    asked = tuple(dict.fromkeys(asked for _, asked in those))
    controls = tuple(dict.fromkeys(asked for _, asked, _ in answers if asked in report.controls))
    why = _why(worst, asked, len(names), len(report.sandboxes))
    bad = worst in (Result.FAIL, Result.UNKNOWN)
    return CheckedLine(line.text, worst, why, controls, names if bad else ())


def _answers(line: Line, sandbox: Sandbox) -> Iterator[Answer]:
    results = {one.control: one.result for one in sandbox.outcomes}
    # A control that is not there is none of this backend's.
    yield from ((one, results[one]) for one in line.controls if one in results)
    states = {one.type: _as_result(one.status) for one in sandbox.conditions}
    for one in line.conditions:
        state = states.get(one, Result.UNKNOWN)
        # As of a control that passed: what was so when the status was written need not be so now.
        yield f"condition {one}", Result.UNKNOWN if sandbox.doubt and state is Result.PASS else state
    if line.also is not None:
        yield from line.also(sandbox)


def _as_result(status: str) -> Result:
    return {ConditionStatus.TRUE: Result.PASS, ConditionStatus.FALSE: Result.FAIL}.get(
        ConditionStatus(status) if status in set(ConditionStatus) else ConditionStatus.UNKNOWN, Result.UNKNOWN
    )


def _why(worst: Result, asked: tuple[str, ...], sandboxes: int, everything: int) -> str:
    more = f" and {len(asked) - _NAMED} more" if len(asked) > _NAMED else ""
    named = ", ".join(asked[:_NAMED]) + more
    where = f"in {sandboxes} of {everything} sandbox{'' if everything == 1 else 'es'}"
    match worst:
        case Result.FAIL:
            return f"Fails {where}: {named}."
        case Result.UNKNOWN:
            return f"Not known {where}: {named}."
        case Result.NOT_APPLICABLE:
            return f"Does not apply: {named}."
    return f"Holds {where}: {named}."
