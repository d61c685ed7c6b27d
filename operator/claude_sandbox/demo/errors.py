"""The one exception of the demo."""

from collections.abc import Iterable


class DemoError(Exception):
    """A step that did not succeed.

    `message` says what failed, `remedy` what to do about it, `logs` are commands or files that tell more.
    """

    def __init__(self, message: str, remedy: str, logs: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.logs = tuple(logs)
