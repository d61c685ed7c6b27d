"""What the API server answers when it does not do what it was asked."""

from collections.abc import Mapping
from typing import Any

from claude_sandbox.api.clip import plain

TRANSIENT = frozenset({429, 500, 502, 503, 504})

# Reasons of our own, for what no server answered. CamelCase as metav1.StatusReason.
CONNECTION_FAILED = "ConnectionFailed"
TIMED_OUT = "TimedOut"
TOO_LARGE = "TooLarge"
INVALID_RESPONSE = "InvalidResponse"
UNTRUSTED_SERVER = "UntrustedServer"
CLOSED = "Closed"


class ApiError(Exception):
    """A refused or failed request. Never carries a header of the request or a Secret's data.

    `status` is the HTTP status, 0 where there was no answer; `reason` is metav1.StatusReason or one of this module's
    constants; `retry_after` is in seconds, where the server said so.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after

    def __str__(self) -> str:
        # A webhook's words, and names that somebody made up, are in it; who shows it may be at a terminal.
        return plain(
            f"{self.reason} ({self.status}): {self.message}" if self.status else f"{self.reason}: {self.message}"
        )

    @property
    def is_not_found(self) -> bool:
        """The object, or its kind, does not exist."""
        return self.status == 404

    @property
    def is_already_exists(self) -> bool:
        """A create found an object of that name; after a retry it may be the one that was just created."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def is_conflict(self) -> bool:
        """A precondition (uid, resourceVersion) did not hold."""
        return (self.status == 409 and self.reason != "AlreadyExists") or self._is_another_object

    @property
    def is_gone(self) -> bool:
        """A resourceVersion or a continue token is too old: list again."""
        return self.status == 410

    @property
    def is_unauthorized(self) -> bool:
        """The credential is not accepted."""
        return self.status == 401

    @property
    def is_forbidden(self) -> bool:
        """RBAC, admission or a quota refused it."""
        return self.status == 403

    @property
    def is_permission_denied(self) -> bool:
        """The authorizer refused it (and not an admission plugin): a role lacks a rule."""
        return self.status == 403 and 'User "' in self.message and " cannot " in self.message

    @property
    def is_namespace_terminating(self) -> bool:
        """The namespace is being deleted: nothing can be created in it any more."""
        return self.has_cause("NamespaceTerminating")

    @property
    def is_invalid(self) -> bool:
        """The object itself is refused: it stays refused until it is changed."""
        return self.status in (400, 422) and not self._is_another_object

    @property
    def is_transient(self) -> bool:
        """The same request may succeed a little later."""
        return self.status in TRANSIENT or self.reason in (CONNECTION_FAILED, TIMED_OUT, INVALID_RESPONSE)

    @property
    def is_ambiguous(self) -> bool:
        """The request may have been carried out all the same: only 429 says for sure that it was not."""
        return self.is_transient and self.status != 429

    @property
    def _is_another_object(self) -> bool:
        # A patch with the uid of an object that was recreated since is answered as an attempt to change the uid.
        return self.status == 422 and any(c.get("field") == "metadata.uid" for c in self.details.get("causes") or ())

    def has_cause(self, reason: str) -> bool:
        """Whether the server named this metav1.CauseType."""
        return any(cause.get("reason") == reason for cause in self.details.get("causes") or ())


def from_status(http_status: int, body: Any, retry_after: str | None = None, *, sensitive: bool = False) -> ApiError:
    """The error of a decoded `metav1.Status`, or of anything else that came instead of one.

    `sensitive`: the request was about an object whose content must not be repeated; server's messages quote it.
    """
    status: dict[str, Any] = body if isinstance(body, dict) and body.get("kind") == "Status" else {}
    # The Status's own first: within a watch, which was answered with 200, it is the only one.
    code = int(status.get("code") or http_status)
    reason = str(status.get("reason") or f"HTTP{code}")
    details = dict(status.get("details") or {})
    message = str(status.get("message") or f"the API server answered HTTP {code} without a status")
    # Messages of these codes name the object and the reason, never a value.
    if sensitive and code not in (401, 403, 404, 409, 410, 429):
        message = "the message is withheld because it may quote the object's data"
        details.pop("causes", None)
    return ApiError(code, reason, message, details, _seconds(retry_after, details))


def _seconds(header: str | None, details: Mapping[str, Any]) -> float | None:
    for value in (header, details.get("retryAfterSeconds")):
        try:
            if value:
                return float(value)
        except (TypeError, ValueError):
            continue
    return None
