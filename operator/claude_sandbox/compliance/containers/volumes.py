"""What a volume of the engine's own driver shows, by the options that it was made with. Pure.

The driver hands them to mount(2): a type, a device, and options. So a volume may be a path of the host, a file system
that only the kernel serves, a disk, or what a server serves, and such a server may be the host itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.host_files.paths import host_path

_IN_MEMORY = ("tmpfs", "ramfs")
_SERVED = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "beegfs", "afs", "davfs")
_THE_HOST = ("localhost", "::1", "[::1]", "host.docker.internal", "gateway.docker.internal", "host-gateway")
# What the kernel serves is the host's: the engine mounts it in its own namespaces.
_KERNELS = {
    "proc": "/proc",
    "sysfs": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "cgroup2": "/sys/fs/cgroup",
    "devtmpfs": "/dev",
    "devpts": "/dev/pts",
    "mqueue": "/dev/mqueue",
    "bpf": "/sys/fs/bpf",
    "pstore": "/sys/fs/pstore",
    "efivarfs": "/sys/firmware/efi/efivars",
    "binfmt_misc": "/proc/sys/fs/binfmt_misc",
    "debugfs": "/sys/kernel/debug",
    "tracefs": "/sys/kernel/tracing",
    "securityfs": "/sys/kernel/security",
    "configfs": "/sys/kernel/config",
}


class Shown(NamedTuple):
    """What of the host a volume shows."""

    hosts: tuple[str, ...] = ()
    """Its paths of the host, as `host_path` writes them."""
    is_all: bool = True
    """Whether that is known to be all."""


def shown_by(options: Any) -> Shown:
    """What a volume with these driver options shows of the host."""
    if not isinstance(options, Mapping):
        return Shown(is_all=options is None)
    kind, device = (str(options.get(key) or "") for key in ("type", "device"))
    kind, flags = kind.strip().lower(), [one.strip() for one in str(options.get("o") or "").split(",")]
    if kind in _KERNELS:
        return Shown((_KERNELS[kind],))
    if kind == "overlay":
        return _layers(flags)
    # `//server/share` is one of CIFS; of any other kind it is a path, however it is written.
    if device.startswith("/") and not (device.startswith("//") and kind in _SERVED):
        return Shown((host_path("/" + device.lstrip("/")),))
    if kind in _IN_MEMORY or not (kind or device):
        return Shown()
    if kind in _SERVED:
        return Shown(is_all=not any(map(_is_the_host, _servers(device, flags))))
    return Shown(is_all=False)


def shown_of(document: Object | None, mount: Object | None = None) -> Shown:
    """What a volume shows by its document: known only where that is there, and of the engine's own driver. `mount`: as
    the engine's own list has it, which has to say the same."""
    mount, own = mount or {}, document or {}
    if mount.get("Driver") not in (None, "", "local"):
        return Shown(is_all=False)
    places = ((mount.get("Source"), mount.get("Name")), (own.get("Mountpoint"), own.get("Name")))
    if elsewhere := [place for place, name in places if isinstance(place, str) and place and not _is_own(place, name)]:
        return Shown(tuple(map(host_path, elsewhere)))
    if document is None or document.get("Driver") != "local" or "Options" not in document:
        return Shown(hosts=shown_by((document or {}).get("Options")).hosts, is_all=False)
    return shown_by(document["Options"])


def _is_own(source: str, name: Any) -> bool:
    """Whether it is where an engine keeps a volume of this name, wherever it keeps all of them."""
    return source.replace("\\", "/").endswith(f"/{name}/_data")


def _layers(flags: list[str]) -> Shown:
    named = (flag.partition("=") for flag in flags)
    paths = [path for name, _, value in named if name.endswith("dir") for path in value.split(":")]
    hosts = tuple(host_path(path) for path in paths if path.startswith("/"))
    return Shown(hosts, is_all=len(hosts) == len(paths) > 0)


def _servers(device: str, flags: list[str]) -> list[str]:
    named = [flag.partition("=")[2] for flag in flags if flag.startswith(("addr=", "ip=", "server="))]
    server = device.lstrip("/").partition("/")[0] if device.startswith("//") else device.rpartition(":/")[0]
    return [*named, server]


def _is_the_host(server: str) -> bool:
    return server.lower() in _THE_HOST or server.startswith("127.")
