"""Claude Code's sessions in a home that was kept."""

import json
import os
import stat
from pathlib import Path

_LONGEST = 1 << 20
"""Bytes of a session that are looked at for its first whole line."""


def sessions(home: Path) -> int:
    """How many there are that `claude --resume` can find: transcripts below `projects` with a line that can be read."""
    found = 0
    projects = home / "projects"
    for directory, names, files in os.walk(projects):
        if Path(directory) != projects:
            names.clear()
            found += sum(_is_session(Path(directory, name)) for name in files if name.endswith(".jsonl"))
    return found


def _is_session(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return False
            read = file.read(_LONGEST)
    except OSError:
        return False
    return any(_has_session(line) for line in read.splitlines())


def _has_session(line: bytes) -> bool:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and isinstance(told.get("sessionId"), str)
