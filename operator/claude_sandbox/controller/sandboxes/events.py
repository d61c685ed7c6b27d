"""What a pass found that is worth a Kubernetes Event, said once for each time that it becomes so.

Nothing is remembered for it: the sandbox's status as it was before the pass says what was told already.
"""

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.controller.sandboxes import status as report
from claude_sandbox.controller.sandboxes.interfaces import Reporter
from claude_sandbox.controller.sandboxes.store import Raw


def tell(reporter: Reporter, raw: Raw, findings: report.Findings) -> None:
    """Tell what was done, what is short, what is refused, and what failed and is tried again."""
    outcome = findings.outcome
    for what in outcome.healed:
        reporter.tell(raw, "Healed", f"{what}.", warning=False)
    if outcome.created:
        reporter.tell(raw, "Created", f"Created {', '.join(outcome.created)}.", warning=False)
    if outcome.updated:
        reporter.tell(raw, "Updated", f"Updated {', '.join(outcome.updated)}.", warning=False)
    if outcome.removed:
        reporter.tell(raw, "Removed", f"Removed {', '.join(outcome.removed)}.", warning=False)
    before = _was(raw, ConditionType.READY)
    for short in findings.workload.pressure:
        if before is None or short not in before[1]:
            reporter.tell(raw, "Strained", f"Of what runs: {short}.", warning=True)
    states = report.conditions_of(findings)
    stalled = states[ConditionType.STALLED]
    if stalled.status is ConditionStatus.TRUE and _was(raw, ConditionType.STALLED) != (
        stalled.reason,
        stalled.message,
    ):
        reporter.tell(raw, "Refused", stalled.message, warning=True)
    if (failed := outcome.failure) and not failed.permanent and failed.reason is Reason.RETRYING:
        reporter.tell(raw, "Failed", failed.message, warning=True)


def _was(raw: Raw, kind: ConditionType) -> tuple[str, str] | None:
    """The reason and message of a condition, as the status says."""
    for condition in (raw.get("status") or {}).get("conditions") or ():
        if condition["type"] == kind:
            return condition["reason"], condition["message"]
    return None
