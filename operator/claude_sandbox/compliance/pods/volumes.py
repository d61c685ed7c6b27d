"""What a pod's volumes show of the node, of Secrets and of the workspace."""

import posixpath
from collections.abc import Iterator

from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, passed, unknown

READ_ONLY_SOURCES = ("configMap", "downwardAPI", "image", "projected", "secret")
"""Volumes that the kubelet mounts read-only, whatever the mount says."""
TIGHTEST_MODE = 0o440
"""Readable by owner and group: what the kubelet makes of a Secret's files for a user who is not root."""


def host_paths(view: View) -> Iterator[tuple[str, str, str]]:
    """The name, path and type of each of the node's paths that is a volume; the path as in /run, never /var/run."""
    for volume in view.volumes:
        host = volume.get("hostPath")
        if host is None:
            continue
        path = posixpath.normpath("/" + str(host.get("path", "")).lstrip("/"))
        if f"{path}/".startswith("/var/run/"):
            path = path.removeprefix("/var")
        yield str(volume.get("name")), path, host.get("type") or ""


def is_workspace(volume: Object, claim: str | None) -> bool:
    if claim is None:
        return volume.get("emptyDir") is not None
    return (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim


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


def secrets_of(volume: Object) -> Iterator[str]:
    """The names of the Secrets that a volume shows or uses; empty for one whose name the pod does not tell."""
    if secret := volume.get("secret"):
        yield str(secret.get("secretName", ""))
    for source in (volume.get("projected") or {}).get("sources") or ():
        if secret := source.get("secret"):
            yield str(secret.get("name", ""))
    if csi := volume.get("csi"):
        if reference := csi.get("nodePublishSecretRef"):
            yield str(reference.get("name", ""))
        # The Secrets Store CSI driver: what it mounts is from outside the cluster, and the pod does not name it.
        elif "secrets-store" in str(csi.get("driver", "")):
            yield ""
    for kind, source in volume.items():
        # The in-tree drivers of network file systems.
        if kind in ("secret", "projected", "csi") or not isinstance(source, dict):
            continue
        if reference := source.get("secretRef"):
            yield str(reference.get("name", ""))
        elif name := source.get("secretName"):
            yield str(name)


def loosest_mode(volume: Object) -> int | None:
    """A mode of the volume's files that is looser than it may be; None where all are tight."""
    source = volume.get("secret") or volume.get("projected") or {}
    items = [*(source.get("items") or ())]
    for part in source.get("sources") or ():
        items += (part.get("secret") or {}).get("items") or ()
    # What the API server fills in is 0644.
    modes = [source.get("defaultMode", 0o644), *(item["mode"] for item in items if item.get("mode") is not None)]
    return next((mode for mode in modes if mode & ~TIGHTEST_MODE), None)
