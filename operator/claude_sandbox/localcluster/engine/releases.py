"""The releases of the Docker Engine that can be had, and the programs that each is made of."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.node.parts import NEEDED as MACHINE
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import Needed, Programs, ensure
from claude_sandbox.localcluster.programs.tools import ENGINE

RELEASES = ("29", "20.10")
DEFAULT_RELEASE = "29"
# In the order in which they are started.
COMPONENTS = ("containerd", "dockerd")

# The distribution's engine, whole: Debian 12 has 20.10.24.
_DOCKER_IO = Needed(
    ("docker.io",), ("dockerd", "docker-proxy", "containerd", "containerd-shim-runc-v2", "runc", "iptables")
)
# The first process of a container that asks for one; it has to do without the image's libraries.
_INIT = Needed(("tini",), ("tini-static",))


@dataclass(frozen=True)
class EnginePrograms:
    """The programs of one engine: `directories` come first on their PATH, then the distribution's `trees`."""

    directories: tuple[Path, ...]
    trees: tuple[Programs, ...]

    def path(self, program: str) -> Path:
        """Where `program` is; raises LocalClusterError where it is not there any more."""
        built = (directory / program for directory in self.directories)
        found = (tree.find(program) for tree in self.trees)
        chosen = next((path for path in (*built, *found) if path is not None and path.exists()), None)
        if chosen is None:
            raise LocalClusterError(f"{program} is not there any more.", "Bring the engine up again.")
        return chosen

    def environment(self) -> dict[str, str]:
        """What the programs need in their environment to find each other and their libraries."""
        each = [tree.environment() for tree in self.trees]
        merged = {name: value for environment in reversed(each) for name, value in environment.items()}
        for name in ("PATH", "LD_LIBRARY_PATH"):
            merged[name] = ":".join(environment[name] for environment in each)
        merged["PATH"] = ":".join([*map(str, self.directories), merged["PATH"]])
        return merged


def build(release: str, report: Callable[[str], None]) -> EnginePrograms:
    """The programs of the release, built and fetched where the cache lacks them.

    Raises LocalClusterError where that can't be done.
    """
    made: Mapping[str, Path] = {}
    needed = [_INIT, MACHINE]
    if release == "29":
        made = builder.build_all(list(ENGINE.values()), report)
    else:
        needed.insert(0, _DOCKER_IO)
    directories = tuple(dict.fromkeys(path.parent for path in made.values()))
    return EnginePrograms(directories, tuple(ensure(one, report) for one in needed))


def require_release(release: str) -> str:
    """The release, where it is one that can be had; LocalClusterError otherwise."""
    if release not in RELEASES:
        raise LocalClusterError(
            f"Docker Engine {release!r} is not a release that can be had here.",
            f"Use one of these: {', '.join(RELEASES)}.",
        )
    return release


def require_machine() -> None:
    """Raise LocalClusterError where this machine can't have an engine, with what to do about it."""
    if os.geteuid() != 0:
        raise LocalClusterError(
            "A Docker Engine can only be started by root.",
            "Run the command as root, or use an engine that is there already (DOCKER_HOST).",
        )
    if not Path("/proc/self/ns/net").exists():
        raise LocalClusterError("A Docker Engine needs Linux with namespaces.", "Use another machine.")
