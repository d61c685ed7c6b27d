"""How the proxy refuses."""


class RefusedError(Exception):
    """The client is told this, with this status. `rule`: for the audit. `retry`: seconds to wait, where that helps."""

    def __init__(self, status: int, message: str, rule: str, retry: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.rule = rule
        self.retry = retry
