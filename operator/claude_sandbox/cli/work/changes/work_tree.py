"""Makes a commit of the files of a work tree as they come in an archive, without writing any of them to a disk.

git's fast-import takes names and contents; no attribute, filter or conversion is asked for. What the base has is taken
whatever it is; of the rest, what the base's own .gitignore files ignore is counted and left out. The agent's
.gitignore files hide nothing: they are files that changed.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from claude_sandbox.cli.work.archives.archive import ArchiveError, Kind, Member
from claude_sandbox.cli.work.changes import pointers
from claude_sandbox.cli.work.changes.own_git import OwnGit
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.plain import plain_line, plain_text

NOW = "refs/heads/now"
MOST_FILES = 1_000_000
_LARGEST_RULES = 1 << 20
"""Bytes of a .gitignore that is taken."""


class Base:
    """What a commit has: its files by their paths, and its submodules."""

    def __init__(self, git: OwnGit, commit: str | None) -> None:
        self.files: set[bytes] = set()
        self.submodules: dict[bytes, str] = {}
        self.rules: list[tuple[bytes, str]] = []
        listed = git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit) if commit else b""
        small: dict[str, list[bytes]] = {}
        attributes: list[str] = []
        for entry in listed.split(b"\0"):
            head, tab, path = entry.partition(b"\t")
            if not tab:
                continue
            mode, _, name, size = head.split()
            if mode == b"160000":
                self.submodules[path] = name.decode()
                continue
            self.files.add(path)
            if path.rpartition(b"/")[2] == b".gitignore" and mode in (b"100644", b"100755"):
                self.rules.append((path, name.decode()))
            if path.rpartition(b"/")[2] == b".gitattributes":
                attributes.append(name.decode())
            if size.isdigit() and 0 < int(size) < pointers.LARGEST:
                small.setdefault(name.decode(), []).append(path)
        # Only where the base uses LFS: else a small file that looks like a pointer would be compared as one.
        has_pointers = any(b"filter=lfs" in git.run("cat-file", "blob", name) for name in attributes)
        self.pointers = pointers.pointers_in(git, small) if has_pointers else {}

    def submodule_of(self, path: bytes) -> bytes | None:
        """The submodule that a path is in."""
        at = path.find(b"/")
        while at >= 0:
            if path[:at] in self.submodules:
                return path[:at]
            at = path.find(b"/", at + 1)
        return path if path in self.submodules else None


class Ignored:
    """What the base's own rules ignore: git is asked, with nothing but those rules in a directory."""

    def __init__(self, git: OwnGit, base: Base) -> None:
        # The base's own alone: what the agent ignores must not hide what it made.
        rules = git.place / "rules"
        rules.mkdir()
        for path, blob in base.rules:
            _write_rules(rules, path, git.run("cat-file", "blob", blob)[:_LARGEST_RULES])
        # A repository that says that it is bare is given no work tree.
        self._process: subprocess.Popen[bytes] = git.start(
            "-c", "core.bare=false", "check-ignore", "--no-index", "--stdin", "-z", "--verbose", "--non-matching",
            environment={"GIT_WORK_TREE": str(rules), "GIT_LITERAL_PATHSPECS": "0"},
        )  # fmt: skip

    def __contains__(self, path: bytes) -> bool:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            # Not as it is: a path that begins with a colon would be an order to git.
            self._process.stdin.write(b"./" + path + b"\0")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkError("git check-ignore ended.", "Try another --base.") from None
        fields = [_field(self._process.stdout) for _ in range(4)]
        # A pattern that begins with an exclamation mark takes back what another ignores.
        return bool(fields[2]) and not fields[2].startswith(b"!")

    def close(self) -> None:
        """End the git that is asked."""
        # It would wait for more paths.
        self._process.kill()
        self._process.communicate()


