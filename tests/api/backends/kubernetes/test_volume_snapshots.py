"""A backup that asks for a snapshot of the volume, at a real API server: each refusal, each stage, and what is left."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from snapshotkit import CRDS, definitions, ready, say, snapshot_class

from claude_sandbox.api.kinds.backups import BackupReason, VolumeSnapshotSource
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backends.backups import NotNowError, Wanted
from claude_sandbox.backends.kubernetes.backups.helpers import KubernetesBackups
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError

pytestmark = pytest.mark.controlplane

DRIVER = "disks.example.org"
IMAGE = Image("example.org/operator@sha256:1", None, "Never")
CLASSES = [
    snapshot_class("snap", DRIVER, metadata={
        "name": "snap", "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"},
    }),
    snapshot_class("kept", DRIVER, deletionPolicy="Retain"), snapshot_class("other", "other.example.org"),
]  # fmt: skip


@pytest_asyncio.fixture
async def served(api: Api) -> None:
    """The cluster knows VolumeSnapshots, and has classes of them."""
    for definition in definitions():
        await api.apply(CRDS, definition)
    await until_served(api)
    for one in CLASSES:
        await api.apply(r.VOLUME_SNAPSHOT_CLASSES, one)
    for name, policy in (("fast", "Delete"), ("lasting", "Retain")):
        body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        await api.apply(r.STORAGE_CLASSES, body | {"provisioner": DRIVER, "reclaimPolicy": policy})


@pytest_asyncio.fixture
async def unserved(api: Api) -> None:
    """The cluster is as most are."""
    for definition in definitions():
        with suppress(ApiError):
            await api.delete(CRDS, definition["metadata"]["name"])
    await until_served(api, wanted=False)


async def until_served(api: Api, *, wanted: bool = True) -> None:
    async with asyncio.timeout(60):
        for kind in (r.VOLUME_SNAPSHOTS, r.VOLUME_SNAPSHOT_CLASSES):
            while await is_served(api, kind) is not wanted:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)


async def is_served(api: Api, kind: Any) -> bool:
    try:
        await api.list(kind)
    except ApiError:
        return False
    return True


async def allowed(_: Wanted) -> None:
    """Any Secret."""


class Place:
    """A sandbox with a workspace and a home in a namespace, and a backup of both."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.backups = KubernetesBackups(api, IMAGE, allowed)
        target = BackupTarget.model_validate({"type": "VolumeClaim", "claimName": "backups"})
        self.wanted = Wanted(
            namespace, "one", str(uuid.uuid4()), Identity(namespace, "alice", "s"), target, "backups", "password",
            {"action": "backup", "sandbox": "alice", "uid": "s"}, home=True, volume_snapshot=VolumeSnapshotSource(),
        )  # fmt: skip

    async def prepare(self, storage: str | None = "fast") -> None:
        # As the controller of accounts makes it, which this control plane has none of.
        await self.api.create(r.SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, self.wanted.namespace)
        for name in ("sandbox-alice-workspace", "sandbox-alice-home", "backups"):
            labels = {"claudesandbox.dev/sandbox": "alice", "claudesandbox.dev/backups": "true"}
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            named = {} if storage is None else {"storageClassName": storage}
            await self.api.create(
                r.PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": name, "labels": labels}, "spec": spec | named},
                self.wanted.namespace,
            )  # fmt: skip

    async def all(self, kind: Any) -> list[Obj]:
        return list((await self.api.list(kind, self.wanted.namespace)).items)


@pytest_asyncio.fixture
async def place(api: Api, namespace: str, served: None) -> Place:
    found = Place(api, namespace)
    await found.prepare()
    return found


async def refusal(place: Place, **asked: Any) -> NotNowError:
    wanted = replace(place.wanted, volume_snapshot=VolumeSnapshotSource.model_validate(asked))
    with pytest.raises(NotNowError) as refused:
        await place.backups.start(wanted)
    # Never the volume itself instead.
    assert not await place.all(r.PODS)
    return refused.value


