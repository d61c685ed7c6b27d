"""Paths of the host that are mounted into a container."""

import re
from collections.abc import Callable

from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.mounts import Mount
from claude_sandbox.compliance.host_files.paths import holds

SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib",
    "/var/log",
    "/var/spool",
)
"""Directories that belong to the host's system and not to a user's work."""
# Below them is nobody's file: a process's root there is the host's, a control group is everybody's.
_KERNELS = ("/proc", "/sys")
# Of Windows and of macOS, as their virtual machines show them.
_OF_OTHER_SYSTEMS = re.compile(
    r"(?:(?:/mnt)?/c/(?:windows|programdata|program files(?: \(x86\))?)|/system|/library)(?=/|\Z)", re.IGNORECASE
)


def each_bind(container: Container, problem: Callable[[str, str], str | None]) -> tuple[list[str], list[str]]:
    """What `problem` says of each path of the host and its place in the container, and what can't be told."""
    problems, doubts = [], list(container.mount_doubts)
    for mount in container.mounts:
        if mount.is_vague or mount.is_veiled:
            doubts.append(mount.doubt)
        if mount.host is not None and (found := problem(mount.host, mount.place)):
            problems.append(found)
    return problems, doubts


def is_declared(container: Container, mount: Mount) -> bool:
    declared = container.declared
    return mount.destination is not None and (
        mount.destination in declared.workspaces or mount.destination in declared.mounts
    )


def is_system(path: str) -> bool:
    return any(holds(one, path) for one in SYSTEM) or _OF_OTHER_SYSTEMS.match(path) is not None


def is_whole_system(path: str) -> bool:
    """Whether it is a directory that belongs to the system, as a whole, or one that only the kernel serves."""
    whole = any(holds(path, one) for one in SYSTEM) or _OF_OTHER_SYSTEMS.fullmatch(path) is not None
    return whole or any(holds(one, path) for one in _KERNELS)
