"""What an organization's policy makes of a report: what is required, and what may fail for a reason until a day.

As `compliance/policy.py` has it for what is measured just now; here it is what statuses say.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from claude_sandbox.api.clip import plain
from claude_sandbox.api.meta import KIND
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.policy import Policy
from claude_sandbox.report.entries import asked_of
from claude_sandbox.report.model import Outcome, Report, Sandbox


def by_policy(report: Report, policy: Policy, today: date) -> tuple[Report, tuple[Exemption, ...]]:
    """The report as the policy has it, and the exceptions that nothing needs. `today` is in UTC."""
    used: set[Exemption] = set()
    sandboxes = tuple(_sandbox(one, policy, today, used) for one in report.sandboxes)
    unneeded = tuple(_plain(one) for one in policy.exceptions if one not in used)
    return replace(report, sandboxes=sandboxes), unneeded


def _sandbox(sandbox: Sandbox, policy: Policy, today: date, used: set[Exemption]) -> Sandbox:
    level = policy.level
    asked = None if level is None else asked_of(sandbox.backend, sandbox.profile, level)
    outcomes = tuple(_outcome(one, sandbox, policy, asked, today, used) for one in sandbox.outcomes)
    return replace(sandbox, outcomes=outcomes)


def _outcome(
    outcome: Outcome,
    sandbox: Sandbox,
    policy: Policy,
    asked: Mapping[str, bool] | None,
    today: date,
    used: set[Exemption],
) -> Outcome:
    required = outcome.required if asked is None else asked.get(outcome.control, outcome.required)
    required = outcome.control in policy.required or (required and outcome.control not in policy.optional)
    outcome = replace(outcome, required=required)
    if outcome.result not in (Result.FAIL, Result.UNKNOWN):
        return outcome
    target = f"{KIND} {sandbox.full_name}"
    those = [one for one in policy.exceptions if one.control == outcome.control and one.is_of(target)]
    if not those:
        return outcome
    last = max(those, key=lambda one: one.expires)
    used.add(last)
    if today <= last.expires:
        return replace(outcome, exemption=_plain(last))
    expired = f"its exception by {plain(last.owner)} expired on {last.expires}"
    return replace(outcome, message=f"{outcome.message}; {expired}" if outcome.message else expired)


def _plain(one: Exemption) -> Exemption:
    return replace(one, reason=plain(one.reason), owner=plain(one.owner))