async def test_where_the_cluster_has_none_it_is_refused_with_what_to_install(
    api: Api, namespace: str, unserved: None
) -> None:
    place = Place(api, namespace)
    await place.prepare()
    refused = await refusal(place)
    assert refused.reason is BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE
    assert "install the snapshot-controller" in str(refused)
    # Nothing that asks for none is touched by that; and to take away what is not there is no fault.
    await place.backups.remove(place.wanted)
    assert await place.backups.look(place.wanted) is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"className": "none"}, "There is no VolumeSnapshotClass none: name one of kept, snap"),
        ({"className": "other"}, "is of other.example.org"),
        ({"className": "kept"}, "deletionPolicy Retain"),
        ({"storageClassName": "lasting"}, "reclaimPolicy Retain"),
        ({"storageClassName": "none"}, "There is no StorageClass none"),
    ],
)
async def test_what_can_not_be_had_is_refused_by_name(place: Place, asked: dict[str, str], told: str) -> None:
    refused = await refusal(place, **asked)
    assert refused.reason is BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE
    assert told in str(refused)
    assert not await place.all(r.VOLUME_SNAPSHOTS)


async def test_a_quota_that_leaves_room_for_one_alone_leaves_none(place: Place) -> None:
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/volumesnapshots.snapshot.storage.k8s.io": "1"}}}
    made = await place.api.create(r.RESOURCE_QUOTAS, quota, place.wanted.namespace)
    hard = {"count/volumesnapshots.snapshot.storage.k8s.io": "1"}
    # As the controller of quotas counts, which this control plane has none of.
    used = {"hard": hard, "used": {"count/volumesnapshots.snapshot.storage.k8s.io": "0"}}
    await place.api.patch_status(
        r.RESOURCE_QUOTAS, "q", place.wanted.namespace, used, uid=made["metadata"]["uid"], field_manager="tests"
    )
    # The server reads of a new quota within seconds.
    async with asyncio.timeout(30):
        while True:
            try:
                await place.backups.start(place.wanted)
            except NotNowError as error:
                refused = error
                break
            await place.backups.remove(place.wanted)
            await asyncio.sleep(0.5)
    assert refused.reason is BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE
    assert "make room" in str(refused)
    # That of the other volume went as well.
    assert not await place.all(r.VOLUME_SNAPSHOTS)


async def test_the_pod_comes_once_all_are_ready_and_reads_these(place: Place) -> None:
    backups, wanted = place.backups, place.wanted
    assert await backups.look(wanted) is None
    assert "backups" in await backups.start(wanted)
    first, second = await place.all(r.VOLUME_SNAPSHOTS)
    assert {one["spec"]["source"]["persistentVolumeClaimName"] for one in (first, second)} == {
        "sandbox-alice-workspace", "sandbox-alice-home",
    }  # fmt: skip
    assert {one["spec"]["volumeSnapshotClassName"] for one in (first, second)} == {"snap"}
    # It goes with its backup, whatever becomes of the operator.
    assert all(one["metadata"]["ownerReferences"][0]["uid"] == wanted.uid for one in (first, second))
    await say(place.api, first, **ready(datetime(2027, 3, 1, tzinfo=UTC)))
    waiting = await backups.look(wanted)
    assert waiting is not None
    assert (waiting.ended, waiting.is_prepared) == (False, False)
    await say(place.api, second, **ready(datetime(2027, 3, 1, 0, 0, 2, tzinfo=UTC)))
    prepared = await backups.look(wanted)
    assert prepared is not None
    assert (prepared.is_prepared, prepared.moment) == (True, datetime(2027, 3, 1, 0, 0, 2, tzinfo=UTC))
    await backups.start(wanted)
    (pod,) = await place.all(r.PODS)
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    for part in ("workspace", "home"):
        template = volumes[part]["ephemeral"]["volumeClaimTemplate"]["spec"]
        assert template["dataSource"]["name"].endswith(f"-{part}")
        assert template["resources"]["requests"]["storage"] == str(3 << 30)
    claims = {one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one}
    assert claims == {"backups"}
    at_work = await backups.look(wanted)
    assert at_work is not None
    assert at_work.moment == prepared.moment


