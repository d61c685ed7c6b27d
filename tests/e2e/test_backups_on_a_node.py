"""Backups and restores of workspaces by pods of a real node, in a namespace that is restricted."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from csikit import DRIVER, STORAGE, csi_driver
from nodekit import Kubectl, eventually
from restickit import restic
from sandboxkit import mounted, sandbox
from serverkit import SERVERS, sftp_server

from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter

pytestmark = pytest.mark.node

PASSWORD = "not-really-a-password-4711"
WORKSPACE = {"type": "PersistentVolumeClaim", "size": "1Gi", "retention": "Delete"}


@pytest.fixture
def repository(kubectl: Kubectl, sandboxes: str) -> Iterator[str]:
    """A claim that opted in, the Secret with the password of what is in it, and one with another."""
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "backups", "namespace": sandboxes},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    kubectl.apply(claim, password_of(sandboxes, "backups", PASSWORD), password_of(sandboxes, "others", "another"))
    yield "backups"
    kubectl("delete", "claudesandboxbackups", "--all", "-n", sandboxes)
    kubectl("delete", "secret", "backups", "others", "-n", sandboxes)
    kubectl("delete", "persistentvolumeclaim", "backups", "-n", sandboxes)


def password_of(namespace: str, name: str, password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/backup",
        "metadata": {"name": name, "namespace": namespace}, "stringData": {"password": password},
    }  # fmt: skip


def back_up(
    kubectl: Kubectl, namespace: str, name: str, target: dict[str, Any] | None = None, opened_by: str = "backups",
    **more: Any,
) -> None:  # fmt: skip
    claim = {"type": "VolumeClaim", "claimName": "backups"}
    spec = {"sandboxName": "kept", "target": target or claim, "passwordSecretRef": {"name": opened_by}, **more}
    metadata = {"name": name, "namespace": namespace}
    kubectl.apply(
        {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandboxBackup", "metadata": metadata, "spec": spec}
    )


def condition(kubectl: Kubectl, namespace: str, name: str, kind: str) -> tuple[str, str]:
    found = json.loads(kubectl("get", "claudesandboxbackup", name, "-n", namespace, "-o", "json").stdout)
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next(((one["status"], one["reason"]) for one in conditions if one["type"] == kind), ("", ""))


def test_a_workspace_is_backed_up_compared_and_restored_into_a_new_sandbox(
    kubectl: Kubectl, sandboxes: str, repository: str
) -> None:
    with sandbox(kubectl, sandboxes, "kept", credentials=mounted("key"), workspace=WORKSPACE) as made:
        script = "cd /workspace && mkdir -p src && echo hello > src/a && head -c 3000000 /dev/urandom > src/b"
        made.run("sh", "-c", f"{script} && ln -s src/a link && chmod 640 src/a")
        back_up(kubectl, sandboxes, "first")
        # Nobody has said yet that backups may go there.
        eventually(
            "it is refused", lambda: condition(kubectl, sandboxes, "first", "Complete") == ("False", "TargetNotAllowed")
        )
        kubectl("label", "persistentvolumeclaim", repository, "-n", sandboxes, "claudesandbox.dev/backups=true")
        eventually("it is stored", lambda: condition(kubectl, sandboxes, "first", "Complete") == ("True", "Stored"))
        verified = condition(kubectl, sandboxes, "first", "BackupVerified")
        assert verified == ("True", "RestoredAndCompared")
        eventually("the helper is gone", lambda: not helpers(kubectl, sandboxes))
        # With another password it is refused; that nothing is lost by it is seen by what is restored below.
        back_up(kubectl, sandboxes, "refused", opened_by="others")
        eventually(
            "it is refused", lambda: condition(kubectl, sandboxes, "refused", "Complete") == ("False", "WrongPassword")
        )
        assert condition(kubectl, sandboxes, "refused", "BackupVerified") == ("Unknown", "NotVerified")

        look = ("sh", "-c", "cd /workspace && cat src/a && md5sum < src/b && readlink link && stat -c '%a %Y' src/a")
        before = made.run(*look)
        again: dict[str, Any] = {"workspace": WORKSPACE, "restoreFrom": {"backupName": "first"}}
        with sandbox(kubectl, sandboxes, "again", credentials=mounted("key"), **again) as restored:
            assert restored.run(*look) == before
            status = restored.get()["status"]["restore"]
            assert (status["state"], status["files"], status["different"]) == ("Restored", 2, 0)
            eventually("the helper is gone", lambda: not helpers(kubectl, sandboxes))


@pytest.fixture
def small(kubectl: Kubectl, sandboxes: str, node: Cluster) -> Iterator[tuple[str, ...]]:
    """A claim with 16 MiB of room, and the beginning of a command line that changes how much that is."""
    there, place = enter(Names.of(node.layout)), node.layout.root / "small"
    place.mkdir(mode=0o755)
    subprocess.run([*there, "mount", "-t", "tmpfs", "-o", "size=16m,mode=0777", "small", place], check=True)
    sizes: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        "hostPath": {"path": str(place)},
        "capacity": {"storage": "16Mi"},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    label = {"claudesandbox.dev/backups": "true"}
    claim = {"volumeName": "small", "resources": {"requests": {"storage": "16Mi"}}}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "small"}, "spec": sizes | volume},
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": sizes | claim,
            "metadata": {"name": "small", "namespace": sandboxes, "labels": label},
        },
        password_of(sandboxes, "small", PASSWORD),
    )  # fmt: skip
    try:
        yield (*there, "mount", "-o", "remount,size=200m", str(place))
    finally:
        kubectl("delete", "claudesandboxbackups", "--all", "-n", sandboxes)
        kubectl("delete", "secret/small", "persistentvolumeclaim/small", "-n", sandboxes)
        kubectl("delete", "persistentvolume", "small")
        eventually("nothing has it", lambda: not subprocess.run([*there, "umount", place], check=False).returncode)
        place.rmdir()


@pytest.mark.slow
def test_a_claim_without_room_and_a_lost_password_are_told_and_nothing_is_lost_by_either(
    kubectl: Kubectl, sandboxes: str, small: tuple[str, ...]
) -> None:
    claim = {"type": "VolumeClaim", "claimName": "small"}

    def comes_to(name: str, *wanted: str) -> None:
        eventually(f"{name}: {wanted}", lambda: condition(kubectl, sandboxes, name, "Complete") == wanted)

    with sandbox(kubectl, sandboxes, "kept", credentials=mounted("key"), workspace=WORKSPACE) as made:
        made.run("sh", "-c", "cd /workspace && head -c 3000000 /dev/urandom > b")
        digest = made.run("md5sum", "/workspace/b")
        back_up(kubectl, sandboxes, "first", claim, "small")
        comes_to("first", "True", "Stored")
        made.run("sh", "-c", "head -c 20000000 /dev/urandom > /workspace/large")
        back_up(kubectl, sandboxes, "full", claim, "small")
        comes_to("full", "False", "TargetFull")
        again: dict[str, Any] = {"workspace": WORKSPACE, "restoreFrom": {"backupName": "first"}}
        with sandbox(kubectl, sandboxes, "again", credentials=mounted("key"), **again) as restored:
            assert restored.run("md5sum", "/workspace/b") == digest
        subprocess.run(small, check=True)

        kubectl("delete", "secret", "small", "-n", sandboxes)
        back_up(kubectl, sandboxes, "lost", claim, "small")
        comes_to("lost", "False", "SecretNotFound")
        kubectl.apply(password_of(sandboxes, "small", "another"))
        comes_to("lost", "False", "WrongPassword")
        kubectl.apply(password_of(sandboxes, "small", PASSWORD))
        back_up(kubectl, sandboxes, "after", claim, "small")
        comes_to("after", "True", "Stored")
        assert condition(kubectl, sandboxes, "after", "BackupVerified") == ("True", "RestoredAndCompared")


@pytest.mark.slow
def test_by_sftp_to_a_server_elsewhere_which_is_all_that_its_pod_reaches(
    kubectl: Kubectl, sandboxes: str, repository: str, node: Cluster, tmp_path: Path
) -> None:
    with (
        sftp_server(tmp_path, SERVERS, Names.of(node.layout).network) as server,
        sandbox(kubectl, sandboxes, "kept", credentials=mounted("key"), workspace=WORKSPACE) as made,
    ):
        made.run("sh", "-c", "cd /workspace && head -c 3000000 /dev/urandom > b && ln -s b link")
        credentials = {name: value.decode() for name, value in server.credentials.items()}
        metadata = {"name": "lets-in", "namespace": sandboxes}
        kubectl.apply({
            "apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/backup", "metadata": metadata,
            "stringData": credentials,
        })  # fmt: skip
        back_up(kubectl, sandboxes, "elsewhere", server.target("lets-in"))
        eventually("the helper is there", lambda: "networkpolicy" in helpers(kubectl, sandboxes))
        label = "claudesandbox.dev/component=backup"
        (policy,) = json.loads(kubectl("get", "networkpolicies", "-n", sandboxes, "-l", label, "-o", "json").stdout)[
            "items"
        ]
        assert policy["spec"]["egress"] == [
            {"ports": [{"port": server.port, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": f"{SERVERS}/32"}}]}
        ]
        eventually("it is stored", lambda: condition(kubectl, sandboxes, "elsewhere", "Complete") == ("True", "Stored"))
        assert condition(kubectl, sandboxes, "elsewhere", "BackupVerified") == ("True", "RestoredAndCompared")
        look = ("sh", "-c", "cd /workspace && md5sum < b && readlink link")
        again: dict[str, Any] = {"workspace": WORKSPACE, "restoreFrom": {"backupName": "elsewhere"}}
        with sandbox(kubectl, sandboxes, "again", credentials=mounted("key"), **again) as restored:
            assert restored.run(*look) == made.run(*look)
        kubectl("delete", "secret", "lets-in", "-n", sandboxes)


# Changes two files together all the time. What is read of them one after the other is of two moments.
WRITER = """
cd /workspace
put() { echo $1 > next && mv next $2; }
n=0
while :; do n=$((n+1)); put $n a; put $n z; sleep 0.01; done
"""
# The first file is read before these, and the last one after.
BETWEEN = "cd /workspace && for one in m n o p; do head -c 60000000 /dev/urandom > $one; done"


@pytest.mark.slow
def test_of_one_moment_what_is_written_together_is_together_in_each_backup(
    kubectl: Kubectl, sandboxes: str, repository: str, node: Cluster, tmp_path: Path
) -> None:
    kubectl("label", "persistentvolumeclaim", repository, "-n", sandboxes, "claudesandbox.dev/backups=true")
    workspace = WORKSPACE | {"storageClassName": STORAGE}

    def apart(name: str, **more: Any) -> int:
        """By how many writes the two are in the backup."""
        # Each time: restic reads nothing of what it has, and the two would be read at nearly the same moment.
        made.run("sh", "-c", BETWEEN)
        back_up(kubectl, sandboxes, name, **more)
        eventually(f"{name} is over", lambda: condition(kubectl, sandboxes, name, "BackupVerified")[0] == "True")
        first, last = kept(node, tmp_path, status(kubectl, sandboxes, name)["snapshot"])
        return first - last

    with csi_driver(node, kubectl, tmp_path):
        with sandbox(kubectl, sandboxes, "kept", credentials=mounted("key"), workspace=workspace) as made:
            made.run("sh", "-c", f"nohup sh -c '{WRITER}' > /dev/null 2>&1 &")
            eventually("it writes", lambda: not made.fails("test", "-s", "/workspace/z"))
            asked = {"className": STORAGE}
            for name in ("one", "two", "three"):
                # The write that was under way may have come to the first file alone.
                assert apart(name, volumeSnapshot=asked) in (0, 1)
                told = status(kubectl, sandboxes, name)
                assert (told["changed"], told["attempts"]) == (0, 1)
                assert told["volumeSnapshotAt"] <= told["completedAt"]
            # As it is without: seen, so that the test would tell.
            assert abs(apart("live")) > 1
            told = status(kubectl, sandboxes, "live")
            assert told["changed"] > 0
            assert "volumeSnapshotAt" not in told
            # Where it can't be had, the volume is not read instead.
            back_up(kubectl, sandboxes, "refused", volumeSnapshot={"className": "none"})
            refused = ("False", "VolumeSnapshotNotPossible")
            eventually("it is refused", lambda: condition(kubectl, sandboxes, "refused", "Complete") == refused)
            eventually("nothing is left", lambda: not left(kubectl, sandboxes))
        eventually("the workspace is gone, too", lambda: DRIVER not in kubectl("get", "pv", "-o", "json").stdout)


def left(kubectl: Kubectl, namespace: str) -> str:
    """What there is of helpers, and of what they read."""
    snapshots = kubectl("get", "volumesnapshots,volumesnapshotcontents", "-A", "-o", "name").stdout
    claims = kubectl("get", "persistentvolumeclaims", "-n", namespace, "-o", "name").stdout.split()
    volumes = [one for one in json.loads(kubectl("get", "pv", "-o", "json").stdout)["items"] if DRIVER in str(one)]
    copies = [one for one in claims if "claude-sandbox-backup" in one]
    return helpers(kubectl, namespace) + snapshots + "".join(copies) + (f"{len(volumes)} volumes" * (len(volumes) != 1))


def status(kubectl: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    found = json.loads(kubectl("get", "claudesandboxbackup", name, "-n", namespace, "-o", "json").stdout)
    return dict(found["status"])


def kept(node: Cluster, directory: Path, snapshot: str) -> tuple[int, int]:
    """What the two files hold in a snapshot of the repository, which restic itself reads."""
    (place,) = (node.layout.node / "volumes").glob("*/claude-sandbox-backups")
    environment = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(directory / "cache"), "PATH": "/usr/bin:/bin"}
    command = [restic(), "-r", str(place), "--no-lock", "dump", snapshot]

    def number(name: str) -> int:
        argv = [*command, f"/source/workspace/{name}"]
        return int(subprocess.run(argv, env=environment, check=True, capture_output=True).stdout or b"0")

    return number("a"), number("z")


def helpers(kubectl: Kubectl, namespace: str) -> str:
    label = "claudesandbox.dev/component=backup"
    return kubectl("get", "pods,networkpolicies", "-n", namespace, "-l", label, "-o", "name").stdout
