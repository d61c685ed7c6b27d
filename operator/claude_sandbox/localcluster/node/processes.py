"""The processes in a node's namespaces, whoever started them."""

import contextlib
import os
import signal
import time
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.node.names import Names

# Seconds until processes that got SIGKILL must be gone.
_PATIENCE = 20.0


def end(names: Names) -> None:
    """Kill every process in the node's network or mount namespace.

    Those of pods have namespaces of their own: they are found by their control group.
    Raises LocalClusterError where one can't be killed.
    """
    wanted = {_identity(names.network), _identity(names.mounts)} - {None, _identity(Path("/proc/self/ns/mnt"))}
    deadline = time.monotonic() + _PATIENCE
    while pids := _inside(wanted):
        if time.monotonic() > deadline:
            raise LocalClusterError(
                f"Processes of the node don't end after SIGKILL: {', '.join(map(str, pids))}.",
                "They hang in the kernel (see /proc/PID/stack); try again, or restart the machine.",
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _inside(wanted: set[tuple[int, int] | None]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and wanted & {_identity(entry / "ns/net"), _identity(entry / "ns/mnt")} - {None}:
            found.append(int(entry.name))
    return found


def _identity(namespace: Path) -> tuple[int, int] | None:
    """What tells a namespace from all others: its inode and the device of the kernel's namespace file system."""
    try:
        status = namespace.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
