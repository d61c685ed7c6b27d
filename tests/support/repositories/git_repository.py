"""A repository of the real git, what a push from it consists of, and what git itself says of it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.gateway.git.pack import COMMIT, TREE, GitObject, PackReader

_KINDS = {"commit": COMMIT, "tree": TREE}
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/local/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
       for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", "2026-01-01T00:00:00Z"))},
}  # fmt: skip


@dataclass(frozen=True)
class Repository:
    """A work tree in a directory."""

    path: Path

    @classmethod
    def made(cls, path: Path) -> "Repository":
        path.mkdir(parents=True)
        repository = cls(path)
        repository.git("init", "-q", "-b", "main")
        return repository

    def git(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ("git", "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false", *arguments)
        return subprocess.run(
            command, cwd=self.path, env=_ENVIRONMENT, input=given, check=True, capture_output=True
        ).stdout

    def commit(self, *changes: tuple[str, str | None], message: str = "x") -> bytes:
        """Write files (None: remove one), commit, and the commit's id."""
        for name, content in changes:
            file = self.path / name
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.id("HEAD")

    def id(self, name: str) -> bytes:
        return self.git("rev-parse", name).strip()

    def pack(self, new: bytes, *known: bytes, thin: bool = True) -> bytes:
        """What git would push."""
        revisions = b"\n".join((new, *(b"^" + one for one in known))) + b"\n"
        options = ("--thin",) if thin else ()
        return self.git("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", *options, given=revisions)

    def objects(self, commit: bytes) -> dict[bytes, GitObject]:
        """A commit with its trees, as the server would tell of it."""
        names = [commit, self.id(f"{commit.decode()}^{{tree}}")]
        listed = self.git("ls-tree", "-r", "-t", commit.decode()).splitlines()
        names += [line.split()[2] for line in listed if line.split()[1] == b"tree"]
        return {name: self.object(name) for name in names}

    def object(self, name: bytes) -> GitObject:
        kind = self.git("cat-file", "-t", name.decode()).decode().strip()
        return GitObject(_KINDS[kind], self.git("cat-file", kind, name.decode()))


def read(pack: bytes, *, step: int = 0) -> PackReader:
    """Feed it, in pieces of so many bytes."""
    reader = PackReader()
    for start in range(0, len(pack), step or len(pack)):
        reader.feed(pack[start : start + (step or len(pack))])
    reader.end()
    return reader
