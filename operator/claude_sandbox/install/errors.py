"""The one exception of whoever sets something up: the demo and the installation on one machine."""

from collections.abc import Iterable


class SetupError(Exception):
    """A step that did not succeed.

    `message` says what failed, `remedy` what to do about it, `logs` are commands or files that tell more.
    """

    def __init__(self, message: str, remedy: str, logs: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.logs = tuple(logs)
