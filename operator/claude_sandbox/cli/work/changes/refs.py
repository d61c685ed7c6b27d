"""The names of commits in a repository, read from its files by us. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NAME = re.compile(r"refs/[\w./@+-]+")
_ORIGIN = "refs/remotes/origin/"


@dataclass(frozen=True)
class Refs:
    """`commits` by whole names; `head`: the name that HEAD stands for, or a commit. `pointers`: names for names."""

    commits: Mapping[str, str]
    pointers: Mapping[str, str]

    def find(self, name: str) -> str | None:
        """The commit of a name, whole or as git takes it; None for what is not there."""
        for whole in (name, f"refs/{name}", f"refs/tags/{name}", f"refs/heads/{name}", f"refs/remotes/{name}"):
            target = self.pointers.get(whole, whole)
            if (commit := self.commits.get(target)) is not None:
                return commit
        return None

    @property
    def head(self) -> str | None:
        """The commit that is checked out."""
        return self.find("HEAD")

    @property
    def origin(self) -> tuple[str, str] | None:
        """Name and commit of what came from where the repository was cloned: its default branch, or the present one."""
        branch = self.pointers.get("HEAD", "").removeprefix("refs/heads/")
        for name in ("HEAD", branch, "main", "master"):
            if name and (commit := self.find(_ORIGIN + name)) is not None:
                return _ORIGIN + name, commit
        return None


def refs_of(files: Mapping[str, bytes]) -> Refs:
    """From HEAD, packed-refs and the files below refs/. What is no name or no commit is left out."""
    commits: dict[str, str] = {}
    pointers: dict[str, str] = {}
    for line in files.get("packed-refs", b"").splitlines():
        packed, _, called = line.partition(b" ")
        # Other lines are comments, and what an annotated tag leads to.
        if _COMMIT.fullmatch(packed):
            _add(commits, called.decode("utf-8", errors="replace"), packed)
    for name, content in files.items():
        text = content.strip()
        if text.startswith(b"ref: "):
            pointers[name] = text[5:].strip().decode("utf-8", errors="replace")
        elif _COMMIT.fullmatch(text):
            _add(commits, name, text)
    return Refs(commits, pointers)


def _add(commits: dict[str, str], name: str, commit: bytes) -> None:
    if name == "HEAD" or _NAME.fullmatch(name):
        commits[name] = commit.decode()


def is_commit(text: str) -> bool:
    """Whether it is a commit's whole name."""
    return _COMMIT.fullmatch(text.encode()) is not None


def shallow_of(content: bytes) -> bytes:
    """The commits whose parents are not there, as git's file `shallow` has them; of any other line nothing is kept."""
    return b"".join(line + b"\n" for line in content.splitlines() if _COMMIT.fullmatch(line))
