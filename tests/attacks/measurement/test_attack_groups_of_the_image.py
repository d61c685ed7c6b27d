"""An image whose /etc/group puts the agent into groups that mean something on the node.

A runtime merges them into the process's groups: the agent read what root's group, `disk` or `shadow` may read, and
the control passed as long as root's group was not among them. Pods ask for the groups that they name and no others
(`supplementalGroupsPolicy: Strict`), each group that the node tells of is judged, and one that tells of none proves
nothing. On Docker the user is named with its group, to which an engine adds none.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import pytest
from enginekit import BUSYBOX
from nodekit import Kubectl, Manifest, eventually, namespace, pod, report

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.build import AGENT, build
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

REFERENCE = "claudesandbox.dev/groups-of-the-image:1"
PLACE = "groups-of-the-image"
GROUPS = "root:x:0:claude\ndisk:x:6:claude\nshadow:x:42:claude\nclaude:x:1000:\n"
OF_THE_IMAGE = {0, 6, 42}


def hostile_image(directory: Path) -> ImageArchive:
    """An image that gives its user the groups of GROUPS."""
    users, groups = directory / "passwd", directory / "group"
    users.write_text("root:x:0:0::/:/bin/sh\nclaude:x:1000:1000::/:/bin/sh\n")
    groups.write_text(GROUPS)
    program = ensure(BUSYBOX, report).file("bin/busybox")
    assert program is not None
    files = {"/bin/busybox": program, "/etc/passwd": users, "/etc/group": groups}
    links = {f"/bin/{one}": "busybox" for one in ("sh", "cat", "sleep", "grep")}
    target = directory / "image.tar"
    return of_programs(files, target, REFERENCE, builder.goarch(), ("/bin/busybox", "sleep", "infinity"), links)


@pytest.fixture(scope="module")
def place(kubectl: Kubectl, node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    load_image(node.layout, hostile_image(tmp_path_factory.mktemp("groups")))
    kubectl.apply(namespace(PLACE))
    return PLACE


def groups_of(kubectl: Kubectl, name: str) -> set[int]:
    """The groups of the first process, as the kernel tells them in the container."""
    return _groups(kubectl.run(PLACE, name, "cat", "/proc/1/status").stdout)


def checked(node: Cluster, name: str) -> dict[str, Any]:
    """What `check pod` finds of PRIV-05."""
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "check", "pod", f"{PLACE}/{name}", "-o", "json"]
    done = subprocess.run(
        [*command, f"--kubeconfig={node.kubeconfig}"], capture_output=True, text=True, check=False, timeout=120
    )
    (found,) = json.loads(done.stdout)
    return next(one for one in found["controls"] if one["id"] == "PRIV-05")


@pytest.mark.node
def test_a_pod_that_does_not_ask_for_its_own_groups_only_gets_the_images_and_fails(
    kubectl: Kubectl, node: Cluster, place: str
) -> None:
    kubectl.apply(pod(place, "merged", REFERENCE))
    kubectl.ready(place, "merged")
    assert groups_of(kubectl, "merged") >= OF_THE_IMAGE, "the attack has to work where nothing is in its way"
    found = checked(node, "merged")
    assert found["result"] == "Fail"
    for named in ("root's group", "the system group 6", "the system group 42"):
        assert named in found["message"]


@pytest.mark.node
def test_the_pod_of_a_sandbox_has_none_of_the_images_groups(kubectl: Kubectl, node: Cluster, place: str) -> None:
    kubectl.apply(_of_a_sandbox(place, "strict"))
    eventually("it runs", lambda: _runs(kubectl, "strict"))
    assert groups_of(kubectl, "strict") == {1000}
    assert checked(node, "strict")["result"] == "Pass"


@pytest.mark.engine
def test_an_engine_adds_the_images_groups_to_a_user_only_where_no_group_is_named(
    docker_engine: EngineDescription, tmp_path: Path
) -> None:
    """That is how the container of a sandbox is asked for."""
    engine.load_image(docker_engine, hostile_image(tmp_path))
    with contextlib.closing(docker.DockerClient(base_url=docker_engine.socket, version="auto")) as sdk:

        def groups(user: str) -> set[int]:
            container = sdk.containers.run(REFERENCE, user=user, network_mode="none", detach=True)
            try:
                container.reload()
                return _groups(Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text())
            finally:
                container.remove(force=True)

        assert groups("1000") >= OF_THE_IMAGE, "the attack has to work where nothing is in its way"
        assert groups(f"{AGENT.uid}:{AGENT.gid}") <= {AGENT.gid}


def _of_a_sandbox(place: str, name: str) -> Manifest:
    """A pod with the security context that sandboxes have, and nothing else that they need."""
    spec = ClaudeSandboxSpec.model_validate(
        {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}}
    )
    made = objects.pod(build(Identity(place, name, "1"), spec, Site(Image(REFERENCE, None, "Never"))), None)
    hardened = pod(place, name, REFERENCE)
    hardened["spec"]["securityContext"] = made["spec"]["securityContext"]
    return hardened


def _groups(status: str) -> set[int]:
    return next(set(map(int, line.split()[1:])) for line in status.splitlines() if line.startswith("Groups:"))


def _runs(kubectl: Kubectl, name: str) -> bool:
    found = kubectl("get", "pod", "-n", PLACE, name, "-o", "jsonpath={.status.phase}").stdout
    return found == "Running"
