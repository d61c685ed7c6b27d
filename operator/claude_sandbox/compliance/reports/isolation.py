"""The `IsolationVerified` condition, from what the network's controls found."""

from collections.abc import Sequence

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.reports.findings import Finding

Judgement = tuple[ConditionStatus, Reason, str]
"""A condition's status, reason and message."""

PROOF = "NET-03"
"""The control that is judged by a probe."""
DETAILS = ("NET-04", "NET-05", "NET-07", "NET-09")
"""The controls that say again what the proof says, of a part of it."""
PROBED = (PROOF, *DETAILS, "KERN-07")
"""The controls that are judged by a probe alone."""
_FAMILY = "NET-"


def proven(found: Sequence[Finding], documents: str, *, under_way: bool = False) -> Judgement:
    """Of a workload whose documents are right, which `documents` says as the beginning of a sentence. `under_way`:
    whether nothing is known yet of what can be reached, since that is being tried.

    True takes a probe that proves the denial, and that every other control of the network passes or does not apply.
    """
    network = [one for one in found if one.control.id.startswith(_FAMILY) and one.control.id not in DETAILS]
    proof = next((one for one in network if one.control.id == PROOF), None)
    if proof is not None and proof.result is Result.FAIL:
        return ConditionStatus.FALSE, Reason.DESTINATION_REACHED, f"{documents}, and {proof.verdict.message}."
    if proof is None or proof.result is not Result.PASS:
        why = f": {proof.verdict.message}" if proof is not None else ""
        message = f"{documents}; that nothing can be reached is not proven{why}."
        return ConditionStatus.UNKNOWN, Reason.PROBE_UNDER_WAY if under_way else Reason.NOT_PROBED, message
    for wanted in (Result.FAIL, Result.UNKNOWN):
        others = [one for one in network if one.result is wanted]
        if others:
            named = "; ".join(f"{one.control.id}: {one.verdict.message}" for one in others)
            status = ConditionStatus.FALSE if wanted is Result.FAIL else ConditionStatus.UNKNOWN
            reason = Reason.POLICY_WIDENED if wanted is Result.FAIL else Reason.OBSERVATION_FAILED
            return status, reason, f"What is denied could not be reached, but {named}."
    return ConditionStatus.TRUE, Reason.POLICY_IN_PLACE, f"{documents}, and what is denied could not be reached."
