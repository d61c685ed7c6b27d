"""The node's control group: made for the kubelet, ended with all that runs in it."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError

_MOUNT = Path("/sys/fs/cgroup")
# Seconds until processes that got SIGKILL must be gone.
_PATIENCE = 20.0


def make(name: str) -> None:
    """Make the group in every hierarchy, with all controllers that there are.

    Raises LocalClusterError where this machine, or the container that this runs in, doesn't allow it.
    """
    try:
        _make(name)
    except OSError as error:
        raise LocalClusterError(
            f"The node's control group can't be made: {error}.",
            "Run the command on a machine, or in a container with writable control groups (--privileged).",
        ) from error


def _make(name: str) -> None:
    if (_MOUNT / "cgroup.controllers").exists():
        group = _MOUNT / name
        controllers = (_MOUNT / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{controller}" for controller in controllers)
        (_MOUNT / "cgroup.subtree_control").write_text(wanted)
        group.mkdir(exist_ok=True)
        (group / "cgroup.subtree_control").write_text(wanted)
        return
    for hierarchy in _version_1():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # A cpuset group begins without CPUs and memory, and could hold no process.
        for file in ("cpuset.mems", "cpuset.cpus"):
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((hierarchy / file).read_text())


def end(name: str) -> None:
    """Kill every process in the group and remove it; nothing happens where it isn't there.

    Raises LocalClusterError where a process can't be killed.
    """
    deadline = time.monotonic() + _PATIENCE
    while pids := _processes(name):
        if time.monotonic() > deadline:
            raise LocalClusterError(
                f"Processes of the cluster's pods don't end after SIGKILL: {', '.join(map(str, sorted(pids)))}.",
                "They hang in the kernel (see /proc/PID/stack); try again, or restart the machine.",
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for group in _groups(name):
        _remove(group, deadline)


def _remove(group: Path, deadline: float) -> None:
    # The kernel lets go of a group a moment after its last process.
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _processes(name: str) -> set[int]:
    found: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            found.update(map(int, (group / "cgroup.procs").read_text().split()))
    return found


def _groups(name: str) -> Iterator[Path]:
    """The group and all below it, innermost first."""
    for top in (_MOUNT / name, *(hierarchy / name for hierarchy in _version_1())):
        for directory, _, _ in os.walk(top, topdown=False):
            yield Path(directory)


def _version_1() -> list[Path]:
    """The mounted hierarchies of version 1, each once (some are mounted under two names), and `unified` in hybrids."""
    if not _MOUNT.is_dir():
        return []
    entries = (entry for entry in _MOUNT.iterdir() if (entry / "cgroup.procs").exists())
    return sorted({entry.resolve() for entry in entries}) if not (_MOUNT / "cgroup.procs").exists() else []
