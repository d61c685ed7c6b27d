"""What is mounted into a container, from the three places in which its document says so."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.host_files.paths import host_path, normal

# The place in the container is absolute, so that a volume may be called by one letter, as a drive is.
_BIND = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]+):((?:[A-Za-z]:)?[\\/][^:]*)(?::([^:]*))?")
_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})

# Where a path of another distribution is mounted before it is mounted again: what it is, only Desktop's labels tell.
_VEILED = re.compile(
    r"(?:/run/desktop/mnt/host|/mnt/host|/mnt)?/wsl/(?:docker-desktop-bind-mounts|rancher-desktop/run/docker-mounts)/.*"
)
_LABEL = re.compile(r"desktop\.docker\.io/binds/(\d+)/Source")


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
    is_veiled: bool = False
    """Of a volume: whether it may be a path of the host in disguise, since its own document was not given."""

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
        if self.is_veiled:
            return f"what the volume at {self.place} is was not given (docker volume inspect {self.name or 'NAME'})"
        return f"the document does not tell all of {self.where}"


def listed_mounts(
    mounts: Iterable[Object], volumes: Sequence[Object], sources: Mapping[str, str] | None = None
) -> Iterator[Mount]:
    """From `Mounts`, the engine's own list of what is mounted. `sources`: as `desktop_sources` tells them."""
    for number, mount in enumerate(mounts):
        kind, source = _text(mount, "Type"), _text(mount, "Source")
        destination = _path(_text(mount, "Destination"))
        name, writable = _text(mount, "Name"), mount.get("RW")
        host = _host(source, destination, sources) if kind == "bind" and source else None
        document = _document_of(name, volumes) if kind == "volume" else None
        if document is not None:
            host = _device(document.get("Options"))
        yield Mount(
            where=f"Mounts[{number}]",
            kind=kind,
            destination=destination,
            name=name,
            host=host,
            writable=writable if isinstance(writable, bool) else None,
            propagation=_text(mount, "Propagation"),
            is_veiled=kind == "volume" and not _is_plain(document),
        )


def named_sources(container: Document) -> Iterator[str]:
    """Each source, in any of the three places; a normal path, before `host_path` takes it for the host's."""
    for bind in container.strings("HostConfig.Binds") or ():
        if match := _BIND.fullmatch(bind):
            yield normal(match[1])
    for place in ("Mounts", "HostConfig.Mounts"):
        for mount in container.objects(place) or ():
            if source := _text(mount, "Source"):
                yield normal(source)


def desktop_sources(labels: Mapping[str, object]) -> dict[str, str]:
    """For each place in the container the path that Docker Desktop's labels tell as its source."""
    found = {}
    for name, source in labels.items():
        if (match := _LABEL.fullmatch(name)) and isinstance(source, str):
            target = labels.get(f"desktop.docker.io/binds/{match[1]}/Target")
            if isinstance(target, str) and (place := _path(target)):
                found[place] = host_path(source)
    return found


def bound_mounts(
    binds: Iterable[str], volumes: Sequence[Object] = (), sources: Mapping[str, str] | None = None
) -> Iterator[Mount]:
    """From `HostConfig.Binds`: SOURCE:DESTINATION[:OPTIONS], where a source that is no path names a volume."""
    for number, bind in enumerate(binds):
        where = f"HostConfig.Binds[{number}]"
        match = _BIND.fullmatch(bind)
        if match is None:
            yield Mount(where, None, None)
            continue
        source, destination, options = match[1], match[2], (match[3] or "").split(",")
        is_path = source.startswith(("/", ".", "~", "\\")) or ":" in source
        document = None if is_path else _document_of(source, volumes)
        place = _path(destination)
        yield Mount(
            where=where,
            kind="bind" if is_path else "volume",
            destination=place,
            name=source,
            host=_host(source, place, sources) if is_path else _device((document or {}).get("Options")),
            writable="ro" not in options,
            propagation=next((option for option in options if option in _PROPAGATIONS), "rprivate"),
            is_veiled=not is_path and not _is_plain(document),
        )


def asked_mounts(
    mounts: Iterable[Object], volumes: Sequence[Object] = (), sources: Mapping[str, str] | None = None
) -> Iterator[Mount]:
    """From `HostConfig.Mounts`, of which the engine leaves out every field that is empty."""
    for number, mount in enumerate(mounts):
        kind, source = _text(mount, "Type"), _text(mount, "Source")
        place, document = _path(_text(mount, "Target")), None
        host = _host(source, place, sources) if kind == "bind" and source else None
        if kind == "volume":
            # One that is there already keeps its own options, whatever is asked for.
            document = _document_of(source, volumes)
            host = _device(_at(mount, "VolumeOptions", "DriverConfig", "Options")) or _device(
                (document or {}).get("Options")
            )
        size = _at(mount, "TmpfsOptions", "SizeBytes")
        yield Mount(
            where=f"HostConfig.Mounts[{number}]",
            kind=kind,
            destination=place,
            name=source or "",
            host=host,
            writable=mount.get("ReadOnly") is not True,
            propagation=str(_at(mount, "BindOptions", "Propagation") or "rprivate"),
            size=size if isinstance(size, int) and size > 0 else 0,
            is_veiled=kind == "volume" and not _is_plain(document),
        )


def _path(path: str | None) -> str | None:
    return posixpath.normpath("/" + path.lstrip("/")) if path else None


def _host(source: str, place: str | None, sources: Mapping[str, str] | None) -> str | None:
    """The path of the host that a bind shows; None where its source is a mere handle and no label tells of what."""
    if _VEILED.fullmatch(re.sub(r"/+", "/", source.replace("\\", "/"))):
        return (sources or {}).get(place or "")
    return host_path(source)


def _document_of(name: str | None, volumes: Sequence[Object]) -> Object | None:
    return next((volume for volume in volumes if name and volume.get("Name") == name), None)


def _is_plain(document: Object | None) -> bool:
    """Whether a volume's document is there, and of the engine's own driver, whose options tell what it shows."""
    return (
        document is not None
        and document.get("Driver") == "local"
        and "Options" in document
        and isinstance(document.get("Options"), Mapping | None)
    )


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
