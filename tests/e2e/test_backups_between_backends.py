"""A sandbox moves from Docker to Kubernetes and back, by a repository that both reach: all of it is what it was."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backup_place import PASSWORD, Place, backup_place, is_stored
from docker_fleet import condition, create_sandbox
from dockerkit import host, stand_in_image
from nodekit import Kubectl, eventually
from restickit import fill
from sandboxkit import mounted, sandbox
from serverkit import SERVERS, Server, s3_server

from claude_sandbox.api import meta
from claude_sandbox.backup.compare import compare
from claude_sandbox.backup.tree import walk
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.node.names import Names

__all__ = ["host", "stand_in_image"]
pytestmark = [
    pytest.mark.node,
    pytest.mark.engine,
    pytest.mark.controlplane,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]

SESSION = "/home/claude/.claude/projects/-workspace/1.jsonl"
TRANSCRIPT = '{"sessionId":"1","type":"user"}'
HOME = {"keepHome": {"size": "64Mi"}}
ON_DOCKER = {"size": "1Gi", "retention": "Delete", **HOME}
ON_A_NODE = {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Delete", **HOME}


async def test_there_and_back_again(
    control_plane: Cluster, host: EngineDescription, node: Cluster, kubectl: Kubectl, sandboxes: str, tmp_path: Path
) -> None:
    with (
        s3_server(near := made(tmp_path / "near"), SERVERS, host.netns) as of_engine,
        s3_server(made(tmp_path / "far", near), SERVERS, Names.of(node.layout).network) as of_node,
    ):
        async with backup_place(control_plane, host, tmp_path) as place:
            await place.fleet.secret("lets-in", texts(of_engine), meta.BACKUP_SECRET_TYPE)
            key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}}
            await create_sandbox(place.api, "carol", workspace=ON_DOCKER, **key)
            await place.is_("carol", "Ready", "True")
            first = volume_of(place, "carol")
            fill_as_the_agent(first)
            place.run(f"mkdir -p $(dirname {SESSION}) && echo '{TRANSCRIPT}' > {SESSION}", "carol")
            asked = {"target": of_engine.target("lets-in"), "includeHome": True}
            await place.back_up("there", sandboxName="carol", **asked)
            status = await place.comes_to("there", is_stored)
            assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared")
            assert status["sessions"] == 1

            source = source_of(str(status["snapshot"]), of_node.target("lets-in"))
            with (
                secrets(kubectl, sandboxes, of_node),
                sandbox(
                    kubectl, sandboxes, "moved", credentials=mounted("key"), workspace=ON_A_NODE, restoreFrom=source
                ) as moved,
            ):
                assert moved.get()["status"]["restore"]["different"] == 0
                second = claim_of(kubectl, sandboxes, "moved")
                assert differences(first, second) == []
                assert moved.run("cat", SESSION).startswith(TRANSCRIPT)
                moved.run("sh", "-c", f"echo node > /workspace/from-the-node && echo '{TRANSCRIPT}' >> {SESSION}")
                back = backed_up(kubectl, sandboxes, of_node.target("lets-in"))
                assert back["repository"] == status["repository"]

                source = source_of(str(back["snapshot"]), of_engine.target("lets-in"))
                await create_sandbox(place.api, "dora", workspace=ON_DOCKER, restoreFrom=source, **key)
                restored = await place.is_("dora", "Ready", "True")
                assert restored["restore"]["different"] == 0
                assert differences(second, volume_of(place, "dora")) == []
                assert place.run("cat /workspace/from-the-node", "dora") == "node\n"
                assert place.run(f"cat {SESSION}", "dora") == f"{TRANSCRIPT}\n" * 2


def made(directory: Path, beside: Path | None = None) -> Path:
    """A server's own; with the bucket of another."""
    directory.mkdir()
    if beside is not None:
        (directory / "s3").symlink_to(beside / "s3")
    return directory


def differences(one: Path, other: Path) -> list[str]:
    """By content, mode, time, link, attribute, length, and which names are one file."""
    assert one != other
    found = compare(walk(one, digests=True), (), walk(other, digests=True))
    assert found.files > 5
    return found.examples


def source_of(snapshot: str, target: dict[str, Any]) -> dict[str, Any]:
    return {"snapshot": snapshot, "target": target, "passwordSecretRef": {"name": "backups"}}


def texts(server: Server) -> dict[str, str]:
    return {name: value.decode() for name, value in server.credentials.items()}


def fill_as_the_agent(directory: Path) -> None:
    """With files of all kinds."""
    fill(directory)
    subprocess.run(["chown", "-Rh", "1000:1000", str(directory)], check=True)


def volume_of(place: Place, name: str) -> Path:
    """The workspace on the engine, as root of the machine has it."""
    (agent,) = (one for one in place.containers("agent") if one.labels[meta.LABEL_SANDBOX] == name)
    return Path(next(one["Source"] for one in agent.attrs["Mounts"] if one["Destination"] == "/workspace"))


def claim_of(kubectl: Kubectl, namespace: str, name: str) -> Path:
    """The same on the node."""
    claims = kubectl("get", "pod", f"sandbox-{name}", "-n", namespace, "-o", "json").stdout
    spec = json.loads(claims)["spec"]
    mount = next(
        one["name"] for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == "/workspace"
    )  # fmt: skip
    claim = next(one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if one["name"] == mount)
    bound = json.loads(kubectl("get", "persistentvolumeclaim", claim, "-n", namespace, "-o", "json").stdout)
    volume = json.loads(kubectl("get", "persistentvolume", bound["spec"]["volumeName"], "-o", "json").stdout)["spec"]
    return Path((volume.get("local") or volume.get("hostPath"))["path"])


@contextmanager
def secrets(kubectl: Kubectl, namespace: str, server: Server) -> Iterator[None]:
    kind = {"apiVersion": "v1", "kind": "Secret", "type": meta.BACKUP_SECRET_TYPE}
    given = {"lets-in": texts(server), "backups": {"password": PASSWORD}}
    kubectl.apply(
        *(
            kind | {"metadata": {"name": name, "namespace": namespace}, "stringData": data}
            for name, data in given.items()
        )
    )
    try:
        yield
    finally:
        kubectl("delete", "secret", *given, "-n", namespace)


def backed_up(kubectl: Kubectl, namespace: str, target: dict[str, Any]) -> dict[str, Any]:
    """The status of a backup of the sandbox on the node, which is verified; the backup goes again."""
    spec = {
        "sandboxName": "moved", "target": target, "passwordSecretRef": {"name": "backups"}, "includeHome": True,
    }  # fmt: skip
    metadata = {"name": "back", "namespace": namespace}
    kubectl.apply(
        {"apiVersion": meta.API_VERSION, "kind": meta.BACKUP_KIND, "metadata": metadata, "spec": spec}
    )  # fmt: skip

    def status() -> dict[str, Any]:
        found = json.loads(kubectl("get", "claudesandboxbackup", "back", "-n", namespace, "-o", "json").stdout)
        return dict(found.get("status") or {})

    try:
        eventually("it is over", lambda: bool(status().get("completedAt")))
        found = status()
        verified = condition(found, "BackupVerified")
        assert verified == ("True", "RestoredAndCompared"), found
        assert found["sessions"] == 1
        return found
    finally:
        kubectl("delete", "claudesandboxbackup", "back", "-n", namespace)
