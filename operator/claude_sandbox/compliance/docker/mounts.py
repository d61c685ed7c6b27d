"""What is mounted into a container, from the three places in which its document says so."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_sandbox.compliance.evidence import Object

_BIND = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]+):([^:]+)(?::([^:]*))?")
_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
# How Docker Desktop's virtual machine sees the files of the machine that it runs on.
_DESKTOP = re.compile(r"/(?:host_mnt|run/desktop/mnt/host)(?=/|\Z)")


@dataclass(frozen=True)
class Mount:
    """Something that is mounted. What the document does not tell is None, but for `host` of what is not the host's."""

    where: str
    """Where in the document it is, for example `Mounts[0]`."""
    kind: str | None
    """`bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`."""
    destination: str | None
    """The path in the container."""
    name: str | None = None
    """Of a volume; empty for one that the engine is yet to name."""
    host: str | None = None
    """The path of the host, written as `host_path` does, of a bind and of a volume that is one in disguise."""
    writable: bool | None = None
    propagation: str | None = None
    size: int | None = None
    """Of a tmpfs, in bytes; 0 where it has no bound."""

    @property
    def place(self) -> str:
        """Its path in the container, or where the document mentions it."""
        return self.destination or self.where

    @property
    def is_vague(self) -> bool:
        """Whether the document leaves out what it is, where it is, or what of the host it is."""
        unnamed = {"bind": self.host, "volume": self.name}.get(self.kind or "", "") is None
        return self.kind is None or self.destination is None or unnamed

    @property
    def doubt(self) -> str:
        """That the document leaves something out of it."""
        return f"the document does not tell all of {self.where}"


def listed_mounts(mounts: Iterable[Object], volumes: Sequence[Object]) -> Iterator[Mount]:
    """From `Mounts`, the engine's own list of what is mounted."""
    for number, mount in enumerate(mounts):
        kind, source = _text(mount, "Type"), _text(mount, "Source")
        host = host_path(source) if kind == "bind" and source else None
        if kind == "volume":
            host = _device(_options_of(_text(mount, "Name"), volumes))
        writable = mount.get("RW")
        yield Mount(
            where=f"Mounts[{number}]",
            kind=kind,
            destination=_path(_text(mount, "Destination")),
            name=_text(mount, "Name"),
            host=host,
            writable=writable if isinstance(writable, bool) else None,
            propagation=_text(mount, "Propagation"),
        )


def bound_mounts(binds: Iterable[str]) -> Iterator[Mount]:
    """From `HostConfig.Binds`: SOURCE:DESTINATION[:OPTIONS], where a source that is no path names a volume."""
    for number, bind in enumerate(binds):
        where = f"HostConfig.Binds[{number}]"
        match = _BIND.fullmatch(bind)
        if match is None:
            yield Mount(where, None, None)
            continue
        source, destination, options = match[1], match[2], (match[3] or "").split(",")
        is_path = source.startswith(("/", ".", "~", "\\")) or ":" in source
        yield Mount(
            where=where,
            kind="bind" if is_path else "volume",
            destination=_path(destination),
            name=source,
            host=host_path(source) if is_path else None,
            writable="ro" not in options,
            propagation=next((option for option in options if option in _PROPAGATIONS), "rprivate"),
        )


def asked_mounts(mounts: Iterable[Object]) -> Iterator[Mount]:
    """From `HostConfig.Mounts`, of which the engine leaves out every field that is empty."""
    for number, mount in enumerate(mounts):
        kind, source = _text(mount, "Type"), _text(mount, "Source")
        host = host_path(source) if kind == "bind" and source else None
        if kind == "volume":
            host = _device(_at(mount, "VolumeOptions", "DriverConfig", "Options"))
        size = _at(mount, "TmpfsOptions", "SizeBytes")
        yield Mount(
            where=f"HostConfig.Mounts[{number}]",
            kind=kind,
            destination=_path(_text(mount, "Target")),
            name=source or "",
            host=host,
            writable=mount.get("ReadOnly") is not True,
            propagation=str(_at(mount, "BindOptions", "Propagation") or "rprivate"),
            size=size if isinstance(size, int) and size > 0 else 0,
        )


def host_path(path: str) -> str:
    """A path of the host, one way of writing it for each: absolute, without `..`, `/run` rather than `/var/run`.

    Of a path of Windows the drive becomes the first part, as Docker Desktop does it.
    """
    path = path.replace("\\", "/")
    if re.match(r"[A-Za-z]:/", path):
        path = f"/{path[0].lower()}{path[2:]}"
    path = posixpath.normpath("/" + path.lstrip("/"))
    path = _DESKTOP.sub("", path, count=1) or "/"
    if f"{path}/".startswith("/var/run/"):
        path = path.removeprefix("/var")
    return path


def holds(path: str, other: str) -> bool:
    """Whether `other` is `path` or below it."""
    return path == "/" or f"{other}/".startswith(f"{path}/")


def _path(path: str | None) -> str | None:
    return posixpath.normpath("/" + path.lstrip("/")) if path else None


def _options_of(name: str | None, volumes: Sequence[Object]) -> Any:
    return next((volume.get("Options") for volume in volumes if name and volume.get("Name") == name), None)


def _device(options: Any) -> str | None:
    """The host's path that a volume with these driver options shows. One of a network file system shows none."""
    if not isinstance(options, Mapping):
        return None
    device = options.get("device")
    # `:/path` is a server's of NFS, `//server/share` one of CIFS.
    if isinstance(device, str) and device.startswith("/") and not device.startswith("//"):
        return host_path(device)
    return None


def _text(of: Object, key: str) -> str | None:
    value = of.get(key)
    return value if isinstance(value, str) else None


def _at(of: Any, *keys: str) -> Any:
    for key in keys:
        of = of.get(key) if isinstance(of, Mapping) else None
    return of
