"""What an engine can do, as far as a sandbox depends on it. Pure: read from `docker info` and the API version."""

import re
from dataclasses import dataclass

from claude_sandbox.backends.docker.engine.documents import Object

# Versions of the API: 1.44 is of Docker 25.0, 1.48 of 28.0.
_START_INTERVAL = (1, 44)
_ISOLATED_GATEWAY = (1, 48)
# tmpfs can be told to stay out of swap since Linux 6.4, but not from within a user namespace.
_NOSWAP = (6, 4)
_KNOWS_ISOLATED = 28
_LIMITS = ("MemoryLimit", "CpuCfsQuota", "PidsLimit")


@dataclass(frozen=True)
class EngineCapabilities:
    """One engine. `version` is for people; everything else decides on something."""

    version: str = ""
    api: tuple[int, int] = (1, 41)
    default_runtime: str = "runc"
    has_init: bool = False
    """Whether it has a first process to offer that reaps orphans."""
    limits_swap: bool = True
    remaps_users: bool = False
    """Whether root in a container is another user of the host (userns-remap)."""
    rootless: bool = False
    """Whether it runs without root, in a user namespace of its own."""
    unenforced: frozenset[str] = frozenset()
    """Limits that it takes and can't enforce, as `docker info` calls them: MemoryLimit, CpuCfsQuota, PidsLimit."""
    seccomp: str | None = None
    """The profile of containers that name none: `builtin`, `default`, `unconfined`, a file, or empty where it can't
    filter; None where it does not tell."""
    keeps_from_swap: bool = False
    """Whether its kernel knows a tmpfs that is never written to a swap device."""

    @property
    def start_interval(self) -> bool:
        """Whether it checks a starting container's health more often than a running one's."""
        return self.api >= _START_INTERVAL

    @property
    def gives_users(self) -> bool:
        """Whether root in a container is somebody else on the host."""
        return self.remaps_users or self.rootless

    @property
    def isolated_gateway(self) -> bool:
        """Whether it knows networks on which the host itself has no address."""
        return self.api >= _ISOLATED_GATEWAY

    @property
    def knows_isolated(self) -> bool | None:
        """Whether it does what the gateway mode `isolated` says (Docker 28.0), whatever version of its API is spoken.

        None: its version can't be read.
        """
        major = self.version.partition(".")[0]
        return int(major) >= _KNOWS_ISOLATED if major.isascii() and major.isdecimal() else None


def capabilities_of(info: Object, api_version: str) -> EngineCapabilities:
    """From the answer to `/info` and the version of the API that is spoken, for example 1.41."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    rootless = any(option.startswith("name=rootless") for option in options)
    return EngineCapabilities(
        version=str(info.get("ServerVersion", "")),
        api=_pair(api_version),
        default_runtime=str(info.get("DefaultRuntime") or "runc"),
        # "N/A" where it looked and found none; distributions' builds leave the version empty.
        has_init=bool(info.get("InitBinary")) and (info.get("InitCommit") or {}).get("ID") != "N/A",
        limits_swap=info.get("SwapLimit") is not False,
        remaps_users=any(option.startswith("name=userns") for option in options),
        rootless=rootless,
        seccomp=_seccomp(options) if options else None,
        unenforced=frozenset(name for name in _LIMITS if info.get(name) is False),
        keeps_from_swap=_pair(str(info.get("KernelVersion", ""))) >= _NOSWAP and not rootless,
    )


def gives_app_armor(info: Object) -> bool | None:
    """Whether containers get a profile of AppArmor, by the answer to `/info`; None where that does not tell."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    return any(option.split(",")[0] == "name=apparmor" for option in options) if options else None


def _seccomp(options: list[str]) -> str:
    """Of `name=seccomp,profile=builtin`."""
    found = [option for option in options if option.startswith("name=seccomp")]
    return found[0].partition("profile=")[2] if found else ""


def _pair(version: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
