"""Whether the git repositories of a restored directory are whole, by `git fsck`.

Nothing of a repository's own configuration is taken, which could name programs: git is given a directory of our own
with the identifiers that the repository's references have, and the repository's objects alone. A repository that was
damaged before is told apart by asking the same of what was backed up.
"""

import os
import resource
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from claude_sandbox.backup.compare import plain

MOST = 50
"""Repositories that are looked at."""
PATIENCE = 600.0
"""Seconds for all of them."""
_MEMORY = 384 << 20
"""Bytes of data that git may have."""
_MOST_REFERENCES = 10_000
_LARGEST_REFERENCES = 8 << 20
"""Bytes of a file that is read for what the repository refers to."""
_EXAMPLES = 3
_HEX = frozenset(b"0123456789abcdef")


class Found(Enum):
    """What git says."""

    WHOLE = 0
    DAMAGED = 1
    NOT_TOLD = 2
    """It could not be asked: too large, no whole copy by itself, or borrowed objects from elsewhere."""


@dataclass
class Repositories:
    """What was found of all of them. Good where `torn` is 0."""

    whole: int = 0
    torn: int = 0
    """Damaged in the restored copy, and not in what was backed up."""
    damaged: int = 0
    """Damaged in both."""
    untold: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, path: bytes, restored: Found, source: Found) -> None:
        """Count one. `source`: of what was backed up, as it is now."""
        if restored is Found.WHOLE:
            self.whole += 1
            return
        torn = restored is Found.DAMAGED and source is not Found.DAMAGED
        if torn:
            self.torn += 1
        elif restored is Found.DAMAGED:
            self.damaged += 1
        else:
            self.untold += 1
        if torn and len(self.examples) < _EXAMPLES:
            self.examples.append(f"{plain(path)}: git fsck finds it damaged")


def look(restored: Path, source: Path, scratch: Path, git: str = "git") -> Repositories:
    """Of all repositories below `restored`, each at the same path below `source`."""
    found, until = Repositories(), time.monotonic() + PATIENCE
    for number, path in enumerate(below(restored)):
        left = until - time.monotonic()
        if number >= MOST or left <= 0:
            found.untold += 1
            continue
        relative = path.relative_to(restored)
        here = fsck(path, restored, scratch, left, git)
        # Asked only where the copy is damaged: of what is whole in the copy, the source need not be read.
        there = Found.WHOLE
        if here is Found.DAMAGED:
            there = fsck(source / relative, source, scratch, max(1.0, until - time.monotonic()), git)
        found.add(os.fsencode(relative), here, there)
    return found


def below(root: Path) -> Iterator[Path]:
    """Directories that are a repository's: `.git` of a working tree, or bare. Links are not followed."""
    for directory, names, files in os.walk(root):
        here = Path(directory)
        if "HEAD" in files and {"objects", "refs"} <= set(names) and _is_directory(here / "objects"):
            yield here
            # A submodule's is below `modules`.
            names[:] = [name for name in names if name == "modules"]


def fsck(repository: Path, root: Path, scratch: Path, patience: float, git: str) -> Found:
    """What git says of one repository. `root`: what it may borrow objects from."""
    try:
        objects = repository / "objects"
        if not _is_directory(objects) or any((objects / "pack").glob("*.promisor")):
            # Of a partial clone much is not there, and that is right.
            return Found.NOT_TOLD
        names = sorted(references(repository))
        alternates = _alternates(objects, root)
        shallow = _lines(repository / "shallow")
    except (OSError, ValueError):
        return Found.NOT_TOLD
    with tempfile.TemporaryDirectory(dir=scratch) as made:
        own = Path(made)
        sha256 = any(len(name) == 64 for name in names)
        version, extension = (1, "[extensions]\n\tobjectFormat = sha256\n") if sha256 else (0, "")
        (own / "config").write_text(f"[core]\n\trepositoryFormatVersion = {version}\n\tbare = true\n{extension}")
        (own / "HEAD").write_text("ref: refs/heads/none\n")
        (own / "refs").mkdir()
        (own / "packed-refs").write_text("".join(f"{name} refs/heads/{number}\n" for number, name in enumerate(names)))
        if shallow:
            (own / "shallow").write_text("".join(f"{name}\n" for name in shallow))
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": made,
            "GIT_DIR": made,
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(map(str, alternates)),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        try:
            done = subprocess.run(
                [git, "-c", "core.bigFileThreshold=4m", "-c", "core.packedGitLimit=128m", "fsck", "--no-dangling",
                 "--no-reflogs", "--no-progress"],
                env=environment, cwd=made, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                timeout=patience, check=False, preexec_fn=_bounded,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return Found.NOT_TOLD
    if done.returncode == 0:
        return Found.WHOLE
    # What was ended by its own bounds says nothing of the repository.
    if done.returncode < 0 or b"out of memory" in done.stderr.lower() or b"cannot allocate" in done.stderr.lower():
        return Found.NOT_TOLD
    return Found.DAMAGED


def references(repository: Path) -> set[str]:
    """The identifiers of what its references point at. Raises OSError, and ValueError where there are too many."""
    found: set[str] = set()
    for line in _lines(repository / "packed-refs"):
        found |= _identifier(line.lstrip("^").split(" ")[0])
    found |= _identifier(_first(repository / "HEAD"))
    for directory, _, files in os.walk(repository / "refs"):
        for name in files:
            found |= _identifier(_first(Path(directory, name)))
            if len(found) > _MOST_REFERENCES:
                raise ValueError("too many references")
    if len(found) > _MOST_REFERENCES or len({len(one) for one in found}) > 1:
        raise ValueError("too many references, or of two kinds")
    return found


def _alternates(objects: Path, root: Path) -> list[Path]:
    """Where the repository borrows objects. Raises ValueError where that is not below `root`.

    git itself would follow the file; it has the paths of where the workspace was.
    """
    found = []
    for line in _lines(objects / "info" / "alternates"):
        if not line or line.startswith("#"):
            continue
        path = (root / line.removeprefix("/workspace/")) if line.startswith("/workspace/") else objects / line
        normal = Path(os.path.normpath(path))
        if ":" in line or '"' in line or not normal.is_relative_to(root) or not _is_directory(normal):
            raise ValueError("objects of another place")
        found.append(normal)
    return found


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _lines(path: Path) -> list[str]:
    """Of a file; none where there is none. Raises OSError and ValueError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("no file")
        text = file.read(_LARGEST_REFERENCES + 1)
    if len(text) > _LARGEST_REFERENCES:
        raise ValueError("too large")
    return text.decode(errors="replace").splitlines()


def _first(path: Path) -> str:
    lines = _lines(path)
    return lines[0].strip() if lines else ""


def _identifier(text: str) -> set[str]:
    return {text} if len(text) in (40, 64) and set(text.encode()) <= _HEX else set()


def _bounded() -> None:
    """A repository may be made to need more memory than there is: git gives up then, and not the helper."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
