"""An image that declares VOLUMEs, and so gives a hardened pod places to write to that no API object shows.

The runtime makes them on the node's disk: writable, executable, without a bound and uncounted. The control that says
that nothing but the workspace can be written to passed, since the pod names no such mount. It is Unknown now for every
image of which nobody who may know has said that it declares none, which is said of an image by its digest.
"""

import json
import subprocess
import sys
import tarfile

import pytest
from enginekit import BUSYBOX
from nodekit import Kubectl, eventually, namespace, pod, report

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

pytestmark = pytest.mark.node

PLACE = "image-volumes"
WRITES_AND_RUNS = "cp /bin/busybox /data/echo && /data/echo it runs"


@pytest.fixture(scope="module")
def image(kubectl: Kubectl, node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ImageArchive:
    """An image whose user can write to /data, and nowhere else."""
    program = ensure(BUSYBOX, report).file("bin/busybox")
    assert program is not None
    links = {f"/bin/{one}": "busybox" for one in ("sh", "cp", "sleep")}
    target = tmp_path_factory.mktemp("volumes") / "image.tar"
    made = of_programs(
        {"/bin/busybox": program}, target, "claudesandbox.dev/image-volumes:1", builder.goarch(),
        ("/bin/busybox", "sleep", "infinity"), links, volumes=("/data",),
    )  # fmt: skip
    load_image(node.layout, made)
    kubectl.apply(namespace(PLACE))
    return made


def finding(node: Cluster, name: str, *options: str) -> str:
    """What `check pod` finds of FS-08."""
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "check", "pod", f"{PLACE}/{name}", "-o", "json"]
    done = subprocess.run(
        [*command, *options, f"--kubeconfig={node.kubeconfig}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    (found,) = json.loads(done.stdout)
    return str(next(one["result"] for one in found["controls"] if one["id"] == "FS-08"))


def test_a_place_that_only_the_image_declares_is_no_longer_taken_for_nothing(
    kubectl: Kubectl, node: Cluster, image: ImageArchive
) -> None:
    kubectl.apply(pod(PLACE, "declared", image.pinned))
    kubectl.ready(PLACE, "declared")
    wrote = kubectl.run(PLACE, "declared", "sh", "-c", WRITES_AND_RUNS, check=False)
    assert "it runs" in wrote.stdout, f"the attack has to work where nothing is in its way: {wrote.stderr}"
    assert finding(node, "declared") == "Unknown"


def test_who_knows_the_image_can_prevent_it(kubectl: Kubectl, node: Cluster, image: ImageArchive) -> None:
    covered = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    kubectl.apply(pod(PLACE, "covered", image.pinned, volumes=[("/data", covered)]))
    eventually("it runs", lambda: kubectl.run(PLACE, "covered", "sh", "-c", ":", check=False).returncode == 0)
    mounts = kubectl.run(PLACE, "covered", "/bin/busybox", "cat", "/proc/self/mounts").stdout
    assert [line.split()[2] for line in mounts.splitlines() if line.split()[1] == "/data"] == ["tmpfs"]


def test_the_image_that_sandboxes_get_declares_none(sandbox_image: ImageArchive) -> None:
    with tarfile.open(sandbox_image.path) as archive:
        manifest = json.loads(_read(archive, "manifest.json"))
        config = json.loads(_read(archive, manifest[0]["Config"]))
    assert not config["config"].get("Volumes")


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
