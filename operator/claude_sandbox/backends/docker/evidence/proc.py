"""What this machine's own /proc and control groups say of a container, where its engine is on this machine.

A socket may lead elsewhere (into a virtual machine, or by ssh to another one), where the same number is another
process: what is read counts only if the kernel says that the process is in the container's control group.
Of what only root may read, or this kernel does not have, nothing is said. What is said and can't be understood is
told apart from that: the process chooses its name and its paths, of any bytes, and must not end its own measurement.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.witness import tells
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.process import SYSTEM_FILES, Limits, Process, ranges
from claude_sandbox.compliance.evidence.readings import Reading, Unread

T = TypeVar("T")

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

# The numbers of a machine's first namespaces, the same on every kernel (linux/proc_ns.h). That of the network is not.
_FIRST = {"ipc": 4026531839, "uts": 4026531838, "pid": 4026531836, "cgroup": 4026531835}
_ALL_USERS = (0, 0, 2**32 - 1)
"""The map of a process that sees the host's users as they are."""
# Bytes. A table of mounts can be long; what is longer than any that an engine makes is not read.
_LONGEST = 1 << 20


class UnclearError(Exception):
    """The kernel said something that could not be understood. The message quotes none of it."""


def witness_of(
    container: Object, at: datetime, proc: Path = PROC, cgroups: Path = CGROUPS
) -> Reading[Process] | Unread | None:
    """What the kernel says of the container's first process, as evidence read `at`. Never raises."""
    try:
        process = read_process(container, proc, cgroups)
    except UnclearError as error:
        return Unread(str(error))
    return None if process is None else Reading(process, EvidenceSource.HOST_PROC, at)


def read_process(container: Object, proc: Path = PROC, cgroups: Path = CGROUPS) -> Process | None:
    """The container's first process; None where there is none on this machine, or it may not be read.

    Raises UnclearError.
    """
    try:
        return _read(container, proc, cgroups)
    except OSError:
        return None
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        raise UnclearError(mishap(error)) from None


def _read(container: Object, proc: Path, cgroups: Path) -> Process | None:
    membership, identifier = own_group(container, proc), str(container.get("Id"))
    if membership is None:
        return None
    place = proc / str(Document(container).number("State.Pid"))
    found = Process(
        status=_text(place / "status"),
        uid_map=_text(place / "uid_map"),
        gid_map=_text(place / "gid_map"),
        limits=_limits(membership, cgroups),
        open_files=_if_told(lambda: _open_files(place)),
        mounts=_if_told(lambda: mountinfo.parse(_text(place / "mountinfo"))),
        system_files=frozenset(name for name in SYSTEM_FILES if (proc / name).exists()),
        confinement=_confinement(place),
        namespaces=_namespaces(proc, place),
        maps_are_the_hosts=_if_told(lambda: ranges(_text(proc / "self/uid_map")) == (_ALL_USERS,)) or False,
    )
    # The number may have become another process's while it was read.
    return found if identifier in _text(place / "cgroup") else None


def _if_told(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except OSError:
        return None


def _text(file: Path) -> str:
    """A file's text; bytes that are none are written as `\\xff`. Raises ValueError where it is too long."""
    with file.open("rb") as opened:
        content = opened.read(_LONGEST)
    if len(content) == _LONGEST:
        raise ValueError("a file of the kernel's that is too long")
    return content.decode(errors="backslashreplace")


def _open_files(place: Path) -> float:
    for line in _text(place / "limits").split("\n"):
        if line.startswith("Max open files"):
            return _finite(line.split()[-2])
    raise ValueError("the kernel tells no limit of open files")


def _confinement(place: Path) -> str | None:
    """What AppArmor says, where it is in force; of another security module, nothing."""
    # Kernels from 5.8 on tell it there, whatever other modules there are.
    for name in ("attr/apparmor/current", "attr/current"):
        with suppress(OSError):
            told = _text(place / name).strip("\0\n ")
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


def own_group(container: Object, proc: Path = PROC) -> str | None:
    """What /proc/PID/cgroup says of a container's first process, where the kernel confirms that it is.

    Raises OSError, and ValueError.
    """
    told = Document(container)
    pid, identifier = told.number("State.Pid") or 0, told.text("Id")
    if pid <= 0 or not identifier or not tells(container):
        return None
    membership = _text(proc / str(pid) / "cgroup")
    return membership if identifier in membership else None


def group_of(membership: str, controller: str, cgroups: Path = CGROUPS) -> Path:
    """The directory of the control group that limits something; in version 2 it is one for all. Raises ValueError."""
    paths = _groups(membership, cgroups)
    return paths.get(controller) or paths.get("", cgroups)


def _groups(membership: str, cgroups: Path) -> dict[str, Path]:
    """From the lines of /proc/PID/cgroup, each `number:controllers:path`; of version 2 the controllers are none."""
    paths: dict[str, Path] = {}
    for line in filter(None, membership.split("\n")):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = cgroups / (controllers or "") / path.lstrip("/")
    return paths


def _limits(membership: str, cgroups: Path) -> Limits:
    paths = _groups(membership, cgroups)
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
        yield from _text(file).split()
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
