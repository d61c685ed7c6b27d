"""What a command says of something that it can't read."""


class UnreadableError(Exception):
    """What was asked for could not be read: why, and what may help."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
