"""Backups of a sandbox on Docker: the API server, the operator, an engine, and restic's repository on the host."""

import asyncio
import base64
import contextlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
from backup_place import KEY, PASSWORD, PATIENCE, Place, backup_place, has_reason, helper, is_stored
from docker_fleet import OWN, condition, create_sandbox, get_sandbox
from serverkit import SERVERS, s3_server, sftp_server

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.resources import BACKUPS, EVENTS, SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]

SESSION = '{"sessionId":"1","type":"user"}'


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[Place]:
    async with backup_place(control_plane, host, tmp_path) as found:
        yield found


@pytest.mark.slow
async def test_a_long_one_says_how_far_it_is_until_it_is_over(place: Place) -> None:
    place.run("head -c 1500000000 /dev/urandom > /workspace/large")
    await place.back_up("long")
    progress = (await place.comes_to("long", lambda status: "progress" in status))["progress"]
    assert progress["phase"] in ("List", "Save", "Restore", "Compare")
    assert (progress["totalFiles"], progress["totalBytes"]) == (3, 1_503_000_006)
    assert 0 <= progress["percent"] <= 100
    assert "progress" not in await place.comes_to("long", is_stored)


async def test_a_backup_is_made_restored_and_compared_and_holds_no_key(place: Place) -> None:
    await place.back_up("first")
    status = await place.comes_to("first", is_stored)
    assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared")
    assert status["files"] == 2
    assert status["sizeBytes"] == 3_000_006
    assert (status["changed"], status["unread"], status["different"]) == (0, 0, 0)
    (of_namespace,) = place.directory.iterdir()
    assert status["location"] == f"{of_namespace} on DockerHost engine-1"

    # A second one has nothing to add, and keeps the newest alone.
    await place.back_up("second", retention={"keepLast": 1})
    again = await place.comes_to("second", is_stored)
    assert again["addedBytes"] < 100_000
    assert again["removedSnapshots"] == 1

    async def notes() -> list[str]:
        told = (await place.api.list(EVENTS, OWN)).items
        return [one["note"] for one in told if one["reason"] == "BackupVerified"]

    # Both come after the status.
    async with asyncio.timeout(PATIENCE):
        while place.containers("backup") or len(await notes()) < 2:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)

    # Neither key nor password is in the repository, nor in what is said.
    said = place.operator.log.read_text() + str((await place.api.list(BACKUPS, OWN)).items)
    assert any("are the same" in note for note in await notes())
    for secret in (KEY, PASSWORD):
        assert secret not in said + str(await notes())
        for file in place.directory.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes()


