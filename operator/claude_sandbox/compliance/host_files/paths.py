"""Paths, by one way of writing each: only so may they be compared."""

import posixpath
import re

# How the virtual machines of Docker Desktop and OrbStack see the files of the machine that they run on.
_DESKTOP = re.compile(r"/(?:host_mnt|socket_mnt|run/host_mark|run/desktop/mnt/host|mnt/mac)(?=/|\Z)")

# A distribution of WSL, as Windows names its files.
_WSL = re.compile(r"//(?:wsl\$|wsl\.localhost)/[^/]+", re.IGNORECASE)

# Cygwin's drives; where macOS has a user's data since it has its own system read-only.
_ALSO = re.compile(r"/cygdrive(?=/[a-z](?:/|\Z))|/System/Volumes/Data(?=/|\Z)", re.IGNORECASE)


def host_path(path: str) -> str:
    """A path of the host, one way of writing it for each: absolute, without `..`, `/run` rather than `/var/run`.

    Of a path of Windows the drive becomes the first part, as Docker Desktop does it.
    """
    path = path.replace("\\", "/")
    path = f"//{path[8:]}" if path[:8].casefold() == "//?/unc/" else path.removeprefix("//?/")
    if re.match(r"[A-Za-z]:(?:/|\Z)", path):
        path = f"/{path[0].lower()}{path[2:]}"
    path = _WSL.sub("", path, count=1) or "/"
    path = posixpath.normpath("/" + path.lstrip("/"))
    path = _DESKTOP.sub("", path, count=1) or "/"
    path = _WSL.sub("", f"/{path}", count=1) if path.startswith("/wsl$/") else path
    path = _ALSO.sub("", path, count=1) or "/"
    # On macOS these are links.
    if re.match(r"/private/(?:etc|tmp|var)(?:/|\Z)", path):
        path = path.removeprefix("/private")
    return normal(path)


def normal(path: str) -> str:
    """One way of writing a path, for comparing: absolute, without `.`, `..` and doubled slashes, /run for /var/run."""
    path = posixpath.normpath("/" + path.replace("\\", "/").lstrip("/"))
    return path.removeprefix("/var") if holds("/var/run", path) else path


def holds(path: str, other: str) -> bool:
    """Whether `other` is `path` or below it."""
    return path == "/" or f"{other}/".startswith(f"{path}/")
