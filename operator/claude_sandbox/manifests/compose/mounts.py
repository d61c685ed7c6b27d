"""What a service mounts: its volumes, tmpfs, secrets and configs, as an engine is asked for them."""

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.manifests.compose.values import UNTOLD, interpolated, mapping, size, text, texts

_READ_ONLY = ("secrets", "configs")
_HOME = "/home/~"
"""The home of whoever runs Compose, wherever that is."""
_SOCKET = "/var/run/docker.sock"


def host_part(service: Object, project: Object, directory: str) -> dict[str, Any]:
    """The fields of HostConfig that say what is mounted."""
    binds: list[str] = []
    mounts: list[Object] = []
    volumes = service.get("volumes")
    for one in volumes if isinstance(volumes, list) else ():
        short = text(one) if isinstance(one, str) else None
        if isinstance(one, Mapping):
            mounts.append(_long(one, directory))
        elif short is None:
            mounts.append({})
        elif ":" in short:
            bind = _absolute(short, directory)
            if bind is not None:
                binds.append(bind)
            else:
                mounts.append({"Type": "bind", "Target": short.split(":")[1]})
        else:
            mounts.append({"Type": "volume", "Target": short})
    mounts += [mount for kind in _READ_ONLY for mount in _files(kind, service, project, directory)]
    if service.get("use_api_socket"):
        binds.append(f"{_SOCKET}:{_SOCKET}")
    return {"Binds": binds, "Mounts": mounts, **_tmpfs(service.get("tmpfs"))}


def is_all_told(service: Object) -> bool:
    """Whether what it mounts is written in the file; what it has from other containers is not."""
    return not service.get("volumes_from") and isinstance(service.get("volumes"), list | None)


def volume_documents(project: Object) -> tuple[Object, ...]:
    """The project's volumes as `docker volume inspect` would tell of them; of those made elsewhere nothing is known."""
    found = []
    for name, volume in mapping(project.get("volumes")).items():
        options = mapping(volume)
        if not options.get("external"):
            driver = text(options.get("driver")) or "local"
            found.append({"Name": name, "Driver": driver, "Options": interpolated(options.get("driver_opts"))})
    return tuple(found)


def _long(volume: Object, directory: str) -> Object:
    kind, source = text(volume.get("type")), text(volume.get("source"))
    mount: dict[str, Any] = {"Type": kind, "Target": text(volume.get("target"))}
    if kind == "bind":
        source = _resolved(_path(source), directory)
        mount["BindOptions"] = {"Propagation": text(mapping(volume.get("bind")).get("propagation")) or ""}
    if source is not None:
        mount["Source"] = source
    if volume.get("read_only") is True:
        mount["ReadOnly"] = True
    if kind == "tmpfs":
        mount["TmpfsOptions"] = {"SizeBytes": size(mapping(volume.get("tmpfs")).get("size")) or 0}
    return mount


def _files(kind: str, service: Object, project: Object, directory: str) -> Iterator[Object]:
    """Secrets and configs: files of the host, or what Compose itself copies into the container."""
    those = service.get(kind)
    for one in those if isinstance(those, list) else ():
        name = one if isinstance(one, str) else text(mapping(one).get("source"))
        target = text(mapping(one).get("target")) if isinstance(one, Mapping) else None
        place = target or name or ""
        if not place.startswith("/"):
            place = f"/run/secrets/{place}" if kind == "secrets" else f"/{place}"
        file = text(mapping(mapping(project.get(kind)).get(name or "")).get("file"))
        # What is copied is gone with the container, as an image's files are.
        host = {"Type": "bind", "Source": _resolved(_path(file), directory)} if file else {"Type": "image"}
        yield {**host, "Target": place, "ReadOnly": True}


def _tmpfs(value: Any) -> dict[str, Any]:
    those = texts(value)
    if those is None:
        return {"Tmpfs": None if value is None else "not told"}
    return {"Tmpfs": {path: options for path, _, options in (one.partition(":") for one in those)}}


def _absolute(bind: str, directory: str) -> str | None:
    source, separator, rest = bind.partition(":")
    resolved = _resolved(source, directory)
    return None if resolved is None else f"{resolved}{separator}{rest}"


def _path(source: str | None) -> str | None:
    """What can only be a path, in the form in which one that is relative begins with a dot.

    In the short form a word without one is a volume's name; here Compose takes it for a file of the project.
    """
    if (
        source is None
        or source.startswith((".", "/", "~", "\\\\"))
        or UNTOLD in source
        or PureWindowsPath(source).drive
    ):
        return source
    return f"./{source}"


def _resolved(source: str | None, directory: str) -> str | None:
    """A path of the host; None where it depends on where Compose is run."""
    if source is None or UNTOLD in source or (source.startswith(".") and not directory):
        return None
    if source.startswith("~"):
        return _HOME + source[1:]
    # Parts such as `..` of any other path are resolved where mounts are judged, as in what an engine tells.
    return posixpath.normpath(posixpath.join(directory, source)) if source.startswith(".") else source
