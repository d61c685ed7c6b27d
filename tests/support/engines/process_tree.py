"""Who started whom on the machine. What has ended meanwhile, a thread or a program, has started nobody."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError)


def command_of(pid: int) -> bytes:
    """What a process was started as, each word followed by a zero byte; nothing where it has ended."""
    with contextlib.suppress(*_GONE):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def children(pid: int) -> list[int]:
    """The processes that a process started itself. Each of its threads has children of its own."""
    found: list[int] = []
    with contextlib.suppress(*_GONE):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(*_GONE):
                found += map(int, thread.joinpath("children").read_text().split())
    return sorted(found)


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that these did, each before its own."""
    for child in children(pid):
        yield child
        yield from descendants(child)
