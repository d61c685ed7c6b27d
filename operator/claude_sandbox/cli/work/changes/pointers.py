"""Git LFS: what a commit has in place of a large file, a pointer with the file's SHA-256, and the file itself.

A file that is what its pointer says has not changed. Where it differs, its bytes are compared with the pointer's text.
"""

import re

from claude_sandbox.cli.work.changes.own_git import OwnGit

LARGEST = 1024
"""Bytes of a pointer, less than which it has by its specification (git-lfs/docs/spec.md)."""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n"
)


def pointers_in(git: OwnGit, blobs: dict[str, list[bytes]]) -> dict[bytes, tuple[str, str]]:
    """Of small blobs with their paths, those that are pointers: by path the SHA-256 of the file, and the blob."""
    found: dict[bytes, tuple[str, str]] = {}
    answer = git.run("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode()) if blobs else b""
    at = 0
    for blob, paths in blobs.items():
        line = answer.index(b"\n", at)
        # A shallow or partial clone lacks objects.
        if answer[at:line].endswith(b" missing"):
            at = line + 1
            continue
        size = int(answer[at:line].rpartition(b" ")[2])
        content = answer[line + 1 : line + 1 + size]
        at = line + 1 + size + 1
        if pointer := _POINTER.fullmatch(content):
            found |= dict.fromkeys(paths, (pointer[1].decode(), blob))
    return found
