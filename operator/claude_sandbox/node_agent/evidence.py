"""What is answered for an investigation of a pod that is about to be ended, since with it all of this is gone.

Unlike other answers it has what processes are called and were started with, and who they talk to: all of it any user of
the node may read. Who is investigated decides how much there is, so that it is bounded in time and in bytes: the files
of the control groups first, then the networks, the processes, and the mounts. What was left out is said.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from claude_sandbox.node_agent import MOST_CONTAINERS, MOST_NETWORKS, MOST_PROCESSES, VERSION
from claude_sandbox.node_agent.cgroups import Group, Kubelets
from claude_sandbox.node_agent.processes import GoneError, mounts, seconds
from claude_sandbox.procfs.files import text
from claude_sandbox.procfs.sockets import network_of, tables

TIME = 0.7
"""Seconds for all of it: the pod goes on meanwhile."""
_COUNTERS = (
    *("memory.current", "memory.peak", "memory.max", "memory.events", "memory.stat"),
    *("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"),
    *("cpu.stat", "cpu.max", "cpuacct.usage", "io.stat", "blkio.throttle.io_service_bytes"),
    *("pids.current", "pids.peak", "pids.max", "pids.events"),
)
"""Files of control groups, of version 2 and of version 1."""
_LONGEST_COMMAND = 4096
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass
class _Bounds:
    """How many bytes and how much time are left, and what there was neither for."""

    left: int
    until: float = field(default_factory=lambda: time.monotonic() + TIME)
    missing: list[str] = field(default_factory=list)

    def taken(self, found: object) -> bool:
        """Whether there is time, and room for this in half of what is left; then it is taken from that."""
        size = len(json.dumps(found))
        if time.monotonic() > self.until or size * 2 > self.left:
            return False
        self.left -= size
        return True


def evidence(uid: str, kubelets: Kubelets, proc: Path, most: int) -> dict[str, Any]:
    """Of one pod, `most` bytes as JSON."""
    bounds, groups = _Bounds(most), kubelets.groups(uid)[:MOST_CONTAINERS]
    counted = {one.container: found for one in groups if bounds.taken(found := _counters(one))}
    pids = [(group.container, pid) for group in groups for pid in sorted(group.processes() - {os.getpid()})]
    if len(pids) > MOST_PROCESSES:
        bounds.missing.append(f"processes: all beyond the first {MOST_PROCESSES}")
        del pids[MOST_PROCESSES:]
    networks = list(_networks([proc / str(pid) for _, pid in pids], proc, bounds))
    processes = list(_processes(pids, proc, bounds))
    return {
        "version": VERSION,
        "pod": uid,
        "groups": counted,
        "networks": networks,
        "processes": processes,
        "mounts": dict(_mounts(groups, proc, bounds)),
        "missing": bounds.missing,
    }


def _counters(group: Group) -> dict[str, str]:
    """What the files say; of what is in no container, those of the whole pod."""
    found = {}
    for place in group.alone or group.places:
        for name in _COUNTERS:
            with suppress(OSError, ValueError):
                found[name] = text(place / name)
    return found


def _networks(processes: list[Path], proc: Path, bounds: _Bounds) -> Iterator[dict[str, str]]:
    """Each once, but for the node's own: that is not the pod's."""
    seen = {network_of(proc / "1"), None}
    for place in processes:
        if (own := network_of(place)) in seen:
            continue
        seen.add(own)
        if len(seen) > MOST_NETWORKS or time.monotonic() > bounds.until:
            bounds.missing.append("networks: all beyond the first")
            return
        with suppress(OSError):
            # As JSON a byte may take more than one, so that a part of the room is left free.
            read = tables(place, bounds.left // 3)
            found = {name: content.decode(errors="backslashreplace") for name, content in read.items()}
            if bounds.taken(found):
                yield found
            else:
                bounds.missing.append("networks: one that is too long")


def _processes(pids: list[tuple[str, int]], proc: Path, bounds: _Bounds) -> Iterator[dict[str, Any]]:
    for number, (container, pid) in enumerate(pids):
        try:
            found = {"container": container, **_process(pid, proc)}
        except GoneError:
            continue
        except (ValueError, IndexError):
            found = {"container": container, "pid": pid}
        if not bounds.taken(found):
            bounds.missing.append(f"processes: {len(pids) - number} of {len(pids)}")
            return
        yield found


def _process(pid: int, proc: Path) -> dict[str, Any]:
    """Raises GoneError, and ValueError or IndexError where the kernel's word is not understood."""
    place = proc / str(pid)
    try:
        name, _, rest = text(place / "stat").partition("(")[2].rpartition(")")
        fields, status = rest.split(), text(place / "status").split("\n")
        command = (place / "cmdline").open("rb").read(_LONGEST_COMMAND)
    except OSError:
        raise GoneError from None
    # The process' name comes first, so that it can be none of the lines that are looked for: the last of a name counts.
    told = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    started = datetime.fromtimestamp(time.time() - seconds(pid, proc), UTC)
    return {
        "pid": pid,
        "inPod": int(told["NSpid"].split()[-1]),
        "parent": int(fields[1]),
        "user": int(told["Uid"].split()[0]),
        "group": int(told["Gid"].split()[0]),
        "state": fields[0],
        "threads": int(fields[17]),
        "started": started.isoformat(timespec="seconds"),
        "cpuSeconds": (int(fields[11]) + int(fields[12])) / _TICKS,
        "memoryBytes": int(fields[21]) * _PAGE,
        "name": name,
        "command": [word.decode(errors="backslashreplace") for word in command.removesuffix(b"\0").split(b"\0")],
    }


def _mounts(groups: tuple[Group, ...], proc: Path, bounds: _Bounds) -> Iterator[tuple[str, str]]:
    """What the first process of each container has mounted, and how."""
    for group in groups:
        for pid in sorted(group.processes())[:1]:
            with suppress(OSError, ValueError):
                found = "".join(f"{line}\n" for line in mounts(text(proc / str(pid) / "mountinfo")))
                if bounds.taken(found):
                    yield group.container, found
                else:
                    bounds.missing.append("mounts: those of a container")
