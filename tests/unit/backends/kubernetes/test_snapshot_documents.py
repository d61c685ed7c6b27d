"""When a snapshot of a volume can be had, what is made from it, and when it is given up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.api.kinds.backups import VolumeSnapshotSource
from claude_sandbox.backends.kubernetes.backups.snapshot_documents import (
    PATIENCE,
    PATIENCE_WITH_ERRORS,
    Chosen,
    Taken,
    chosen,
    state_of,
    unmounted,
    volume,
)

MADE = datetime(2027, 3, 1, tzinfo=UTC)
DRIVER = "disks.example.org"
CLAIM: dict[str, Any] = {
    "metadata": {"name": "sandbox-alice", "annotations": {"volume.kubernetes.io/storage-provisioner": DRIVER}},
    "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}},
    },
    "status": {"capacity": {"storage": "2Gi"}},
}  # fmt: skip
STORAGE = {"metadata": {"name": "fast"}, "provisioner": DRIVER, "reclaimPolicy": "Delete"}
_DEFAULT = {"snapshot.storage.kubernetes.io/is-default-class": "true"}


def named(name: str, driver: str = DRIVER, policy: str = "Delete", *, default: bool = False) -> dict[str, Any]:
    annotations = {"annotations": _DEFAULT} if default else {}
    return {"metadata": {"name": name, **annotations}, "driver": driver, "deletionPolicy": policy}


ASKED, ANY = VolumeSnapshotSource(class_name="snap"), VolumeSnapshotSource()


def test_the_class_of_the_name_or_the_drivers_default_is_taken() -> None:
    classes = [named("snap"), named("other", "other.example.org", default=True), named("first", default=True)]
    assert chosen(ASKED, CLAIM, STORAGE, classes) == Chosen("snap", "fast", False)
    assert chosen(ANY, CLAIM, STORAGE, classes) == Chosen("first", "fast", False)
    waits = STORAGE | {"volumeBindingMode": "WaitForFirstConsumer"}
    assert chosen(ASKED, CLAIM, waits, classes) == Chosen("snap", "fast", True)


@pytest.mark.parametrize(
    ("asked", "storage", "classes", "told"),
    [
        (ASKED, STORAGE, [], "There is no VolumeSnapshotClass snap: have an administrator make one"),
        (ASKED, STORAGE, [named("quick")], "name one of quick in spec.volumeSnapshot.className"),
        (ASKED, STORAGE, [named("snap", "other.example.org")], f"is of other.example.org, and the volume of {DRIVER}"),
        (ASKED, STORAGE, [named("snap", policy="Retain")], "keeps its snapshots (deletionPolicy Retain)"),
        (ANY, STORAGE, [named("a"), named("b")], "No VolumeSnapshotClass is the default"),
        (ANY, STORAGE, [named("a", default=True), named("b", default=True)], "Several VolumeSnapshotClasses are"),
        (ASKED, STORAGE | {"reclaimPolicy": "Retain"}, [named("snap")], "keeps its volumes (reclaimPolicy Retain)"),
        (ASKED, STORAGE | {"provisioner": "b"}, [named("snap")], "is of b, and the volume of claim sandbox-alice of"),
        (ASKED, None, [named("snap")], "has no StorageClass: name one"),
    ],
)
def test_what_can_not_be_had_or_would_leave_something_behind_is_refused(
    asked: VolumeSnapshotSource, storage: Any, classes: Any, told: str
) -> None:
    found = chosen(asked, CLAIM, storage, classes)
    assert isinstance(found, str)
    assert told in found


def test_a_volume_of_a_snapshot_has_room_for_it_and_is_the_pods_own() -> None:
    for size, room in ((3 << 30, 3 << 30), (0, 2 << 30)):
        made = volume("workspace", Taken("one", None, size), CLAIM, "fast", {"a": "b"})
        template = made["ephemeral"]["volumeClaimTemplate"]
        assert template["metadata"]["labels"] == {"a": "b"}
        assert template["spec"]["resources"]["requests"]["storage"] == str(room)
        assert template["spec"]["dataSource"]["name"] == "one"
        # A read-only volume could not be mounted whose file system is to be put right first.
        assert "readOnly" not in str(made)


def snapshot(name: str = "one", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": "2027-03-01T00:00:00Z"}, "status": status}


READY = snapshot(readyToUse=True, creationTime="2027-03-01T00:00:01Z")
LATER = snapshot("two", readyToUse=True, creationTime="2027-03-01T00:00:03Z")
ERROR = {"error": {"message": "the array is full"}, "readyToUse": False}


def test_all_have_to_be_ready_and_the_moment_is_the_last_ones() -> None:
    found = state_of([READY, LATER], MADE)
    assert (found.is_prepared, found.moment) == (True, MADE + timedelta(seconds=3))
    assert not state_of([READY, snapshot("two")], MADE).is_prepared
    # Without a word it is not there: the field is optional.
    assert not state_of([snapshot(boundVolumeSnapshotContentName="a")], MADE).is_prepared


@pytest.mark.parametrize(
    ("status", "after", "ended"),
    [
        ({}, PATIENCE, False),
        ({}, PATIENCE + timedelta(seconds=1), True),
        (ERROR, PATIENCE_WITH_ERRORS, False),
        (ERROR, PATIENCE_WITH_ERRORS + timedelta(seconds=1), True),
    ],
)
def test_one_that_does_not_come_is_given_up_and_one_that_fails_sooner(
    status: Any, after: timedelta, ended: bool
) -> None:
    found = state_of([READY, snapshot("two", **status)], MADE + after)
    assert found.ended is ended
    assert ("the array is full" in found.message) is bool(status)
    if ended:
        assert (found.result or {})["reason"] == "VolumeSnapshotFailed"


def test_a_pod_whose_volume_does_not_come_is_given_up() -> None:
    pod = snapshot() | {"status": {"phase": "Pending"}}
    late = MADE + PATIENCE + timedelta(seconds=1)
    bound, pending = {"status": {"phase": "Bound"}}, {"status": {"phase": "Pending"}}
    assert unmounted(pod, {"a": pending}, "", MADE + PATIENCE) is None
    assert unmounted(pod | {"status": {"phase": "Running"}}, {"a": bound}, "", late) is None
    for claim, told in ((pending, "claim a, "), (None, "claim a, "), (bound, "not mounted")):
        found = unmounted(pod, {"a": claim}, "0/1 nodes", late)
        assert found is not None
        assert found.ended
        assert told in found.message
        assert "0/1 nodes" in found.message
