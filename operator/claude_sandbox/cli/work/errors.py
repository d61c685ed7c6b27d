"""What went wrong in working with a sandbox, and what may help."""

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.errors import ApiError

WORKER_ROLE = "claudesandbox-worker"
"""The ClusterRole of manifests/rbac/users for who works in sandboxes."""


class WorkError(Exception):
    """It could not be done: why, and what may help. Both are shown as they are, so they are plain."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def refused(error: ApiError, what: str, right: str, namespace: str) -> WorkError:
    """Of a request to the API server. `what` was asked for, as a sentence's subject; `right` is needed for it."""
    if error.is_forbidden:
        return WorkError(
            f"{what} may not be had: {error}.",
            f"Ask for the right to {right} in namespace {namespace}. The ClusterRole {WORKER_ROLE} has it: kubectl"
            f" create rolebinding NAME --clusterrole={WORKER_ROLE} --user=YOU --namespace={namespace}",
        )
    if error.is_unauthorized:
        return WorkError(f"The API server does not know you: {error}.", "Log in again, or see: kubectl auth whoami")
    if error.is_not_found:
        return WorkError(f"{what} is not there: {error}.", f"Look for it with: kubectl get {meta.PLURAL} -A")
    return WorkError(f"{what} can't be had: {error}.", "See that the API server answers: kubectl cluster-info")
