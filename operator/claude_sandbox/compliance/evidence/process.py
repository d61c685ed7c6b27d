"""What the kernel says of a container's first process. Fields are those of proc(5) and cgroups(7).

Its environment is not among them: a process can rewrite it, and can keep whoever reads it waiting for ever.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from claude_sandbox.compliance.evidence.image_files import ImageFiles
from claude_sandbox.compliance.evidence.mountinfo import KernelMount
from claude_sandbox.procfs.limits import Limits
from claude_sandbox.procfs.listeners import Listener

SYSTEM_FILES = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list")
"""The files of /proc that every engine masks. Which of them there are depends on the kernel."""


@dataclass(frozen=True)
class Process:
    """A container's first process: `status`, `uid_map` and `gid_map` as below /proc, and its control group's limits.

    What could not be read, or is not to be had on this machine, is None.
    """

    status: str
    uid_map: str
    gid_map: str
    limits: Limits
    open_files: float | None = None
    """How many it may have open, as its hard limit."""
    mounts: tuple[KernelMount, ...] | None = None
    system_files: frozenset[str] = frozenset()
    """Those of SYSTEM_FILES that this kernel has."""
    confinement: str | None = None
    """What AppArmor says of it, for example `docker-default (enforce)`; None also without AppArmor."""
    namespaces: Mapping[str, bool] = field(default_factory=dict)
    """Whether each of its namespaces is the host's, by their names below /proc/PID/ns; without those not told."""
    maps_are_the_hosts: bool = False
    """Whether users and groups outside the container, in its maps, are the host's own."""
    files: ImageFiles | None = None
    """What its own files are, of a container; None where nobody looked, or might. As old as an hour and some."""
    listeners: tuple[Listener, ...] | None = None
    """What listens in the networks of the container's processes, but for the host's own; None where that can't be
    told, as of a process of a pod, where it is told of all of them."""

    users: frozenset[int] = frozenset()
    """Who the container's processes are on the machine, all of them; none where that can't be told."""

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The lines of `status` by name."""
        # Only a newline ends a line of the kernel's. A process may have any other character in its name, which is
        # the first field.
        pairs = (line.partition(":\t") for line in self.status.split("\n"))
        return {name: value.strip(" \t") for name, separator, value in pairs if separator}

    def numbers(self, name: str, of: str) -> tuple[int, ...]:
        """Users or groups as the container itself calls them; those that mean nothing there are left out."""
        return tuple(_translated(map(int, self.fields.get(name, "").split()), of))


def ranges(mapping: str) -> tuple[tuple[int, int, int], ...]:
    """Of a map of users or groups: first inside, first outside, how many."""
    lines = (tuple(map(int, line.split())) for line in mapping.split("\n") if line)
    return tuple((inside, outside, count) for inside, outside, count in lines)


def _translated(numbers: Iterator[int], mapping: str) -> Iterator[int]:
    """From the host's numbers to the container's."""
    known = ranges(mapping)
    for number in numbers:
        for inside, outside, count in known:
            if outside <= number < outside + count:
                yield inside + number - outside
