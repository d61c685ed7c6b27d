"""The system calls of Linux, as its headers have them."""

import platform
from pathlib import Path

_COLUMN = {"x86_64": 1, "aarch64": 2}
_LINES = (Path(__file__).parent / "linux-calls.txt").read_text(encoding="utf-8").splitlines()
_ROWS = [line.split() for line in _LINES if not line.startswith("#")]

NAMES = frozenset(row[0] for row in _ROWS)
"""Of x86-64 and arm64 together."""


def numbers() -> dict[str, int]:
    """The numbers on this machine, by name, of those that it has. Raises KeyError on another architecture."""
    column = _COLUMN[platform.machine()]
    return {row[0]: int(row[column]) for row in _ROWS if row[column] != "-"}
