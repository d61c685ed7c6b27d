"""SEC-04 on Docker: whether Claude Code's managed settings are those that were asked for."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import Verdict, not_applicable
from claude_sandbox.compliance.docker.measure import decided, shared
from claude_sandbox.compliance.pods.evidence import ManagedSettings
from claude_sandbox.compliance.settings import ELSEWHERE, UNDECLARED


def managed(container: Container) -> Verdict:
    """What the engine reads of the file is what was asked for, and nothing else is mounted in its place."""
    wanted = container.declared.managed_settings
    if wanted is None:
        return not_applicable(UNDECLARED)
    problems, doubts = list(_shadows(container, wanted)), list(container.mount_doubts)
    doubts += [mount.doubt for mount in container.mounts if mount.is_vague or _unclear(container, wanted)]
    variables = container.environment
    if variables is None:
        doubts.append(untold("Config.Env"))
    elif any(name == ELSEWHERE and value for name, value in variables):
        problems.append(f"the variable {ELSEWHERE} names other managed settings")
    if isinstance(container.settings, str):
        doubts.append(container.settings)
    elif container.settings.content != wanted.content:
        problems.append("its managed settings are not those that were asked for")
    return decided(problems, doubts)


def _shadows(container: Container, wanted: ManagedSettings) -> Iterator[str]:
    here = [mount for mount in container.mounts if mount.destination == wanted.directory]
    if not here:
        yield f"nothing is mounted at {wanted.directory}"
    for mount in here:
        if mount.writable:
            yield f"it can write to {wanted.directory}"
        if mount.host is not None or mount.kind not in ("volume", None):
            yield f"what is mounted at {wanted.directory} is no volume of the engine's"
    for mount in container.mounts:
        if mount.destination is not None and mount.destination.startswith(f"{wanted.directory}/"):
            yield f"something is mounted over the managed settings, at {mount.destination}"


def _unclear(container: Container, wanted: ManagedSettings) -> bool:
    return any(mount.destination == wanted.directory and mount.writable is None for mount in container.mounts)


def path_of(wanted: ManagedSettings) -> str:
    """Where the file is in the container."""
    return posixpath.join(wanted.directory, wanted.file)


MEASURES = (
    shared(
        "SEC-04",
        managed,
        "Remove the container: it comes back with the settings that keep a repository from sending the key elsewhere.",
    ),
)
