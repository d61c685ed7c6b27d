"""What a command says of something that it can't read."""

from claude_sandbox.api.clip import plain


class UnreadableError(Exception):
    """What was asked for could not be read: why, and what may help."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def told(self) -> str:
        """For a terminal: servers, sandboxes and files in a directory chose some of the words."""
        said = "\n".join(map(plain, str(self).split("\n")))
        return f"Error: {said}" + (f"\nRemedy: {plain(self.remedy)}" if self.remedy else "")
