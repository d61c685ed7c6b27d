"""What this machine's own /proc and control groups say of a container, where its engine is on this machine.

A socket may lead elsewhere (into a virtual machine, or by ssh to another one), where the same number is another
process: what is read counts only if the kernel says that the process is in the container's control group.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from claude_sandbox.backends.docker.raw import Object
from claude_sandbox.compliance.docker.process import Limits, Process
from claude_sandbox.compliance.docker.witness import tells

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def read_process(container: Object, proc: Path = PROC, cgroups: Path = CGROUPS) -> Process | None:
    """The container's first process; None where there is none on this machine, or it may not be read."""
    pid, identifier = (container.get("State") or {}).get("Pid"), str(container.get("Id") or "")
    if not isinstance(pid, int) or pid <= 0 or not identifier or not tells(container):
        return None
    place = proc / str(pid)
    try:
        before = (place / "cgroup").read_text()
        found = Process(
            status=(place / "status").read_text(),
            uid_map=(place / "uid_map").read_text(),
            gid_map=(place / "gid_map").read_text(),
            limits=_limits(before, cgroups),
        )
        # The number may have become another process's while it was read.
        after = (place / "cgroup").read_text()
    except OSError:
        return None
    return found if identifier in before and identifier in after else None


def _limits(membership: str, cgroups: Path) -> Limits:
    """From the lines of /proc/PID/cgroup, each `number:controllers:path`; of version 2 the controllers are none."""
    paths: dict[str, Path] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = cgroups / (controllers or "") / path.lstrip("/")
    unified = paths.get("", cgroups)
    if "memory" not in paths:
        return Limits(
            memory=_number(unified / "memory.max"),
            cpus=_share(*_words(unified / "cpu.max")),
            processes=_number(unified / "pids.max"),
        )
    cpu = paths.get("cpu", unified)
    return Limits(
        memory=_number(paths["memory"] / "memory.limit_in_bytes"),
        cpus=_share(*_words(cpu / "cpu.cfs_quota_us"), *_words(cpu / "cpu.cfs_period_us")),
        processes=_number(paths.get("pids", unified) / "pids.max"),
    )


def _words(file: Path) -> Iterator[str]:
    try:
        yield from file.read_text().split()
    except OSError:
        return


def _number(file: Path) -> float | None:
    word = next(_words(file), None)
    return None if word is None else _finite(word)


def _share(*words: str) -> float | None:
    """CPUs, of a quota and a period in microseconds."""
    if len(words) != 2:
        return None
    return _finite(words[0]) / float(words[1])


def _finite(word: str) -> float:
    # Version 1 writes -1 where there is no quota.
    return math.inf if word in ("max", "-1") else float(word)
