"""FS: which files of the node the sandbox can reach, and where it can write."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance import sockets
from claude_sandbox.compliance.control import Control, Level, Verdict, failed, judged, maps, passed, unknown
from claude_sandbox.compliance.pods.evidence import Object
from claude_sandbox.compliance.pods.view import Container, View
from claude_sandbox.compliance.privilege import violating

READ_ONLY_SOURCES = ("configMap", "downwardAPI", "image", "projected", "secret")
"""Volumes that the kubelet mounts read-only, whatever the mount says."""


def read_only_root(view: View) -> Verdict:
    """Nothing of the image can be changed."""
    return judged(
        f"container {container.name} can write to its root file system"
        for container in view.containers
        if container.context.get("readOnlyRootFilesystem") is not True
    )


def runtime_socket(view: View) -> Verdict:
    """Who can speak to the container runtime is root on the node. A directory above a socket holds the socket."""
    problems = []
    for name, path, kind in _host_paths(view):
        if found := sockets.engine(path, "") or sockets.agent(path, ""):
            problems.append(f"volume {name} {found}")
        elif kind == "Socket" or path.endswith(".sock"):
            problems.append(f"volume {name} is the node's socket {path}")
    return judged(problems)


def devices(view: View) -> Verdict:
    """No device of the node, whichever way it would come."""
    problems = [
        f"volume {name} is the node's device {path}"
        for name, path, kind in _host_paths(view)
        if kind in ("BlockDevice", "CharDevice") or f"{path}/".startswith("/dev/")
    ]
    if view.spec.get("resourceClaims"):
        problems.append("the pod claims devices")
    for container in view.containers:
        if container.spec.get("volumeDevices"):
            problems.append(f"container {container.name} has a raw block volume")
        resources = container.spec.get("resources") or {}
        # Resources of Kubernetes' own have no domain; those of device plugins always do.
        asked = {*(resources.get("limits") or ()), *(resources.get("requests") or ())}
        problems += [f"container {container.name} asks for {name}" for name in sorted(asked) if "/" in name]
    return judged(problems)


def propagation(view: View) -> Verdict:
    """Mounts made on one side stay unseen on the other."""
    return judged(
        f"container {container.name} mounts {mount.get('name')} with propagation {mount['mountPropagation']}"
        for container in view.containers
        for mount in _mounts(container)
        if mount.get("mountPropagation") not in (None, "None")
    )


def scratch(view: View) -> Verdict:
    """Nothing can fill the node's disk or memory."""
    return judged(
        f"volume {volume.get('name')} has no sizeLimit"
        for volume in view.volumes
        if volume.get("emptyDir") is not None and not _is_bound(volume["emptyDir"].get("sizeLimit"))
    )


def writable(view: View) -> Verdict:
    """Only the workspace, if it is to be writable, and scratch space."""
    expected = view.expected
    volumes = {volume.get("name"): volume for volume in view.volumes}
    problems, found = [], False
    for container in view.containers:
        for mount in _mounts(container):
            volume = volumes.get(mount.get("name"), {})
            path = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
            read_only = mount.get("readOnly") is True or any(volume.get(one) is not None for one in READ_ONLY_SOURCES)
            workspace = path == expected.workspace_path and container.name == expected.container
            found |= workspace
            allowed = not expected.workspace_read_only if workspace else volume.get("emptyDir") is not None
            if workspace and not _is_workspace(volume, expected.workspace_claim):
                problems.append(f"{path} is not the declared workspace")
            elif not (read_only or allowed):
                problems.append(f"container {container.name} can write to {path}")
    if not found:
        problems.append(f"the workspace is not mounted at {expected.workspace_path}")
    return failed("; ".join(problems)) if problems else known_to_be_all(view)


def known_to_be_all(view: View) -> Verdict:
    """Whether the mounts that a pod names are all that it has.

    A runtime gives a container what its image declares as VOLUME as well: writable, executable, without a bound, on the
    node's disk, and told by no API object. What is mounted over is in its place; so who knows an image can prevent it.
    """
    unsure = sorted(
        {
            str(container.spec.get("image", ""))
            for container in view.containers
            if container.spec.get("image") not in view.expected.plain_images
        }
    )
    if not unsure:
        return passed()
    return unknown(
        "a runtime makes what an image declares as VOLUME writable, and no API object tells what is declared by "
        f"{', '.join(unsure)} (--image-without-volumes)"
    )


def _mounts(container: Container) -> Iterator[Object]:
    yield from container.spec.get("volumeMounts") or ()


def _host_paths(view: View) -> Iterator[tuple[str, str, str]]:
    """The name, path and type of each of the node's paths that is a volume; the path as in /run, never /var/run."""
    for volume in view.volumes:
        host = volume.get("hostPath")
        if host is None:
            continue
        path = posixpath.normpath("/" + str(host.get("path", "")).lstrip("/"))
        if f"{path}/".startswith("/var/run/"):
            path = path.removeprefix("/var")
        yield str(volume.get("name")), path, host.get("type") or ""


def _is_bound(size: object) -> bool:
    return size is not None and str(size) not in ("", "0")


def _is_workspace(volume: Object, claim: str | None) -> bool:
    if claim is None:
        return volume.get("emptyDir") is not None
    return (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim


CONTROLS = (
    Control(
        "FS-01",
        "Read-only root file system",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Set readOnlyRootFilesystem to true in all containers.",
        read_only_root,
        mappings=maps(
            cis_docker=("5.13",),
            kubescape=("C-0017",),
            trivy=("KSV-0014",),
        ),
    ),
    Control(
        "FS-02",
        "No host paths",
        Severity.CRITICAL,
        Level.BASELINE,
        "Remove the hostPath volumes.",
        violating("hostPathVolumes"),
        mappings=maps(
            pss=("hostPathVolumes",),
            cis_docker=("5.6",),
            kubescape=("C-0045", "C-0048"),
            trivy=("KSV-0023",),
        ),
    ),
    Control(
        "FS-03",
        "No container runtime socket",
        Severity.CRITICAL,
        Level.BASELINE,
        "Remove the volumes that are or hold a socket of the node.",
        runtime_socket,
        mappings=maps(cis_docker=("5.32",), kubescape=("C-0074",), trivy=("KSV-0006",)),
    ),
    Control(
        "FS-04",
        "Only allowed volume types",
        Severity.MEDIUM,
        Level.RESTRICTED,
        "Replace the volumes by claims, emptyDir, or read-only sources such as configMap.",
        violating("restrictedVolumes"),
        mappings=maps(pss=("restrictedVolumes",), trivy=("KSV-0028", "KSV-0121")),
    ),
    Control(
        "FS-05",
        "No host devices",
        Severity.HIGH,
        Level.SANDBOX,
        "Remove device resources and claims, raw block volumes and host devices from the pod.",
        devices,
        mappings=maps(cis_docker=("5.18",)),
    ),
    Control(
        "FS-06",
        "No mount propagation",
        Severity.HIGH,
        Level.BASELINE,
        "Remove mountPropagation from all volume mounts.",
        propagation,
        mappings=maps(cis_docker=("5.20",)),
    ),
    Control(
        "FS-07",
        "Scratch space bounded",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Set a sizeLimit for every emptyDir.",
        scratch,
    ),
    Control(
        "FS-08",
        "Only the workspace and scratch space writable",
        Severity.HIGH,
        Level.SANDBOX,
        "Mount the declared workspace, as writable as declared, and everything else readOnly.",
        writable,
        mappings=maps(kubescape=("C-0045",)),
    ),
)
