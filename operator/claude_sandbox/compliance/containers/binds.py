"""Paths of the host that are mounted into a container."""

from collections.abc import Callable

from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.mounts import Mount
from claude_sandbox.compliance.host_files.paths import holds, normal

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
    return any(holds(one, path) for one in SYSTEM)


def socket_of(variable: tuple[str, str]) -> str | None:
    name, value = variable
    if name != "DOCKER_HOST" or not value.startswith("unix://"):
        return None
    return normal(value.removeprefix("unix://"))
