"""What VolumeSnapshots of a sandbox's volumes look like, what they say, and when none can be had. Pure.

What a backup leaves behind is looked at before anything is made: a class with deletionPolicy Retain would keep each
snapshot in the storage for ever, and a StorageClass with reclaimPolicy Retain each volume that is made from one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from claude_sandbox.api import quantity
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.api.kinds.backups import BackupReason, VolumeSnapshotSource
from claude_sandbox.backends.backups import Helper
from claude_sandbox.kubernetes_api.resources import VOLUME_SNAPSHOTS
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, annotations

PATIENCE = timedelta(minutes=10)
"""For a snapshot, and for the volume that is made from it: large disks are copied elsewhere first, by some drivers."""
PATIENCE_WITH_ERRORS = timedelta(minutes=2)
"""For a snapshot of which an error is told: the driver is asked again, and what passes has passed by then."""
_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
_PROVISIONERS = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
_LIVE = "or make a backup without spec.volumeSnapshot"


@dataclass(frozen=True)
class Chosen:
    """A driver's classes: of the snapshot, and of the volume that is made from it."""

    snapshot_class: str
    storage_class: str
    waits_for_pod: bool
    """Whether the volume is made where its pod is to run."""


@dataclass(frozen=True)
class Taken:
    """A snapshot that is ready."""

    name: str
    at: datetime | None
    """When, by the driver."""
    size: int
    """Bytes that a volume needs that is made from it; 0 where that is not told."""


def chosen(
    asked: VolumeSnapshotSource, claim: Object, storage_class: Object | None, classes: Iterable[Object]
) -> Chosen | str:
    """The classes to take, or why there are none, with the remedy. `storage_class`: that of the new volume."""
    name = claim["metadata"]["name"]
    told = annotations(claim)
    driver = next((told[key] for key in _PROVISIONERS if told.get(key)), None)
    if storage_class is None:
        return f"The volume of claim {name} has no StorageClass: name one in spec.volumeSnapshot.storageClassName."
    storage, provisioner = storage_class["metadata"]["name"], str(storage_class.get("provisioner"))
    if driver is not None and driver != provisioner:
        return (
            f"StorageClass {storage} is of {provisioner}, and the volume of claim {name} of {driver}: name one of that"
            " in spec.volumeSnapshot.storageClassName."
        )
    if storage_class.get("reclaimPolicy") != "Delete":
        return (
            f"StorageClass {storage} keeps its volumes (reclaimPolicy {storage_class.get('reclaimPolicy')}), so that"
            " each backup would leave one: name one of the same driver with reclaimPolicy Delete in"
            " spec.volumeSnapshot.storageClassName."
        )
    found = _snapshot_class(asked.class_name, provisioner, classes)
    if isinstance(found, str):
        return found
    if found.get("deletionPolicy") != "Delete":
        return (
            f"VolumeSnapshotClass {found['metadata']['name']} keeps its snapshots (deletionPolicy"
            f" {found.get('deletionPolicy')}), so that each backup would leave one: name one with deletionPolicy Delete"
            " in spec.volumeSnapshot.className."
        )
    waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return Chosen(found["metadata"]["name"], storage, waits)


def _snapshot_class(name: str | None, driver: str, classes: Iterable[Object]) -> Object | str:
    """The one of the name; without a name the driver's default."""
    by_name = {one["metadata"]["name"]: one for one in classes}
    own = {key: one for key, one in by_name.items() if one.get("driver") == driver}
    choice = f"name one of {', '.join(sorted(own))} in spec.volumeSnapshot.className" if own else (
        f"have an administrator make one for {driver}, if that can make snapshots, {_LIVE}"
    )  # fmt: skip
    if name is not None:
        if name not in by_name:
            return f"There is no VolumeSnapshotClass {name}: {choice}."
        if name not in own:
            return (
                f"VolumeSnapshotClass {name} is of {by_name[name].get('driver')}, and the volume of {driver}: {choice}."
            )
        return own[name]
    defaults = [one for one in own.values() if annotations(one).get(_DEFAULT) == "true"]
    if len(defaults) == 1:
        return defaults[0]
    how_many = "Several VolumeSnapshotClasses are" if defaults else "No VolumeSnapshotClass is"
    return f"{how_many} the default of {driver}, which made the volume: {choice}."


