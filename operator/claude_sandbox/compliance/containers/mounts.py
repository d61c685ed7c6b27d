"""What is mounted into a container, from the three places in which its document says so."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.containers.volumes import Shown, shown_by, shown_of
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.host_files.paths import host_path, normal

# The place in the container is absolute, so that a volume may be called by one letter, as a drive is.
_BIND = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]+):((?:[A-Za-z]:)?[\\/][^:]*)(?::([^:]*))?")
_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})

# Where a path of another distribution is mounted before it is mounted again: what it is, only Desktop's labels tell.
_VEILED = re.compile(
    r"(?:/run/desktop/mnt/host|/mnt/host|/mnt)?/wsl/(?:docker-desktop-bind-mounts|rancher-desktop/run/docker-mounts)/.*"
)
# Of `-v` it writes binds, of `--mount` mounts.
_LABEL = re.compile(r"desktop\.docker\.io/((?:binds|mounts)/\d+)/Target")
_PROXIED = "dockerSocketProxied"
"""How the labels tell that the engine's own socket is there, whatever is the source."""


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
    """Of a volume: whether it may show something of the host's: its own document was not given, or leaves it open."""

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
            return f"what the volume at {self.place} shows is not told (docker volume inspect {self.name or 'NAME'})"
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
        found = Mount(
            where=f"Mounts[{number}]",
            kind=kind,
            destination=destination,
            name=name,
            host=host,
            writable=writable if isinstance(writable, bool) else None,
            propagation=_text(mount, "Propagation"),
        )
        if kind == "volume":
            yield from _of_volume(found, shown_of(_document_of(name, volumes), mount))
        else:
            # What a driver of the cluster's shows, no document of the engine's tells.
            yield replace(found, is_veiled=kind == "cluster")


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
    for name, target in labels.items():
        match = _LABEL.fullmatch(name)
        place = _path(target) if match and isinstance(target, str) else None
        if match is None or place is None:
            continue
        source, kind = (labels.get(f"desktop.docker.io/{match[1]}/{one}") for one in ("Source", "SourceKind"))
        if kind == _PROXIED:
            found[place] = "/run/docker.sock"
        elif isinstance(source, str):
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
        place = _path(destination)
        found = Mount(
            where=where,
            kind="bind" if is_path else "volume",
            destination=place,
            name=source,
            host=_host(source, place, sources) if is_path else None,
            writable="ro" not in options,
            propagation=next((option for option in options if option in _PROPAGATIONS), "rprivate"),
        )
        yield from (found,) if is_path else _of_volume(found, shown_of(_document_of(source, volumes)))


def asked_mounts(
    mounts: Iterable[Object], volumes: Sequence[Object] = (), sources: Mapping[str, str] | None = None
) -> Iterator[Mount]:
    """From `HostConfig.Mounts`, of which the engine leaves out every field that is empty."""
    for number, mount in enumerate(mounts):
        kind, source = _text(mount, "Type"), _text(mount, "Source")
        place = _path(_text(mount, "Target"))
        host = _host(source, place, sources) if kind == "bind" and source else None
        size = _at(mount, "TmpfsOptions", "SizeBytes")
        found = Mount(
            where=f"HostConfig.Mounts[{number}]",
            kind=kind,
            destination=place,
            name=source or "",
            host=host,
            writable=mount.get("ReadOnly") is not True,
            propagation=str(_at(mount, "BindOptions", "Propagation") or "rprivate"),
            size=size if isinstance(size, int) and size > 0 else 0,
        )
        if kind == "volume":
            # One that is there already keeps its own options, whatever is asked for.
            asked, own = shown_by(_at(mount, "VolumeOptions", "DriverConfig", "Options")), _document_of(source, volumes)
            shown = shown_of(own)
            yield from _of_volume(found, Shown((*asked.hosts, *shown.hosts), asked.is_all and shown.is_all))
        else:
            yield found


def _path(path: str | None) -> str | None:
    return posixpath.normpath("/" + path.lstrip("/")) if path else None


def _host(source: str, place: str | None, sources: Mapping[str, str] | None) -> str | None:
    """The path of the host that a bind shows; None where its source is a mere handle and no label tells of what."""
    if _VEILED.fullmatch(re.sub(r"/+", "/", source.replace("\\", "/"))):
        return (sources or {}).get(place or "")
    return host_path(source)


def _document_of(name: str | None, volumes: Sequence[Object]) -> Object | None:
    return next((volume for volume in volumes if name and volume.get("Name") == name), None)


def _of_volume(mount: Mount, shown: Shown) -> Iterator[Mount]:
    """A volume, once for each path of the host that it shows."""
    for host in dict.fromkeys(shown.hosts) or (None,):
        yield replace(mount, host=host, is_veiled=not shown.is_all)


def _text(of: Object, key: str) -> str | None:
    value = of.get(key)
    return value if isinstance(value, str) else None


def _at(of: Any, *keys: str) -> Any:
    for key in keys:
        of = of.get(key) if isinstance(of, Mapping) else None
    return of
