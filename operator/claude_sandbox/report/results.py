"""What a status has of controls, and what that is worth now."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from claude_sandbox.api.conditions import ConditionType, Reason
from claude_sandbox.api.status import Result, Severity
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.report import given
from claude_sandbox.report.entries import ORDER, entry
from claude_sandbox.report.model import Condition, ControlEntry, Evidence, Outcome

MAX_OUTCOMES = 256
"""Results of one sandbox; a status has no room for a quarter of them."""

_WORST = (Result.FAIL, Result.UNKNOWN, Result.NOT_APPLICABLE, Result.PASS)
_NO_EVIDENCE = frozenset({Reason.EVALUATION_OVERDUE, Reason.EVALUATION_FAILED})


def found_in(
    compliance: Mapping[str, Any], required: Mapping[str, bool], exceptions: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Outcome], dict[str, ControlEntry]]:
    """What the status has of each control, and what is said of each for all sandboxes."""
    outcomes: dict[str, Outcome] = {}
    entries: dict[str, ControlEntry] = {}
    for group in given.objects(compliance, "passed"):
        evidence = _evidence(group)
        for identifier in map(given.text, given.items(group, "controls")[:MAX_OUTCOMES]):
            _add(outcomes, Outcome(identifier, Result.PASS, required.get(identifier, False), evidence=evidence))
            entries[identifier] = entry(identifier, "", Severity.CRITICAL)
    for control in given.objects(compliance, "controls")[:MAX_OUTCOMES]:
        outcome = _outcome(control, exceptions)
        _add(outcomes, outcome)
        # What can't be told apart from the worst is taken for it.
        severity = given.choice(Severity, control.get("severity"), Severity.CRITICAL)
        entries[outcome.control] = entry(outcome.control, given.text(control.get("title")), severity)
    return outcomes, entries


def _add(outcomes: dict[str, Outcome], outcome: Outcome) -> None:
    before = outcomes.get(outcome.control)
    if before is None or _WORST.index(outcome.result) < _WORST.index(before.result):
        outcomes[outcome.control] = outcome


def _outcome(control: Mapping[str, Any], exceptions: Sequence[Mapping[str, Any]]) -> Outcome:
    return Outcome(
        control=given.text(control.get("id")),
        result=given.choice(Result, control.get("result"), Result.UNKNOWN),
        required=control.get("required") is True,
        message=given.text(control.get("message")),
        remedy=given.text(control.get("remedy")),
        evidence=_evidence(given.fields(control, "evidence")),
        exemption=_exemption(control, exceptions),
    )


def _exemption(control: Mapping[str, Any], exceptions: Sequence[Mapping[str, Any]]) -> Exemption | None:
    """What the status says is excepted, with the words of the spec."""
    identifier, until = given.text(control.get("id")), given.text(control.get("exceptedUntil"))
    try:
        expires = date.fromisoformat(until)
    except ValueError:
        return None
    said: Mapping[str, Any] = next((one for one in exceptions if one.get("control") == identifier), {})
    told = [given.text(said.get(key)) or "not told" for key in ("reason", "owner")]
    return Exemption(identifier, told[0], told[1], expires)


def outcomes(
    found: Mapping[str, Outcome], asked: Mapping[str, bool], doubt: str, *, measured: bool
) -> tuple[Outcome, ...]:
    """Every outcome in the catalogue's order: those of the status, and of what it does not have that it is Unknown."""
    why = "this control is not in the status: the operator is of another version than this command"
    missing = {
        identifier: Outcome(identifier, Result.UNKNOWN, required, message=why if measured else doubt)
        for identifier, required in asked.items()
        if identifier not in found
    }
    doubted = {identifier: _doubted(one, doubt) if doubt else one for identifier, one in found.items()}
    everything = missing | doubted
    return tuple(everything[identifier] for identifier in sorted(everything, key=order))


def _doubted(outcome: Outcome, doubt: str) -> Outcome:
    if outcome.result in (Result.FAIL, Result.UNKNOWN):
        return outcome
    message = f"it was {outcome.result.value}, but {doubt}"
    return Outcome(outcome.control, Result.UNKNOWN, outcome.required, message, evidence=outcome.evidence)


def doubt_of(metadata: Mapping[str, Any], status: Mapping[str, Any], conditions: Sequence[Condition]) -> str:
    """Why the status' passes can't be taken for what is so now; empty where they can."""
    generation, observed = given.number(metadata.get("generation")), given.number(status.get("observedGeneration"))
    if generation != observed:
        return f"the status is about generation {observed} of the resource, which is at {generation} now"
    compliant = [one for one in conditions if one.type == ConditionType.COMPLIANT]
    if not compliant:
        return "the status has no condition Compliant"
    for lapsed in (one for one in compliant if one.reason in _NO_EVIDENCE):
        return f"the condition Compliant has the reason {lapsed.reason}: {lapsed.message}".rstrip(" .")
    return ""


def unmeasured(conditions: Sequence[Condition]) -> str:
    """Why a status has no results."""
    told = [one.message or one.reason for one in conditions if one.type == ConditionType.COMPLIANT]
    if not told:
        return "the operator has not measured it; see whether the operator runs"
    return f"nothing was measured: {told[0]}".rstrip(" .")


def condition(one: Mapping[str, Any]) -> Condition:
    """A condition as the status has it."""
    return Condition(*(given.text(one.get(key)) for key in ("type", "status", "reason", "message")))


def _evidence(group: Mapping[str, Any]) -> Evidence | None:
    source = given.text(group.get("source"))
    return Evidence(source, given.time(group.get("observedAt")), given.text(group.get("value"))) if source else None


def order(identifier: str) -> tuple[int, str]:
    """As the catalogue's, with what it does not have at the end."""
    return ORDER.get(identifier, len(ORDER)), identifier