async def test_a_new_sandbox_begins_with_a_backup_and_one_with_files_is_left_alone(place: Place) -> None:
    await place.back_up("first")
    snapshot = (await place.comes_to("first", is_stored))["snapshot"]
    workspace = {"size": "1Gi", "retention": "Delete"}
    key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}, "workspace": workspace}
    await create_sandbox(place.api, "bob", restoreFrom={"backupName": "first"}, **key)
    status = await place.is_("bob", "Ready", "True")
    assert status["restore"]["state"] == "Restored"
    assert (status["restore"]["files"], status["restore"]["different"]) == (2, 0)
    look = "cd /workspace && cat src/a && md5sum < src/b; stat -c '%a %u %Y' src src/b && ls -A"
    assert place.run(look, "bob") == place.run(look)
    place.run("echo mine > src/a", "bob")

    # It is restored once: the container may go and come as it likes.
    (agent,) = (one for one in place.containers("agent") if one.labels[meta.LABEL_SANDBOX] == "bob")
    agent.remove(force=True)
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(AssertionError, ValueError, docker.errors.APIError):
                if place.run("cat src/a", "bob") == "mine\n":
                    break
            await asyncio.sleep(0.1)

    # What was kept of an earlier sandbox of the name is not written over.
    await place.api.patch(SANDBOXES, "bob", OWN, {"spec": {"workspace": {"retention": "Retain"}}})
    await place.api.delete(SANDBOXES, "bob", OWN)
    async with asyncio.timeout(PATIENCE):
        while await get_sandbox(place.api, "bob") is not None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    source = {"snapshot": snapshot, "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "backups"}}
    await create_sandbox(place.api, "bob", restoreFrom=source, **key)
    refused = await place.is_("bob", "Stalled", "True", "RestoreFailed")
    assert "entries already" in refused["restore"]["message"]
    assert not [one for one in place.containers("agent") if one.labels[meta.LABEL_SANDBOX] == "bob"]
    await place.api.patch(SANDBOXES, "bob", OWN, {"spec": {"restoreFrom": None}})
    await place.is_("bob", "Ready", "True")
    assert place.run("cat src/a", "bob") == "mine\n"


async def test_with_the_home_its_sessions_are_found_and_repositories_are_looked_into(
    place: Place, tmp_path: Path
) -> None:
    kept = {"size": "1Gi", "retention": "Delete", "keepHome": {"size": "64Mi"}}
    key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}, "workspace": kept}
    await create_sandbox(place.api, "carol", **key)
    await place.is_("carol", "Ready", "True")
    text = packed_repository(tmp_path / "project")
    place.run(f"cd /workspace && echo {text} | base64 -d | tar xz", "carol")
    session = "/home/claude/.claude/projects/-workspace/1.jsonl"
    place.run(f"mkdir -p $(dirname {session}) && echo '{SESSION}' > {session}", "carol")

    await place.back_up("whole", sandboxName="carol", includeHome=True)
    status = await place.comes_to("whole", is_stored)
    assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared")
    assert (status["sessions"], status["repositories"]) == (1, 1)
    await create_sandbox(place.api, "dora", restoreFrom={"backupName": "whole"}, **key)
    restored = await place.is_("dora", "Ready", "True")
    assert restored["restore"]["state"] == "Restored"
    assert place.run(f"cat {session} && cat /workspace/project/.git/HEAD", "dora").startswith(SESSION)

    # What the agent did to a repository is backed up as it is, and told.
    place.run("echo 1111111111111111111111111111111111111111 > /workspace/project/.git/refs/heads/lost", "carol")
    await place.back_up("damaged", sandboxName="carol")
    status = await place.comes_to("damaged", is_stored)
    assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared")
    assert status["damagedRepositories"] == 1
    await place.back_up("none", includeHome=True)
    await place.comes_to("none", has_reason("NothingToKeep"))
    # An engine takes no snapshots of volumes, and the volume itself is not read instead.
    elsewhere = {
        "type": "S3", "s3": {"endpoint": "https://192.0.2.1", "bucket": "abc"}, "credentialsSecretRef": {"name": "b"},
    }  # fmt: skip
    await place.back_up("moment", volumeSnapshot={}, target=elsewhere)
    await place.comes_to("moment", has_reason("VolumeSnapshotNotPossible"))


@pytest.mark.slow
async def test_a_helper_that_is_killed_is_begun_anew_and_one_of_a_deleted_backup_goes(place: Place) -> None:
    place.run("head -c 120000000 /dev/urandom > large")
    await place.back_up("killed")
    first = await helper(place)
    first.kill()
    status = await place.comes_to("killed", is_stored)
    assert status["attempts"] > 1
    assert condition(status, "BackupVerified")[0] == "True"

    await place.back_up("deleted")
    await helper(place)
    await place.api.delete(BACKUPS, "deleted", OWN)
    async with asyncio.timeout(PATIENCE):
        while place.containers("backup"):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)
    await place.back_up("after")
    assert condition(await place.comes_to("after", is_stored), "BackupVerified")[0] == "True"


@pytest.mark.slow
async def test_what_is_missing_is_told_and_waited_for_and_another_password_changes_nothing(place: Place) -> None:
    await place.back_up("made")
    await place.comes_to("made", is_stored)
    await place.back_up("waits", passwordSecretRef={"name": "others"})
    await place.comes_to("waits", has_reason("SecretNotFound"))
    await place.api.create(SECRETS, {"metadata": {"name": "others"}, "stringData": {"password": "another"}}, OWN)
    await place.comes_to("waits", has_reason("SecretNotOptedIn"))
    await place.api.patch(SECRETS, "others", OWN, {"metadata": {"labels": {meta.BACKUP_SECRET_TYPE: "true"}}})
    before = sorted(place.directory.rglob("*"))
    refused = await place.comes_to("waits", has_reason("WrongPassword"))
    assert condition(refused, "BackupVerified") == ("Unknown", "NotVerified")
    assert sorted(place.directory.rglob("*")) == before

    # A directory that was emptied is no place for a new repository, until somebody says so.
    (of_namespace,) = place.directory.iterdir()
    shutil.rmtree(of_namespace)
    await place.back_up("gone")
    await place.comes_to("gone", has_reason("RepositoryGone"))
    assert not list(of_namespace.glob("*/config"))
    lost = (await place.api.get(BACKUPS, "made", OWN))["status"]["repository"]
    await place.back_up("anew", replacesRepository=lost)
    assert (await place.comes_to("anew", is_stored))["repository"] != lost
    await place.back_up("goes-on")
    await place.comes_to("goes-on", is_stored)

    await place.back_up("elsewhere", target={"type": "VolumeClaim", "claimName": "a"})
    await place.comes_to("elsewhere", has_reason("TargetNotAllowed"))
    await place.fleet.change("engine-1", backupDirectory=None)
    await place.back_up("nowhere")
    await place.comes_to("nowhere", has_reason("TargetNotAllowed"))


