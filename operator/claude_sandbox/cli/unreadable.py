"""What a command says of something that it can't read or do, and what may help."""

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.kubernetes_api.errors import UNTRUSTED_SERVER, ApiError


class UnreadableError(Exception):
    """What was asked for could not be read: why, and what may help."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def told(self) -> str:
        """For a terminal: servers, sandboxes and files in a directory chose some of the words."""
        said = "\n".join(map(plain, str(self).split("\n")))
        return f"Error: {said}" + (f"\nRemedy: {plain(self.remedy)}" if self.remedy else "")


def unread(error: ApiError, what: str, right: str, kinds: str = meta.PLURAL) -> UnreadableError:
    """Of a request to the API server. `what` was asked for, as a sentence's subject; `right` is needed for it; `kinds`:
    what to list to find it."""
    if error.is_not_found:
        return UnreadableError(f"{what} is not there.", remedy_of(error, right, kinds))
    can = "may not" if error.is_forbidden else "can't"
    return UnreadableError(f"{what} {can} be read: {error}.", remedy_of(error, right, kinds))


def remedy_of(error: ApiError, right: str, kinds: str = meta.PLURAL) -> str:
    """What to do where the API server did not do what it was asked."""
    if error.is_forbidden:
        return f"Ask for the right to {right}."
    if error.is_unauthorized:
        return "Log in again, or see: kubectl auth whoami"
    if error.is_not_found:
        return f"Look for it with: kubectl get {kinds} --all-namespaces"
    if error.reason == UNTRUSTED_SERVER:
        return "See that this is the cluster that you mean, and that the kubeconfig has its certificate authority."
    return "See that the API server answers: kubectl cluster-info"
