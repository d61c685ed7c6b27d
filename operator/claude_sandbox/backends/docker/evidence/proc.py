"""What this machine's own /proc and control groups say of a container, where its engine is on this machine.

A socket may lead elsewhere (into a virtual machine, or by ssh to another one), where the same number is another
process: what is read counts only if the kernel says that the process is in the container's control group.
Of what only root may read, or this kernel does not have, nothing is said. What is said and can't be understood is
told apart from that: the process chooses its name and its paths, of any bytes, and must not end its own measurement.
"""

import time
from datetime import datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.witness import tells
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence.process import SYSTEM_FILES, Process, ranges
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.procfs.files import CGROUPS, PROC, confinement, if_told, number, open_files, share, text, words
from claude_sandbox.procfs.limits import Limits
from claude_sandbox.procfs.listeners import Listener, listeners

# The numbers of a machine's first namespaces, the same on every kernel (linux/proc_ns.h). That of the network is not.
_FIRST = {"ipc": 4026531839, "uts": 4026531838, "pid": 4026531836, "cgroup": 4026531835}
SETTLES, _SETTLE = 10, 0.05
"""How often what is mounted is looked at again, and seconds between."""
_MOST_PROCESSES, _MOST_GROUPS = 2000, 200
"""How many are looked at: a sandbox has a limit of the first; the second it can only make where it may mount."""
_ALL_USERS = (0, 0, 2**32 - 1)
"""The map of a process that sees the host's users as they are."""


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
        status=text(place / "status"),
        uid_map=text(place / "uid_map"),
        gid_map=text(place / "gid_map"),
        limits=_limits(membership, cgroups),
        open_files=if_told(lambda: open_files(place)),
        mounts=if_told(lambda: _mounts(place)),
        system_files=frozenset(name for name in SYSTEM_FILES if (proc / name).exists()),
        confinement=confinement(place),
        namespaces=_namespaces(proc, place),
        listeners=_listeners(proc, place, group_of(membership, "pids", cgroups)),
        users=if_told(lambda: _settled_users(proc, group_of(membership, "pids", cgroups), identifier)) or frozenset(),
        maps_are_the_hosts=if_told(lambda: ranges(text(proc / "self/uid_map")) == (_ALL_USERS,)) or False,
    )
    # The number may have become another process's while it was read.
    return found if identifier in text(place / "cgroup") else None


def _mounts(place: Path) -> tuple[mountinfo.KernelMount, ...]:
    """What is mounted, once nothing is mounted over itself any more, or after SETTLES looks as it is.

    While a file is copied from or to a container, Docker 20.10 mounts each of its volumes once more, writable, where it
    is, and the container has that as well until the copy ends. It can't write by it: seen to be refused all the while.
    """
    found = mountinfo.parse(text(place / "mountinfo"))
    for _ in range(SETTLES):
        if len({(one.place, one.device, one.root) for one in found}) == len(found):
            break
        time.sleep(_SETTLE)
        found = mountinfo.parse(text(place / "mountinfo"))
    return found


def _namespaces(proc: Path, place: Path) -> dict[str, bool]:
    """Whether each is the host's. What can't be told is left out: to see them takes rights over the process."""
    own, host = proc / "self/ns", proc / "1/ns"
    found = {}
    for name, first in _FIRST.items():
        if mine := _namespace(place / "ns" / name):
            found[name] = mine in (f"{name}:[{first}]", _namespace(own / name), _namespace(host / name))
    # Who is in all of the host's other namespaces is in its network as well.
    at_home = all(_namespace(own / name) == f"{name}:[{_FIRST[name]}]" for name in _FIRST)
    network = _namespace(host / "net") or (_namespace(own / "net") if at_home else None)
    if network and (mine := _namespace(place / "ns/net")):
        found["net"] = mine == network
    return found


def _listeners(proc: Path, place: Path, group: Path) -> tuple[Listener, ...] | None:
    """In the networks of all its processes: one may have made another network, to listen there."""
    try:
        others = [proc / pid for pid in text(group / "cgroup.procs").split()]
        return listeners((place, *others), proc / "1")
    except (OSError, ValueError):
        return None


def _settled_users(proc: Path, group: Path, identifier: str) -> frozenset[int]:
    """Who its processes are, once none is root, or after SETTLES looks: whoever is let in from outside, a health check
    for example, is root until the runtime has made it what it is to be."""
    found = _users(proc, group, identifier)
    for _ in range(SETTLES):
        if found == {0} or 0 not in found:
            break
        time.sleep(_SETTLE)
        found = _users(proc, group, identifier)
    return found


def _users(proc: Path, group: Path, identifier: str) -> frozenset[int]:
    """Who its processes are on the machine, also those in groups that it made below its own; of very many the first."""
    whole = next((one for one in (group, *group.parents) if identifier in one.name), group)
    found: set[int] = set()
    groups = islice(chain([whole / "cgroup.procs"], whole.glob("**/*/cgroup.procs")), _MOST_GROUPS)
    for pid in islice(
        (pid for file in groups for pid in (if_told(partial(text, file)) or "").split()), _MOST_PROCESSES
    ):
        status = if_told(partial(text, proc / pid / "status")) or ""
        found.update(int(user) for line in status.split("\n") if line.startswith("Uid:\t") for user in line.split()[1:])
    return frozenset(found)


def _namespace(link: Path) -> str | None:
    return if_told(lambda: str(link.readlink()))


def own_group(container: Object, proc: Path = PROC) -> str | None:
    """What /proc/PID/cgroup says of a container's first process, where the kernel confirms that it is.

    Raises OSError, and ValueError.
    """
    told = Document(container)
    pid, identifier = told.number("State.Pid") or 0, told.text("Id")
    if pid <= 0 or not identifier or not tells(container):
        return None
    # A number alone could be any process, of this machine though the engine is on another: its group has the
    # container's identifier in its path.
    membership = text(proc / str(pid) / "cgroup")
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
            memory=number(unified / "memory.max"),
            cpus=share(*words(unified / "cpu.max")),
            processes=number(unified / "pids.max"),
        )
    cpu = paths.get("cpu", unified)
    return Limits(
        memory=number(paths["memory"] / "memory.limit_in_bytes"),
        cpus=share(*words(cpu / "cpu.cfs_quota_us"), *words(cpu / "cpu.cfs_period_us")),
        processes=number(paths.get("pids", unified) / "pids.max"),
    )
