"""What is said of a sandbox whose Docker host is compromised: nothing of what it was is known any more. Pure."""

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason

Told = tuple[ConditionStatus, Reason, str]
_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


def conditions(host: str, stays: str = "") -> dict[ConditionType, Told]:
    """All of them. What its host would say of it counts for nothing. `stays`: why it does not begin anew elsewhere."""
    why = (
        f"Its DockerHost {host} is compromised, by that one's spec.incident: nothing is asked of it, and what runs"
        " there is not stopped."
    )
    unknown = (_UNKNOWN, Reason.HOST_COMPROMISED, f"DockerHost {host} is compromised: what it says is not believed.")
    remedy = stays or "Delete the sandbox and make it anew elsewhere, with spec.restoreFrom of a verified backup."
    return {
        ConditionType.READY: (_FALSE, Reason.HOST_COMPROMISED, f"{why} {remedy}"),
        ConditionType.RECONCILING: (_FALSE, Reason.HOST_COMPROMISED, "Nothing is done for it on that host."),
        ConditionType.STALLED: (_TRUE, Reason.HOST_COMPROMISED, f"{why} {remedy}"),
        ConditionType.COMPLIANT: unknown,
        ConditionType.ISOLATED: unknown,
        ConditionType.CREDENTIALS: (
            _FALSE,
            Reason.HOST_COMPROMISED,
            f"What it was given was on DockerHost {host}: revoke it, and write another key into the Secret.",
        ),
        ConditionType.DRIFTED: unknown,
    }
