"""Writes what an archive from a sandbox has, below one new directory, and nowhere else.

Theory of operation. It holds a new directory of its own beside the place that something is copied to, and nothing that
was there before is opened. Every step of a path is taken from an open directory and follows no link (`openat`,
O_NOFOLLOW), every file is made anew (O_EXCL), so that nothing that the archive made can be used to leave. Only a whole
copy is given the name that was asked for, by one rename; all else is removed. A crash (SIGKILL) leaves a directory
`.claude-sandbox-…` there, and never a part under the name.

Of a member only its name, its content and whether it can be executed are taken: no owner, no set-user-ID bit, no
device. A link is kept where it can lead nowhere but into the copy, and left out and told where not.
"""

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from claude_sandbox.cli.work.archives.archive import ArchiveError, Kind, Member
from claude_sandbox.cli.work.plain import plain_line

DEEPEST = 200
"""Directories in one another."""
_COPY = "copy"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """Unpacks members that are called `top` or are below it. A context: what is not `keep`-ed is removed at its end.

    Raises ArchiveError for what is not taken, OSError for what this machine has no room or right for.
    """

    def __init__(self, beside: Path, top: bytes, *, most_bytes: int, most_members: int) -> None:
        self._top = top
        self._left_bytes, self._left_members = most_bytes, most_members
        self._limits = (most_bytes, most_members)
        # For its owner alone, until it has its name.
        self._place = Path(tempfile.mkdtemp(prefix=".claude-sandbox-", dir=beside))
        self._root = os.open(self._place, _DIRECTORY)
        self._file = -1
        self.left_out: list[str] = []
        """What was not taken and why, for people; the first hundred."""
        self.left_out_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_file()
        os.close(self._root)
        shutil.rmtree(self._place, ignore_errors=True)

    @property
    def copied(self) -> Path | None:
        """What is whole so far; None where nothing came."""
        path = self._place / _COPY
        return path if os.path.lexists(path) else None

    def keep(self, final: Path) -> bool:
        """Give the copy its name, and say whether it could be: only a file takes the place of another."""
        self._end_file()
        copied = self._place / _COPY
        # A rename would replace an empty directory, or fail: neither is what was asked for.
        if os.path.lexists(final) and (final.is_dir() or copied.is_dir()):
            return False
        copied.rename(final)
        return True

    def take(self, one: Member | bytes) -> None:
        """A member, or a piece of the content of the last one."""
        if isinstance(one, bytes):
            if self._file >= 0:
                view = memoryview(one)
                while view:
                    view = view[os.write(self._file, view) :]
            return
        self._end_file()
        self._left_members -= 1
        self._left_bytes -= one.size
        if self._left_members < 0:
            raise ArchiveError(f"it has more than {self._limits[1]} files and directories")
        if self._left_bytes < 0:
            raise ArchiveError(f"it has more than {self._limits[0]} bytes")
        self._make(one, self._steps(one.name))

    def _end_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _steps(self, name: bytes) -> list[bytes]:
        """From the new directory to the member. Raises ArchiveError for what is not below the top."""
        steps = [step for step in name.split(b"/") if step not in (b"", b".")]
        # Refused, and not made harmless: no honest tar writes it.
        if name.startswith(b"/") or b".." in steps:
            raise ArchiveError(f"{plain_line(name[:200])!r} leads out of what was asked for")
        if not steps or steps[0] != self._top:
            raise ArchiveError(f"{plain_line(name[:200])!r} is not what was asked for")
        if len(steps) > DEEPEST:
            raise ArchiveError(f"it has more than {DEEPEST} directories in one another")
        return [_COPY.encode(), *steps[1:]]

    def _make(self, one: Member, steps: list[bytes]) -> None:
        if one.kind is Kind.OTHER:
            self._leave_out(one, f"a {Kind.OTHER.value}")
            return
        # How far below the top the directory of the link is: neither the top nor the link itself counts.
        if one.kind is Kind.SYMLINK and not leads_inside(one.target, len(steps) - 2):
            self._leave_out(one, f"a link to {plain_line(one.target[:200])}")
            return
        parent = self._directory(steps[:-1])
        try:
            self._make_in(parent, one, steps[-1])
        except OSError as error:
            # Of a directory that is a file or a link already, which of the two errors it is depends on the kernel.
            if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
                raise
            raise ArchiveError(f"{plain_line(one.name[:200])!r} comes twice") from None
        finally:
            os.close(parent)

    def _make_in(self, parent: int, one: Member, name: bytes) -> None:
        match one.kind:
            case Kind.DIRECTORY:
                os.close(_step(parent, name))
            case Kind.SYMLINK:
                os.symlink(one.target, name, dir_fd=parent)
            case Kind.HARD_LINK:
                self._link(one, parent, name)
            case _:
                # What the umask leaves of it: no bit that the archive chose but this one.
                self._file = os.open(name, _NEW_FILE, 0o777 if one.executable else 0o666, dir_fd=parent)

    def _link(self, one: Member, parent: int, name: bytes) -> None:
        steps = self._steps(one.target)
        directory = self._directory(steps[:-1])
        try:
            # A hard link to a symbolic link would be that link, in a place for which it was not judged.
            if not stat.S_ISREG(os.stat(steps[-1], dir_fd=directory, follow_symlinks=False).st_mode):
                raise ArchiveError(f"{plain_line(one.name[:200])!r} is a link to what is no file")
            os.link(steps[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            self._leave_out(one, "a link to what was not copied")
        finally:
            os.close(directory)

    def _directory(self, steps: list[bytes]) -> int:
        """Open it, and make what is missing of it. Raises ArchiveError where something else is in the way."""
        found = os.dup(self._root)
        for step in steps:
            try:
                following = _step(found, step)
            except OSError as error:
                if isinstance(error, FileExistsError | NotADirectoryError) or error.errno == errno.ELOOP:
                    raise ArchiveError(f"{plain_line(step[:200])!r} is a directory, and is none") from None
                raise
            finally:
                os.close(found)
            found = following
        return found

    def _leave_out(self, one: Member, what: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < 100:
            self.left_out.append(f"{plain_line(one.name[:200])}: {what}")


def _step(parent: int, name: bytes) -> int:
    """Open a directory in another, made where it is missing."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        # Opened again below, without following: what is there by then may be something else.
        os.mkdir(name, 0o777, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def leads_inside(target: bytes, depth: int) -> bool:
    """Whether a link in a directory `depth` below the top can lead nowhere but below the top.

    It may go up first, no further than to the top, and then only down. After a step down none goes up: that step may be
    a link itself, and what is above where it leads is not what its path says.
    """
    steps = [step for step in target.split(b"/") if step not in (b"", b".")]
    up = 0
    while up < len(steps) and steps[up] == b"..":
        up += 1
    return not target.startswith(b"/") and up <= depth and b".." not in steps[up:]
