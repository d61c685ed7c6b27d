"""From what `docker inspect` printed to the documents of containers, networks and volumes in it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from claude_sandbox.compliance.evidence.readings import Object

_INSPECT = "write it with: docker inspect NAME > FILE"


# No engine of Docker's has one of these, and each version of Podman has some (libpod/define, InspectContainerData).
_PODMAN = frozenset(
    {
        *("OCIConfigPath", "OCIRuntime", "ConmonPidFile", "PidFile", "StaticDir", "ImageDigest", "ImageName", "Rootfs"),
        *("EffectiveCaps", "BoundingCaps", "Pod", "Namespace", "IsInfra", "IsService", "KubeExitCodePropagation"),
        *("lockNumber", "UseImageHosts", "UseImageHostname", "Dependencies"),
    }
)
_OF_NERDCTL = ("nerdctl/", "io.containerd.")


class DocumentError(Exception):
    """There is nothing in the text that could be judged; the message says why and what to give instead."""


@dataclass(frozen=True)
class Documents:
    """What was found, each kind in its order."""

    containers: tuple[Object, ...]
    networks: tuple[Object, ...] = ()
    volumes: tuple[Object, ...] = ()


def parse(text: str) -> Documents:
    """The documents in `text`: JSON objects, lists of them, or several of either one after the other.

    Raises DocumentError where there is no container among them, or something that can't be judged.
    """
    containers, networks, volumes = [], [], []
    for number, document in enumerate(_objects(text), start=1):
        match kind := _kind(document):
            case "container":
                containers.append(document)
            case "network":
                networks.append(document)
            case "volume":
                volumes.append(document)
            case _:
                raise DocumentError(f"document {number} is {kind}")
    if containers:
        return Documents(tuple(containers), tuple(networks), tuple(volumes))
    if networks or volumes:
        only = "a network" if networks else "a volume"
        raise DocumentError(f"there is no container, only {only}: give the container's document too; {_INSPECT}")
    raise DocumentError(
        f"there is no document of a container: docker inspect found none, or printed nothing; {_INSPECT}"
    )


def _objects(text: str) -> Iterator[Object]:
    for value in _values(text.removeprefix("\ufeff")):
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                raise DocumentError(f"the JSON holds {_type(one)} where an object belongs; {_INSPECT}")
            yield one


def _values(text: str) -> Iterator[Any]:
    decoder, position = json.JSONDecoder(), 0
    while rest := text[position:].lstrip():
        position = len(text) - len(rest)
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DocumentError(f"it is not JSON (line {error.lineno}: {error.msg}); {_INSPECT}") from None
        except RecursionError:
            raise DocumentError(f"it is not a document of docker inspect: nested too deep; {_INSPECT}") from None
        yield value


def _kind(document: Object) -> str:
    """`container`, `network` or `volume`; for anything else, a clause that says what it is and what to do."""
    if isinstance(document.get("apiVersion"), str):
        kind = document.get("kind")
        return f"a Kubernetes {kind}; for a pod use: claude-sandbox check pod NAMESPACE/NAME"
    if "HostConfig" in document:
        if of_podman := _PODMAN & document.keys():
            return f"of Podman ({min(of_podman)}), whose fields don't mean the same as the Docker Engine's; {_INSPECT}"
        if _speaks_as_docker(document):
            return (
                f"of Podman, by its API for docker, whose fields don't mean the same as the Docker Engine's; {_INSPECT}"
            )
        if _is_nerdctl(document):
            return f"of nerdctl, which leaves out of it what it does not know of containerd; {_INSPECT}"
        if "Names" in document or "Config" not in document:
            return f"the summary of a container, as a list of containers has it; {_INSPECT}"
        return "container"
    if "IPAM" in document:
        return "network"
    if "Mountpoint" in document:
        return "volume"
    if "RootFS" in document or "RepoTags" in document or "RepoDigests" in document:
        return f"an image, which says little about what runs of it; {_INSPECT}"
    return f"neither of a container nor of a network or a volume; {_INSPECT}"


def _speaks_as_docker(document: Object) -> bool:
    """Whether Podman told it where docker asked: its own storage, network or profile is in it."""
    paths = [str(document.get(f"{name}Path", "")) for name in ("ResolvConf", "Hostname", "Hosts", "Log")]
    settings = document.get("NetworkSettings")
    key = str(settings.get("SandboxKey", "")) if isinstance(settings, dict) else ""
    return (
        any("/containers/storage/" in path or "/overlay-containers/" in path for path in paths)
        or str(document.get("AppArmorProfile", "")).startswith("containers-default")
        or "/netns/netns-" in key
    )


def _is_nerdctl(document: Object) -> bool:
    """By its labels, which nerdctl leaves in; a container of Docker's has none of that name."""
    config = document.get("Config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    return isinstance(labels, dict) and any(name.startswith(_OF_NERDCTL) for name in labels)


def _type(value: object) -> str:
    return {str: "a text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")
