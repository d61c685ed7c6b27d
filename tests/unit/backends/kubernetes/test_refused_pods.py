"""What is said of a pod that its node refused."""

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.kubernetes.state import state_of


def test_a_node_that_can_not_leave_out_groups_of_the_image_is_told_with_the_remedy() -> None:
    message = "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node"
    status = {"phase": "Failed", "reason": "SupplementalGroupsPolicyNotSupported", "message": message}
    state = state_of({"metadata": {"name": "sandbox-alice", "uid": "1"}, "spec": {}, "status": status})
    assert state.reason is Reason.POD_FAILED
    assert message in state.message
    assert "containerd 2.0" in state.message
    assert "--supplemental-groups-policy=Merge" in state.message
