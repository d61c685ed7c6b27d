"""Files that are on no disk, for libraries and programs that take a secret only by a file's name."""

import os
from types import TracebackType
from typing import Self


class MemoryFile:
    """Bytes that can be read, by this user's processes only, at `path` until it is closed. Linux only."""

    def __init__(self, content: bytes = b"") -> None:
        self.descriptor = os.memfd_create("claude-sandbox", os.MFD_CLOEXEC)
        # ssh refuses a key that others could read.
        os.fchmod(self.descriptor, 0o600)
        os.write(self.descriptor, content)
        # Not /proc/self: another process opens it, and the descriptor is not inherited.
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def take(self, limit: int) -> bytes:
        """The last `limit` bytes that were written to it, which is empty then."""
        end = os.fstat(self.descriptor).st_size
        found = os.pread(self.descriptor, limit, max(0, end - limit))
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return found

    def close(self) -> None:
        """Forget the bytes. Closing twice does no harm."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
