"""A node whose volumes a CSI driver makes, with snapshots: external-provisioner and -snapshotter as processes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodekit import Kubectl, Manifest, eventually, report
from snapshotkit import definitions, snapshot_class

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.node import namespaces
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.programs.builder import build_all
from claude_sandbox.localcluster.programs.tools import tool

DRIVER = "image-files.csi.claudesandbox.dev"
STORAGE = "image-files"
"""Of the StorageClass and the VolumeSnapshotClass."""
_PROGRAMS = ("csi-image-files", "csi-provisioner", "csi-snapshotter", "snapshot-controller")
_GROUPS = ("snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io")
"""The snapshot-controller waits for both."""
_KUBELET = "/var/lib/kubelet"


@contextmanager
def csi_driver(node: Cluster, kubectl: Kubectl, directory: Path) -> Iterator[None]:
    """It is there, with a StorageClass and a VolumeSnapshotClass. What is made of it has to be gone at the end."""
    programs = build_all([tool(name, node.version) for name in _PROGRAMS], report)
    wanted = definitions(_GROUPS)
    kubectl.apply(*wanted)
    for one in wanted:
        kubectl("wait", "--for=condition=Established", f"crd/{one['metadata']['name']}")
    kubectl.apply(*_objects())
    inside = namespaces.enter(Names.of(node.layout))
    socket, images = f"{_KUBELET}/plugins/{DRIVER}.sock", "/var/lib/csi-image-files"
    subprocess.run([*inside, "mkdir", "-p", f"{_KUBELET}/plugins", images], check=True)
    (name,) = kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    api = (f"--kubeconfig={node.kubeconfig}", "--v=2")
    arguments = {
        "csi-image-files": (
            f"--endpoint={socket}", f"--registration={_KUBELET}/plugins_registry/{DRIVER}-reg.sock",
            f"--directory={images}", f"--node={name}",
        ),
        "csi-provisioner": (*api, f"--csi-address={socket}"),
        "csi-snapshotter": (*api, f"--csi-address={socket}"),
        "snapshot-controller": (*api, "--leader-election=false"),
    }  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        for program, given in arguments.items():
            with (directory / f"{program}.log").open("wb") as log:
                command = [*inside, str(programs[program]), *given]
                running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        eventually("the kubelet knows the driver", lambda: DRIVER in kubectl("get", "csinodes", "-o", "json").stdout)
        yield
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)
        kinds = ("volumesnapshotclass", "storageclass")
        for kind in kinds:
            kubectl("delete", kind, STORAGE)


def _objects() -> list[Manifest]:
    storage = "storage.k8s.io/v1"
    spec = {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "File"}
    return [
        {"apiVersion": storage, "kind": "CSIDriver", "metadata": {"name": DRIVER}, "spec": spec},
        {
            "apiVersion": storage, "kind": "StorageClass", "metadata": {"name": STORAGE}, "provisioner": DRIVER,
            "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        },
        snapshot_class(STORAGE, DRIVER),
    ]  # fmt: skip
