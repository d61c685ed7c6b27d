"""What went wrong in working with a sandbox, and what may help."""

from collections.abc import Mapping

from claude_sandbox.api import meta
from claude_sandbox.cli.unreadable import remedy_of
from claude_sandbox.kubernetes_api.errors import ApiError

WORKER_ROLE, EDITOR_ROLE = "claudesandbox-worker", "claudesandbox-editor"
"""The ClusterRoles of manifests/rbac/users for who works in sandboxes, and for who makes them."""
ROLES: Mapping[str, str] = {
    f"get {meta.PLURAL}": WORKER_ROLE,
    f"create {meta.SESSION_PLURAL}": WORKER_ROLE,
    "get pods": WORKER_ROLE,
    "get pods/log": WORKER_ROLE,
    "get and create pods/exec": WORKER_ROLE,
    f"create {meta.PLURAL}": EDITOR_ROLE,
    f"patch {meta.PLURAL}": EDITOR_ROLE,
    f"get {meta.BACKUP_PLURAL}": EDITOR_ROLE,
    f"create {meta.BACKUP_PLURAL}": EDITOR_ROLE,
}
"""By which of them somebody gets a right. All others are for an administrator to give by a role of its own."""


class WorkError(Exception):
    """It could not be done: why, and what may help. Both are shown as they are, so they are plain."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def refused(error: ApiError, what: str, right: str, namespace: str) -> WorkError:
    """Of a request to the API server. `what` was asked for, as a sentence's subject; `right` is needed for it, in the
    namespace, or where that is empty in the cluster."""
    where = f"{right} in namespace {namespace}" if namespace else f"{right} in the cluster"
    remedy = remedy_of(error, where, right.rpartition(" ")[2].partition("/")[0])
    if error.is_forbidden:
        return WorkError(f"{what} may not be had: {error}.", f"{remedy}{_role(right, namespace)}")
    if error.is_unauthorized:
        return WorkError(f"The API server does not know you: {error}.", remedy)
    can = "is not there" if error.is_not_found else "can't be had"
    return WorkError(f"{what} {can}: {error}.", remedy)


def _role(right: str, namespace: str) -> str:
    role = ROLES.get(right)
    if role is None or not namespace:
        return ""
    return (
        f" The ClusterRole {role} has it: kubectl create rolebinding NAME --clusterrole={role} --user=YOU"
        f" --namespace={namespace}"
    )