async def test_nothing_is_left_and_a_snapshot_stays_while_a_volume_is_made_from_it(place: Place) -> None:
    backups, wanted = place.backups, place.wanted
    await backups.start(wanted)
    for one in await place.all(r.VOLUME_SNAPSHOTS):
        await say(place.api, one, **ready())
    await backups.start(wanted)
    (pod,) = await place.all(r.PODS)
    # As the controller of ephemeral volumes makes it, which this control plane has none of.
    spec = pod["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"]
    claim = {"metadata": {"name": f"{pod['metadata']['name']}-workspace"}, "spec": spec}
    made = await place.api.create(r.PERSISTENT_VOLUME_CLAIMS, claim, wanted.namespace)
    with pytest.raises(NotNowError, match="is still being removed"):
        await backups.remove(wanted)
    assert len(await place.all(r.VOLUME_SNAPSHOTS)) == 2
    await place.api.patch_status(
        r.PERSISTENT_VOLUME_CLAIMS, made["metadata"]["name"], wanted.namespace, {"phase": "Bound"},
        uid=made["metadata"]["uid"], field_manager="tests",
    )  # fmt: skip
    await backups.remove(wanted)
    assert not await place.all(r.VOLUME_SNAPSHOTS)
    assert not await place.all(r.NETWORK_POLICIES)


async def test_of_two_of_which_one_is_missing_neither_is_read(place: Place) -> None:
    backups, wanted = place.backups, place.wanted
    await backups.start(wanted)
    first, second = await place.all(r.VOLUME_SNAPSHOTS)
    await say(place.api, first, **ready())
    await place.api.delete(r.VOLUME_SNAPSHOTS, second["metadata"]["name"], wanted.namespace)
    lost = await backups.look(wanted)
    assert lost is not None
    assert (lost.ended, lost.result, lost.is_prepared) == (True, None, False)
    await backups.remove(wanted)
    assert not await place.all(r.VOLUME_SNAPSHOTS)


async def test_one_of_others_with_its_name_is_not_read(place: Place) -> None:
    """Who may make snapshots might have it lead to another volume."""
    backups, wanted = place.backups, place.wanted
    await backups.start(wanted)
    mine = (await place.all(r.VOLUME_SNAPSHOTS))[0]
    await backups.remove(wanted)
    for owners, source in (
        ([], mine["spec"]["source"]),
        (mine["metadata"]["ownerReferences"], {"persistentVolumeClaimName": "backups"}),
        (mine["metadata"]["ownerReferences"], {"volumeSnapshotContentName": "another-tenants"}),
    ):
        name = mine["metadata"]["name"]
        kind = {"apiVersion": r.VOLUME_SNAPSHOTS.api_version, "kind": r.VOLUME_SNAPSHOTS.kind}
        forged = kind | {"metadata": {"name": name, "ownerReferences": owners}, "spec": {"source": source}}
        made = await place.api.create(r.VOLUME_SNAPSHOTS, forged, wanted.namespace)
        await say(place.api, made, **ready())
        with pytest.raises(NotNowError, match="of others"):
            await backups.look(wanted)
        await place.api.delete(r.VOLUME_SNAPSHOTS, name, wanted.namespace)


async def test_one_that_is_being_removed_is_waited_for(place: Place) -> None:
    backups, wanted = place.backups, place.wanted
    await backups.start(wanted)
    first, second = await place.all(r.VOLUME_SNAPSHOTS)
    held = {"metadata": {"finalizers": ["example.org/held"]}}
    await place.api.patch(r.VOLUME_SNAPSHOTS, first["metadata"]["name"], wanted.namespace, held)
    for one in (first, second):
        await say(place.api, one, **ready())
    await backups.remove(wanted)
    found = await backups.look(wanted)
    assert found is not None
    assert "is being removed" in found.message
    assert (found.ended, found.is_prepared) == (False, False)


async def test_what_the_driver_says_is_told_and_ends_it_in_time(place: Place) -> None:
    backups, wanted = place.backups, place.wanted
    await backups.start(wanted)
    (one, _) = await place.all(r.VOLUME_SNAPSHOTS)
    await say(place.api, one, readyToUse=False, error={"message": "the array is full"})
    found = await backups.look(wanted)
    assert found is not None
    assert "the array is full" in found.message
    assert not found.ended
    later = KubernetesBackups(place.api, IMAGE, allowed, clock=lambda: datetime.now(UTC) + timedelta(minutes=3))
    ended = await later.look(wanted)
    assert ended is not None
    assert (ended.ended, (ended.result or {}).get("reason")) == (True, "VolumeSnapshotFailed")
