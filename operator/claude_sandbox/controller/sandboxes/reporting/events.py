"""What a pass found that is worth a Kubernetes Event, said once for each time that it becomes so.

Nothing is remembered for it: the sandbox's status as it was before the pass says what was told already.
"""

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.controller.images.gate import image_status
from claude_sandbox.controller.images.updates import events as image_events
from claude_sandbox.controller.sandboxes.incidents import declared
from claude_sandbox.controller.sandboxes.interfaces import Reporter
from claude_sandbox.controller.sandboxes.lifecycle.look import previous
from claude_sandbox.controller.sandboxes.reporting import incident, lifecycle
from claude_sandbox.controller.sandboxes.reporting.conditions import conditions_of
from claude_sandbox.controller.sandboxes.reporting.findings import Findings
from claude_sandbox.controller.sandboxes.store import Raw


def tell(reporter: Reporter, raw: Raw, findings: Findings) -> None:
    """Tell what was done, what is short, what is refused, and what failed and is tried again."""
    outcome = findings.outcome
    if findings.quarantine is not None:
        for reason, message, warning in incident.events(declared.previous(raw), findings.quarantine):
            reporter.tell(raw, reason, message, warning=warning)
        return
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
        # Ready's message has it as well, which is what was told before.
        if before is None or short not in before[1]:
            reporter.tell(raw, "Strained", f"Of what runs: {short}.", warning=True)
    states = conditions_of(findings)
    stalled = states[ConditionType.STALLED]
    if stalled.status is ConditionStatus.TRUE and _was(raw, ConditionType.STALLED) != (
        stalled.reason,
        stalled.message,
    ):
        reporter.tell(raw, "Refused", stalled.message, warning=True)
    _tell_of_time(reporter, raw, findings)
    if findings.admission is not None and not outcome.stale:
        was = image_status((raw.get("status") or {}).get("image"))
        for reason, message, warning in image_events(was, findings.admission.status):
            reporter.tell(raw, reason, message, warning=warning)
    # Each time: the recorder makes one series of it. What lasts is told above, by Stalled.
    if (failed := outcome.failure) and not failed.permanent and failed.reason is Reason.RETRYING:
        reporter.tell(raw, "Failed", failed.message, warning=True)


def _tell_of_time(reporter: Reporter, raw: Raw, findings: Findings) -> None:
    """That its time is over, or soon will be."""
    looked = findings.looked
    if looked is None or not findings.looked_at or findings.outcome.stale:
        return
    before = previous(raw)
    if looked.life.near is not None and before.warned != looked.life.near.at:
        reporter.tell(raw, "EndsSoon", lifecycle.near(looked), warning=True)
    if looked.life.ended is not None and before.ended is None:
        reporter.tell(raw, "Ended", lifecycle.over(looked), warning=True)


def _was(raw: Raw, kind: ConditionType) -> tuple[str, str] | None:
    """The reason and message of a condition, as the status says."""
    for condition in (raw.get("status") or {}).get("conditions") or ():
        if condition["type"] == kind:
            return condition["reason"], condition["message"]
    return None
