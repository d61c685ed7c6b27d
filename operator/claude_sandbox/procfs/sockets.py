"""What is open in the network of a process, as the kernel has it in /proc/PID/net. Any user may read that."""

from pathlib import Path

TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "unix", "route")
"""What is open, and to whom."""


def network_of(process: Path) -> tuple[int, int] | None:
    """Tells one network from another; None where the process is not there."""
    try:
        found = (process / "net/dev").stat()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def tables(process: Path, most: int) -> dict[str, bytes]:
    """The tables of its network, of so many bytes together: of each half of what those before it have left.

    Raises OSError.
    """
    found: dict[str, bytes] = {}
    for name in TABLES:
        if (process / "net" / name).exists():
            with (process / "net" / name).open("rb") as table:
                found[name] = table.read((most - sum(map(len, found.values()))) // 2)
    return found