@pytest.fixture
def small(host: EngineDescription, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A directory for backups with 16 MiB of room, as the engine's containers see it; and what gives it more."""
    target = tmp_path / "backups"
    target.mkdir()
    there = ("nsenter", f"--mount={host.names.mounts}", "--")
    subprocess.run([*there, "mount", "-t", "tmpfs", "-o", "size=16m", "small", target], check=True)

    def grow() -> None:
        subprocess.run([*there, "mount", "-o", "remount,size=200m", target], check=True)

    yield grow
    subprocess.run([*there, "umount", target], check=True)


@pytest.mark.slow
async def test_a_target_without_room_is_told_with_the_remedy_and_the_next_is_stored_once_there_is_some(
    small: Callable[[], None], place: Place
) -> None:
    await place.back_up("first")
    await place.comes_to("first", is_stored)
    place.run("head -c 20000000 /dev/urandom > src/large")
    await place.back_up("full")
    told = await place.comes_to("full", has_reason("TargetFull"))
    assert condition(told, "BackupVerified") == ("Unknown", "NotVerified")
    assert "Make room" in next(one["message"] for one in told["conditions"] if one["type"] == "Complete")
    # What was there is whole.
    workspace = {"size": "1Gi", "retention": "Delete"}
    key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}, "workspace": workspace}
    await create_sandbox(place.api, "bob", restoreFrom={"backupName": "first"}, **key)
    status = await place.is_("bob", "Ready", "True")
    assert (status["restore"]["files"], status["restore"]["different"]) == (2, 0)
    assert place.run("md5sum < src/b", "bob") == place.run("md5sum < src/b")

    small()
    await place.back_up("after")
    stored = await place.comes_to("after", is_stored)
    assert condition(stored, "BackupVerified") == ("True", "RestoredAndCompared")
    assert stored["files"] == 3


@pytest.mark.slow
async def test_without_its_password_nothing_is_begun_anew_and_with_it_again_backups_go_on(place: Place) -> None:
    await place.back_up("first")
    first = await place.comes_to("first", is_stored)
    before = sorted(place.directory.rglob("*"))
    await place.api.delete(SECRETS, "backups", OWN)
    await place.back_up("lost")
    await place.comes_to("lost", has_reason("SecretNotFound"))
    await place.fleet.secret("backups", {"password": "another"}, meta.BACKUP_SECRET_TYPE)
    refused = await place.comes_to("lost", has_reason("WrongPassword"))
    assert "with which the repository was made" in str(refused["conditions"])
    assert sorted(place.directory.rglob("*")) == before
    await place.api.patch(SECRETS, "backups", OWN, {"stringData": {"password": PASSWORD}})
    await place.back_up("again")
    again = await place.comes_to("again", is_stored)
    assert (again["repository"], condition(again, "BackupVerified")[0]) == (first["repository"], "True")
    assert again["addedBytes"] < 100_000


