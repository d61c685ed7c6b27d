"""The containers beside a sandbox's, as their documents tell: in what they are less hardened than a sandbox."""

from collections.abc import Iterator

from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.readings import Object

_ROOT = ("", "0", "root")
_MOUNTS = ("Mounts", "HostConfig.Binds", "HostConfig.Mounts")


def loose(document: Object, what_it_is: str, volume: str = "") -> Iterator[str]:
    """In what a relay or a gateway is less hardened than a sandbox. What its document does not tell counts against
    it. `volume`: the one that it may have mounted."""
    found = Document(document)
    options = found.strings("HostConfig.SecurityOpt") or ()
    mounted = [found.tells(path) and _holds(found, path, volume) for path in _MOUNTS]
    shared = [found.text(f"HostConfig.{name}") == "host" for name in ("NetworkMode", "PidMode", "IpcMode", "UTSMode")]
    dropped, added = found.strings("HostConfig.CapDrop") or (), found.strings("HostConfig.CapAdd")
    faults = {
        "is privileged": found.flag("HostConfig.Privileged") is not False,
        "keeps capabilities": "ALL" not in dropped or bool(added) or added is None,
        "may gain privileges": not {"no-new-privileges", "no-new-privileges:true"} & set(options),
        "has no seccomp filter": "seccomp=unconfined" in options,
        "has a root file system that can be written to": found.flag("HostConfig.ReadonlyRootfs") is not True,
        "runs as root": (found.text("Config.User") or "").partition(":")[0] in _ROOT,
        "has something mounted": any(mounted),
        "is in a namespace of the host": any(shared),
    }
    yield from (f"{what_it_is} {what}" for what, true in faults.items() if true)


def _holds(found: Document, path: str, volume: str) -> bool:
    """Whether a list has anything else than this volume, once, as far as it can be understood."""
    if path.endswith("Binds"):
        return found.strings(path) is None or bool(found.strings(path))
    mounts = found.objects(path)
    named = "Name" if path == "Mounts" else "Source"
    return mounts is None or len(mounts) > 1 or any(not volume or not _is_volume(one, named, volume) for one in mounts)


def _is_volume(mount: Object, named: str, volume: str) -> bool:
    # What it is to be made of where it is missing can be a directory of the host's.
    made_of = (mount.get("VolumeOptions") or {}).get("DriverConfig")
    return mount.get("Type") == "volume" and mount.get(named) == volume and not made_of