class WorkTree:
    """Takes members and their content. Raises ArchiveError for what is too much or no path."""

    def __init__(self, git: OwnGit, base: Base, most_bytes: int) -> None:
        self._base = base
        self._left = self._most = most_bytes
        self._left_files = MOST_FILES
        self.ignored = 0
        self.left_out: set[str] = set()
        self._content = False
        self._large: tuple[bytes, bytes, Any] | None = None
        """Path, mode and digest of the present file, where the base has a pointer in its place."""
        self._taken: set[bytes] = set()
        self._errors = (git.place / "import-errors").open("wb+")
        self._ignored = Ignored(git, base)
        self._import = git.start("fast-import", "--quiet", "--done", errors=self._errors)
        # Without author, time and message of anybody's: only the tree is compared.
        self._say(b"commit " + NOW.encode() + b"\ncommitter x <x> 0 +0000\ndata 0\n")
        # As the base has them: not looked into, and so not shown as removed.
        for path, commit in base.submodules.items():
            self.left_out.add(f"{plain_line(path)}: a submodule, which is not looked into")
            self._say(b"M 160000 " + commit.encode() + b" " + quoted(path) + b"\n")

    def take(self, one: Member | bytes) -> None:
        """A member, or a piece of the last one's content."""
        if isinstance(one, bytes):
            if self._content:
                self._say(one)
            if self._large is not None:
                self._large[2].update(one)
            return
        self._end()
        self._left -= one.size
        self._left_files -= 1
        if self._left < 0 or self._left_files < 0:
            raise ArchiveError(f"the work tree has more than {self._most} bytes, or {MOST_FILES} files")
        path = path_of(one.name)
        if path and one.kind is not Kind.DIRECTORY and self._is_wanted(path, one):
            self._put(path, one)

    def finish(self) -> None:
        """All has come: the commit is there. Raises WorkError."""
        self._end()
        self._say(b"done\n")
        assert self._import.stdin is not None  # noqa: S101 - it is a pipe
        self._import.stdin.close()
        if self._import.wait():
            raise self._failed()
        self._ignored.close()

    def close(self) -> None:
        """End what runs for it."""
        self._ignored.close()
        self._import.kill()
        self._import.wait()
        self._errors.close()

    def _is_wanted(self, path: bytes, one: Member) -> bool:
        if any(step.lower() == b".git" for step in path.split(b"/")):
            return False  # another repository's own, which no commit can hold
        if self._base.submodule_of(path) is not None:
            return False
        if one.kind is Kind.OTHER:
            self.left_out.add(f"{plain_line(path[:200])}: a {Kind.OTHER.value}")
            return False
        if path not in self._base.files and path in self._ignored:
            self.ignored += 1
            return False
        return True

    def _put(self, path: bytes, one: Member) -> None:
        if one.kind is Kind.HARD_LINK:
            source = path_of(one.target)
            # What came before it in this archive: to nothing else can it lead.
            if source not in self._taken:
                self.left_out.add(f"{plain_line(path[:200])}: a hard link to what is not here")
                return
            self._say(b"C " + quoted(source) + b" " + quoted(path) + b"\n")
        elif one.kind is Kind.SYMLINK:
            self._say(b"M 120000 inline " + quoted(path) + b"\ndata %d\n" % len(one.target) + one.target + b"\n")
        else:
            mode = b"100755" if one.executable else b"100644"
            self._say(b"M " + mode + b" inline " + quoted(path) + b"\ndata %d\n" % one.size)
            self._content = True
            if path in self._base.pointers:
                self._large = (path, mode, hashlib.sha256())
        self._taken.add(path)

    def _end(self) -> None:
        if self._content:
            self._say(b"\n")
            self._content = False
        if self._large is not None:
            path, mode, digest = self._large
            self._large = None
            known, blob = self._base.pointers[path]
            # The file is what its pointer says: the commit gets the pointer, and it has not changed.
            if digest.hexdigest() == known:
                self._say(b"M " + mode + b" " + blob.encode() + b" " + quoted(path) + b"\n")

    def _say(self, data: bytes) -> None:
        assert self._import.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._import.stdin.write(data)
        except BrokenPipeError:
            raise self._failed() from None

    def _failed(self) -> WorkError:
        self._errors.seek(0)
        said = plain_text(self._errors.read(4096)) or "it ended"
        return WorkError(f"git fast-import failed on the work tree: {said}.", "Name less of it: --path.")


def path_of(name: bytes) -> bytes:
    """A path in a work tree; empty for the work tree itself. Raises ArchiveError for one that leads out of it."""
    steps = [step for step in name.split(b"/") if step not in (b"", b".")]
    if name.startswith(b"/") or b".." in steps:
        raise ArchiveError(f"{plain_line(name[:200])!r} leads out of the work tree")
    return b"/".join(steps)


def quoted(path: bytes) -> bytes:
    """As fast-import reads it, whatever is in it."""
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _field(stream: IO[bytes]) -> bytes:
    found = bytearray()
    while (byte := stream.read(1)) != b"\0":
        if not byte:
            raise WorkError("git check-ignore ended.", "Try another --base.")
        found += byte
    return bytes(found)


def _write_rules(root: Path, path: bytes, content: bytes) -> None:
    """A .gitignore of the base, whose path is the repository's word: every step is judged, and made anew."""
    steps: Iterable[bytes] = path.split(b"/")
    if any(step in (b"", b".", b"..") or step.lower() == b".git" for step in steps):
        return
    target = root / os.fsdecode(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise WorkError(
            f"{plain_line(path)} of the base can't be read: {error.strerror}.", "Try another --base."
        ) from None