# A node's test does it by SFTP, too.
@pytest.mark.slow
@pytest.mark.parametrize("serving", [s3_server, sftp_server], ids=["s3", "sftp"])
async def test_to_a_server_elsewhere_and_back_by_a_network_that_leads_there_alone(
    place: Place, host: EngineDescription, tmp_path: Path, serving: Any
) -> None:
    with serving(tmp_path, SERVERS, host.netns) as server:
        # It waits for what lets in; nothing was begun.
        target = server.target("lets-in")
        await place.back_up("first", target=target)
        await place.comes_to("first", has_reason("SecretNotFound"))
        credentials = {name: value.decode() for name, value in server.credentials.items()}
        await place.fleet.secret("lets-in", credentials, meta.BACKUP_SECRET_TYPE)
        seen = await way_of(place)
        status = await place.comes_to("first", is_stored)
        assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared")
        assert (status["files"], status["different"]) == (2, 0)
        assert (server.repository / "config").exists()
        inner, relay = seen
        assert inner["Internal"]
        assert relay.endswith(f"{server.port}={SERVERS}:{server.port}")
        # What was over is said first, and then all of it is taken away.
        of_it = {"label": f"{meta.LABEL_COMPONENT}=backup-network"}
        async with asyncio.timeout(PATIENCE):
            while place.containers("backup-way") or place.engine.networks.list(filters=of_it):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        # Another one is restored from it, and nothing of what lets in was told.
        workspace = {"size": "1Gi", "retention": "Delete"}
        key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}, "workspace": workspace}
        await create_sandbox(place.api, "bob", restoreFrom={"backupName": "first"}, **key)
        restored = await place.is_("bob", "Ready", "True")
        assert (restored["restore"]["state"], restored["restore"]["files"]) == ("Restored", 2)
        assert place.run("md5sum < src/b", "bob") == place.run("md5sum < src/b")
        said = place.operator.log.read_text() + str((await place.api.list(BACKUPS, OWN)).items)
        for value in (PASSWORD, *(text for name, text in credentials.items() if name not in ("ca.crt", "known_hosts"))):
            assert value not in said


async def test_a_server_whose_network_nobody_opened_is_not_reached(place: Place) -> None:
    lets_in = {"credentialsSecretRef": {"name": "backups"}}
    where = {"host": "10.99.99.97", "user": "root", "path": "/srv"}
    await place.back_up("inside", target={"type": "SFTP", "sftp": where, **lets_in})
    s3 = {"endpoint": "https://169.254.169.254", "bucket": "latest"}
    await place.back_up("metadata", target={"type": "S3", "s3": s3, **lets_in})
    for name in ("inside", "metadata"):
        await place.comes_to(name, has_reason("TargetNotAllowed"))
    assert not place.containers("backup-way")


async def way_of(place: Place) -> tuple[dict[str, Any], str]:
    """The network that the helper is on, and what the relay beside it is told."""
    one = await helper(place)
    (name,) = one.attrs["NetworkSettings"]["Networks"]
    (relay,) = place.containers("backup-way")
    return place.engine.networks.get(name).attrs, " ".join(relay.attrs["Config"]["Cmd"])


# A schedule knows minutes: it waits for two of them.
@pytest.mark.slow
async def test_a_schedule_makes_a_backup_that_is_verified_and_the_sandbox_says_so(place: Place) -> None:
    minutes = sorted((datetime.now(UTC) + timedelta(minutes=later)).minute for later in (1, 2, 3, 4))
    asked = {
        "schedule": f"{','.join(map(str, minutes))} * * * *",
        "target": {"type": "HostDirectory"},
        "passwordSecretRef": {"name": "backups"},
    }
    await place.api.patch(SANDBOXES, "alice", OWN, {"spec": {"backup": asked}})
    await place.is_("alice", "BackupVerified", "Unknown", "NoBackupYet")
    status = await place.is_("alice", "BackupVerified", "True", "BackupNotDue")
    told = status["backup"]
    assert [one["what"] for one in status["due"]].count("Backup") == 1
    (made,) = (
        one for one in (await place.api.list(BACKUPS, OWN)).items if one["metadata"]["name"] == told["verifiedBackup"]
    )
    assert told["snapshot"] == made["status"]["snapshot"]
    assert made["metadata"]["name"].startswith("alice-20")
    assert "ownerReferences" not in made["metadata"]
    # A later one takes away what it replaces.
    await place.api.patch(SANDBOXES, "alice", OWN, {"spec": {"backup": {"retention": {"keepLast": 1}}}})
    async with asyncio.timeout(PATIENCE):
        while True:
            names = [one["metadata"]["name"] for one in (await place.api.list(BACKUPS, OWN)).items]
            if told["verifiedBackup"] not in names:
                break
            await asyncio.sleep(0.5)
    # Deleting the sandbox is no deletion of its backups.
    await place.api.patch(SANDBOXES, "alice", OWN, {"spec": {"backup": None}})
    await place.api.delete(SANDBOXES, "alice", OWN)
    async with asyncio.timeout(PATIENCE):
        while await get_sandbox(place.api, "alice") is not None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)
    assert (await place.api.list(BACKUPS, OWN)).items


def packed_repository(project: Path) -> str:
    """A repository with a commit, as a tar in base64."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run(["git", "-C", str(project), *who, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    shutil.rmtree(project / ".git/hooks")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(project, "project")
    return base64.b64encode(packed.getvalue()).decode()
