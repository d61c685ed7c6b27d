"""What this machine's own /proc and control groups say of a container, where its engine is on this machine.

A socket may lead elsewhere (into a virtual machine, or by ssh to another one), where the same number is another
process: what is read counts only if the kernel says that the process is in the container's control group.
Of what only root may read, or this kernel does not have, nothing is said.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from claude_sandbox.backends.docker.raw import Object
from claude_sandbox.compliance.docker import mountinfo
from claude_sandbox.compliance.docker.process import SYSTEM_FILES, Limits, Process, ranges
from claude_sandbox.compliance.docker.witness import tells

T = TypeVar("T")

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

# The numbers of a machine's first namespaces, the same on every kernel (linux/proc_ns.h). That of the network is not.
_FIRST = {"ipc": 4026531839, "uts": 4026531838, "pid": 4026531836, "cgroup": 4026531835}
_ALL_USERS = (0, 0, 2**32 - 1)
"""The map of a process that sees the host's users as they are."""
# A table of mounts can be long; what is longer than any that an engine makes is not read.
_MOUNTINFO_LIMIT = 1 << 20


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
            open_files=_if_told(lambda: _open_files(place)),
            mounts=_if_told(lambda: mountinfo.parse(_bounded(place / "mountinfo"))),
            system_files=frozenset(name for name in SYSTEM_FILES if (proc / name).exists()),
            confinement=_confinement(place),
            namespaces=_namespaces(proc, place),
            maps_are_the_hosts=_if_told(lambda: ranges((proc / "self/uid_map").read_text()) == (_ALL_USERS,)) or False,
        )
        # The number may have become another process's while it was read.
        after = (place / "cgroup").read_text()
    except OSError:
        return None
    return found if identifier in before and identifier in after else None


def _if_told(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError):
        return None


def _bounded(file: Path) -> str:
    """Raises ValueError for a file that is longer than it can honestly be."""
    with file.open() as opened:
        text = opened.read(_MOUNTINFO_LIMIT)
    if len(text) == _MOUNTINFO_LIMIT:
        raise ValueError(f"{file} is too long")
    return text


def _open_files(place: Path) -> float:
    for line in (place / "limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return _finite(line.split()[-2])
    raise ValueError("the kernel tells no limit of open files")


def _confinement(place: Path) -> str | None:
    """What AppArmor says, where it is in force; of another security module, nothing."""
    # Kernels from 5.8 on tell it there, whatever other modules there are.
    for name in ("attr/apparmor/current", "attr/current"):
        with suppress(OSError):
            told = (place / name).read_text().strip("\0\n ")
            # The labels of SELinux have colons and no mode.
            return told if told == "unconfined" or told.endswith(")") else None
    return None


def _namespaces(proc: Path, place: Path) -> dict[str, bool]:
    """Whether each is the host's. What can't be told is left out: to see them takes rights over the process."""
    own, host = proc / "self/ns", proc / "1/ns"
    found = {}
    for name, number in _FIRST.items():
        if mine := _namespace(place / "ns" / name):
            found[name] = mine in (f"{name}:[{number}]", _namespace(own / name), _namespace(host / name))
    # Who is in all of the host's other namespaces is in its network as well.
    at_home = all(_namespace(own / name) == f"{name}:[{_FIRST[name]}]" for name in _FIRST)
    network = _namespace(host / "net") or (_namespace(own / "net") if at_home else None)
    if network and (mine := _namespace(place / "ns/net")):
        found["net"] = mine == network
    return found


def _namespace(link: Path) -> str | None:
    return _if_told(lambda: str(link.readlink()))


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
    return math.inf if word in ("max", "-1", "unlimited") else float(word)
