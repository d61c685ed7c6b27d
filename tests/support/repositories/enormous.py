"""Repositories that are small at their server, and large or without an end where they are cloned: their objects are
written by hand."""

import hashlib
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path

Entry = tuple[str, str, str]
"""The mode, the name and the object of what is in a tree."""
FILE, DIRECTORY, SUBMODULE = "100644", "40000", "160000"


class Bare:
    """A repository as servers have them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)

    def blob(self, text: str) -> str:
        return self._object("blob", text.encode())

    def tree(self, entries: Iterable[Entry]) -> str:
        """The entries are in git's own order."""
        raw = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(one) for mode, name, one in entries)
        return self._object("tree", raw)

    def commit(self, tree: str) -> str:
        """On `main`."""
        who = "a <a@example.org> 1767225600 +0000"
        made = self._object("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
        (self.path / "refs/heads/main").write_text(f"{made}\n")
        return made

    def _object(self, kind: str, body: bytes) -> str:
        content = f"{kind} {len(body)}\0".encode() + body
        name = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        file = self.path / "objects" / name[:2] / name[2:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(zlib.compress(content, 1))
        return name


def many(bare: Bare, number: int, text: str = "x\n") -> str:
    """A tree with so many files, all of one content."""
    content = bare.blob(text)
    folders = []
    for first in range(0, number, 1000):
        below = bare.tree((FILE, f"{one:07d}", content) for one in range(first, min(first + 1000, number)))
        folders.append((DIRECTORY, f"{first:07d}", below))
    return bare.tree(folders)


def multiplied(bare: Bare, levels: int, each: int = 10) -> str:
    """A tree with `each` to the power of `levels` files."""
    found: Entry = (FILE, "", bare.blob("x\n"))
    for _ in range(levels):
        mode, _, one = found
        found = (DIRECTORY, "", bare.tree((mode, str(number), one) for number in range(each)))
    return found[2]


def deep(bare: Bare, levels: int, *entries: Entry) -> str:
    """A tree with a file that many directories down, and with entries that come before it."""
    found: Entry = (FILE, "z", bare.blob("x\n"))
    for _ in range(levels):
        found = (DIRECTORY, "z", bare.tree([found]))
    return bare.tree([*entries, found])


def with_submodules(bare: Bare, *submodules: tuple[str, str], commit: str = "1" * 40) -> list[Entry]:
    """Entries of a tree, by name and URL of each. `commit`: the one that each is of."""
    lines = [f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in submodules]
    modules: Entry = (FILE, ".gitmodules", bare.blob("".join(lines)))
    return [modules, *((SUBMODULE, name, commit) for name, _ in sorted(submodules))]
