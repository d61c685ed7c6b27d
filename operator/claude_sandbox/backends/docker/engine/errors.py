"""What an engine answers when it does not do what it was asked."""

import re

UNREACHABLE = 0
"""Instead of an HTTP status, where there was no answer."""

_NO_IMAGE = re.compile(r"no such image|reference does not exist|manifest unknown|not found: manifest", re.IGNORECASE)


class EngineError(Exception):
    """A refused or failed call. Never holds what was sent: that may have been a key.

    `status` is the HTTP status, 0 where there was no answer; `message` is the engine's own, or ours where it gave none.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.status})" if self.status else self.message

    @property
    def is_unreachable(self) -> bool:
        """There was no answer: whether the call was carried out is not known."""
        return self.status == UNREACHABLE

    @property
    def is_not_found(self) -> bool:
        """There is no such object."""
        return self.status == 404

    @property
    def is_image_missing(self) -> bool:
        """A container can't be made because its image is not there."""
        return self.status == 404 and bool(_NO_IMAGE.search(self.message))

    @property
    def is_conflict(self) -> bool:
        """The name is taken, or the object is not in the state that the call needs."""
        return self.status == 409

    @property
    def is_invalid(self) -> bool:
        """The engine does not accept the document: it stays refused until it is changed."""
        return self.status == 400

    @property
    def is_pool_overlap(self) -> bool:
        """A network's addresses are in use by another network of the engine."""
        return self.status in (403, 500, 400) and "overlap" in self.message.lower()