def manifest(metadata: Manifest, snapshot_class: str, claim: str) -> Manifest:
    """A snapshot of a claim's volume."""
    source = {"persistentVolumeClaimName": claim}
    spec = {"volumeSnapshotClassName": snapshot_class, "source": source}
    return {
        "apiVersion": VOLUME_SNAPSHOTS.api_version,
        "kind": VOLUME_SNAPSHOTS.kind,
        "metadata": metadata,
        "spec": spec,
    }


def volume(part: str, taken: Taken, claim: Object, storage_class: str, labelled: Mapping[str, str]) -> Manifest:
    """A volume from a snapshot, for one pod: its claim is the pod's own, and goes with it.

    Not read-only itself, only where it is mounted: a file system that was in use has to be put right first.
    """
    spec, status = claim["spec"], claim.get("status") or {}
    room = (status.get("capacity") or {}).get("storage") or spec["resources"]["requests"]["storage"]
    source = {"apiGroup": VOLUME_SNAPSHOTS.group, "kind": VOLUME_SNAPSHOTS.kind, "name": taken.name}
    wanted = {
        "accessModes": spec["accessModes"],
        "storageClassName": storage_class,
        "dataSource": source,
        # A driver may need more for it than the claim asks for, and refuses less.
        "resources": {"requests": {"storage": str(max(quantity.bytes_of(room), taken.size))}},
    }
    return {
        "name": part,
        "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": dict(labelled)}, "spec": wanted}},
    }


def state_of(snapshots: Iterable[Object], now: datetime) -> Helper:
    """How far they are. All of them are there, and none is being removed."""
    waiting = [one for one in snapshots if (one.get("status") or {}).get("readyToUse") is not True]
    if not waiting:
        moments = [at for one in snapshots if (at := taken(one).at) is not None]
        return Helper(message="the volume's snapshot is there", is_prepared=True, moment=max(moments, default=None))
    (first, *_) = sorted(waiting, key=lambda one: _problem(one) == "")
    since, problem = now - _made(first), _problem(first)
    if since > (PATIENCE_WITH_ERRORS if problem else PATIENCE):
        why = problem or "see that the cluster's snapshot-controller and its driver's csi-snapshotter run"
        minutes = f"within {since.total_seconds() // 60:.0f} minutes"
        return failed(f"VolumeSnapshot {first['metadata']['name']} was not ready {minutes}: {why}")
    return Helper(message=f"the volume's snapshot is being made{': ' if problem else ''}{problem}")


def taken(live: Object) -> Taken:
    """What a snapshot says of itself."""
    status = live.get("status") or {}
    at, size = status.get("creationTime"), status.get("restoreSize")
    return Taken(live["metadata"]["name"], utc(at), quantity.bytes_of(size) if size else 0)


def failed(message: str) -> Helper:
    """It came to nothing, and what there is of it is to go."""
    return Helper(
        True, {"outcome": "Failed", "reason": BackupReason.VOLUME_SNAPSHOT_FAILED, "message": message}, message
    )


def unmounted(pod: Object, claims: Mapping[str, Object | None], so_far: str, now: datetime) -> Helper | None:
    """That a pod has waited too long for its volumes; None where it may go on. `claims`: by their names."""
    pending = (pod.get("status") or {}).get("phase") == "Pending"
    if not pending or now - _made(pod) <= PATIENCE:
        return None
    unbound = [name for name, live in claims.items() if ((live or {}).get("status") or {}).get("phase") != "Bound"]
    what = f"claim {unbound[0]}, which is made from it, got no volume" if unbound else "its volume was not mounted"
    return failed(f"The snapshot is there, but {what} within {PATIENCE.total_seconds() // 60:.0f} minutes ({so_far})")


def _made(live: Object) -> datetime:
    return datetime.fromisoformat(live["metadata"]["creationTimestamp"])


def _problem(live: Object) -> str:
    error: Mapping[str, Any] = (live.get("status") or {}).get("error") or {}
    return str(error.get("message") or "it failed, without a word") if error else ""
