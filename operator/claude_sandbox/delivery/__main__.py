"""`python -m claude_sandbox.delivery DIRECTORY FILE GENERATION`

The key comes on standard input as one line of base64, since it may hold anything. It is never in an argument, in the
environment or in an output. When it is in place that is said; then this stays, and with it what is in memory, until
its input ends.
"""

import base64
import binascii
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from claude_sandbox.delivery import MARKER, READY

_BEING_WRITTEN = "~new"
_LARGEST = 4 << 20
"""Bytes of the line: a Secret holds 1 MiB at most."""
_CHUNK = 64 << 10
_MOUNT_POINT = 4
"""In a line of /proc/PID/mountinfo (proc(5)); the file system comes after a dash."""


class RefusedError(Exception):
    """Nothing was written; the message says why, and holds nothing of the key."""


def main(arguments: Sequence[str], mounts: Path = Path("/proc/self/mountinfo")) -> int:
    """Put the key in place, say so, and stay until the input ends. The exit code: 0, or 1 where nothing was written."""
    directory, name, generation = arguments
    try:
        line = _line(0)
        try:
            deliver(Path(directory), name, generation, line, mounts.read_text())
        finally:
            line[:] = bytes(len(line))
    except (RefusedError, OSError) as error:
        print(f"delivery: {error}", file=sys.stderr)
        return 1
    print(READY, flush=True)
    while os.read(0, _CHUNK):
        pass
    return 0


def deliver(directory: Path, name: str, generation: str, line: bytearray, mounts: str) -> None:
    """Write the key, and then which one it is. `mounts` as /proc/self/mountinfo tells them.

    Raises RefusedError where the directory is not itself a file system in memory: a key must never reach a disk.
    """
    if not is_memory(directory, mounts):
        raise RefusedError(f"{directory} is no file system in memory")
    try:
        key = base64.b64decode(bytes(line).strip(), validate=True)
    except binascii.Error:
        raise RefusedError("what came is not base64") from None
    # The key before the word for it: who reads the word finds no older key.
    for file, content in ((name, key), (MARKER, generation.encode())):
        _replace(directory, file, content)


def is_memory(directory: Path, mounts: str) -> bool:
    """Whether a tmpfs is mounted at the directory, and nothing over it."""
    found = ""
    for line in mounts.splitlines():
        fields, _, system = line.partition(" - ")
        if fields.split(" ")[_MOUNT_POINT] == str(directory):
            # The last one at the place counts: what is mounted later lies over it.
            found = system.partition(" ")[0]
    return found == "tmpfs"


def _replace(directory: Path, name: str, content: bytes) -> None:
    """Never half of it is seen, and nothing is followed that has the name already."""
    new = directory / _BEING_WRITTEN
    # An earlier one that was ended in the middle may have left it.
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    new.replace(directory / name)


def _line(handle: int) -> bytearray:
    found = bytearray()
    while not found.endswith(b"\n"):
        part = os.read(handle, _CHUNK)
        if not part:
            raise RefusedError("the input ended before the key had come")
        found += part
        if len(found) > _LARGEST:
            raise RefusedError("what came is too long")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
