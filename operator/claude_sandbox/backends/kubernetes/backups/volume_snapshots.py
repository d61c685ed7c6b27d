"""VolumeSnapshots of a sandbox's volumes: the moment that a backup is of, where it asks for one.

Theory of operation. It holds nothing: what there is, the API server says. A snapshot has the name of its backup's
helper and belongs to the ClaudeSandboxBackup, with which it goes at the latest; it is there before the helper's pod,
and is removed after it. The snapshots of workspace and home are asked for at the same time; where only one of them is
there, both begin anew, since they would be of two moments. The volume that is made from one is an ephemeral one of the
helper's pod: the cluster makes its claim, and removes it with the pod. A snapshot goes only when that claim is bound or
gone: provisioners that lose the source of a volume in the making leave the volume behind
(kubernetes-csi/external-provisioner#1449). One that failed is removed as well: while there is one, its workspace's
claim can't be deleted (kubernetes-csi/external-snapshotter#1305). Called by the pass over a backup, and so once at a
time for each.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NoReturn

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.backends.backups import Helper, NotNowError, Wanted
from claude_sandbox.backends.kubernetes.backups import snapshot_documents as documents
from claude_sandbox.backends.kubernetes.backups.snapshot_documents import Chosen, Taken
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    STORAGE_CLASSES,
    VOLUME_SNAPSHOT_CLASSES,
    VOLUME_SNAPSHOTS,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, terminating

_QUOTA = "exceeded quota"


class VolumeSnapshots:
    """Of one backup. `owner`: the ClaudeSandboxBackup, and its kind; `metadata`: that of what belongs to it; `claims`:
    the names of the volumes' claims, by what they hold. All raise NotNowError."""

    def __init__(
        self, api: Api, wanted: Wanted, owner: tuple[Identity, str], metadata: Manifest, claims: Mapping[str, str],
        clock: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._api = api
        self._wanted = wanted
        self._owner = owner
        self._metadata = metadata
        self._claims = claims
        self._clock = clock

    async def look(self) -> Helper | None:
        """How far they are; None where there is none yet."""
        return self._state(await self._lives())

    async def ready(self) -> Mapping[str, Taken] | None:
        """Those that the helper is to read, by what they hold; None where they are not all there."""
        lives = await self._lives()
        state = self._state(lives)
        if state is None or not state.is_prepared:
            return None
        return {part: documents.taken(live) for part, live in lives.items() if live is not None}

    async def volumes(
        self, ready: Mapping[str, Taken], claims: Mapping[str, Object]
    ) -> tuple[Mapping[str, Manifest], bool]:
        """What the helper's pod is to mount, and whether that is made where the pod is to run."""
        chosen = {part: await self._chosen(claim) for part, claim in claims.items()}
        labelled = self._metadata["labels"]
        found = {
            part: documents.volume(part, ready[part], claim, chosen[part].storage_class, labelled)
            for part, claim in claims.items()
        }
        return found, all(one.waits_for_pod for one in chosen.values())

    async def take(self, claims: Mapping[str, Object]) -> None:
        """Have all of them made, as near to one moment as may be: none where one is refused."""
        found = {part: await self._chosen(claim) for part, claim in claims.items()}
        bodies = [
            documents.manifest(
                self._metadata | {"name": self._name(part)}, found[part].snapshot_class, claim["metadata"]["name"]
            )
            for part, claim in claims.items()
        ]
        made = await asyncio.gather(*map(self._create, bodies), return_exceptions=True)
        for one in made:
            if isinstance(one, BaseException):
                await self.remove()
                if isinstance(one, ApiError):
                    _refused(one)
                raise one

    async def remove(self, *pods_claims: str) -> None:
        """Have them go. `pods_claims`: what is made from them."""
        for name in pods_claims:
            claim = await self._found(PERSISTENT_VOLUME_CLAIMS, name)
            if claim is not None and (claim.get("status") or {}).get("phase") == "Pending":
                message = f"Claim {name}, which is made from the volume's snapshot, is still being removed."
                raise NotNowError(BackupReason.HELPER_NOT_STARTED, message)
        for part in self._claims:
            live = await self._found(VOLUME_SNAPSHOTS, self._name(part))
            if live is None or not is_owned(live, *self._owner):
                continue
            metadata = live["metadata"]
            try:
                await self._api.delete(VOLUME_SNAPSHOTS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
            except ApiError as error:
                if not (error.is_not_found or error.is_conflict):
                    _refused(error)

    async def why_not_mounted(self, pod: Object, claims: Iterable[str], so_far: str) -> Helper | None:
        """That the helper's pod has waited too long for what is made from them; None where it may go on."""
        if (pod.get("status") or {}).get("phase") != "Pending":
            return None
        lives = {name: await self._found(PERSISTENT_VOLUME_CLAIMS, name) for name in claims}
        return documents.unmounted(pod, lives, so_far, self._clock())

    async def _chosen(self, claim: Object) -> Chosen:
        """The classes that are taken for a claim's volume, which is judged for that."""
        asked = self._wanted.volume_snapshot
        assert asked is not None  # noqa: S101 - there are none otherwise
        name = asked.storage_class_name or claim["spec"].get("storageClassName")
        try:
            classes = (await self._api.list(VOLUME_SNAPSHOT_CLASSES)).items
        except ApiError as error:
            _refused(error)
        try:
            storage_class = await self._api.get(STORAGE_CLASSES, str(name)) if name else None
        except ApiError as error:
            if not error.is_not_found:
                _refused(error)
            message = f"There is no StorageClass {name}: name another in spec.volumeSnapshot.storageClassName."
            raise NotNowError(BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE, message) from None
        found = documents.chosen(asked, claim, storage_class, classes)
        if isinstance(found, str):
            raise NotNowError(BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE, found)
        return found

    def _state(self, lives: Mapping[str, Object | None]) -> Helper | None:
        there = [live for live in lives.values() if live is not None]
        if any(terminating(live) for live in there):
            return Helper(message="an earlier snapshot of the volume is being removed")
        if there and len(there) < len(lives):
            # They would be of two moments.
            return Helper(ended=True, message="a snapshot of one of its volumes is missing")
        return documents.state_of(there, self._clock()) if there else None

    async def _lives(self) -> dict[str, Object | None]:
        """By what they hold, each of them this backup's own."""
        found = {part: await self._found(VOLUME_SNAPSHOTS, self._name(part)) for part in self._claims}
        for part, live in found.items():
            source = ((live or {}).get("spec") or {}).get("source") or {}
            own = live is None or is_owned(live, *self._owner)
            # Whoever may make snapshots might have one of that name lead to another volume.
            if live is not None and not (own and source.get("persistentVolumeClaimName") == self._claims[part]):
                message = f"A VolumeSnapshot of others has the name {self._name(part)}: remove it."
                raise NotNowError(BackupReason.HELPER_NOT_STARTED, message)
        return found

    def _name(self, part: str) -> str:
        return f"{self._metadata['name']}-{part}"

    async def _create(self, body: Manifest) -> None:
        try:
            await self._api.create(VOLUME_SNAPSHOTS, body, self._wanted.namespace)
        except ApiError as error:
            # Of an earlier try; what it is, the next look says.
            if not error.is_already_exists:
                raise

    async def _found(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self._api.get(resource, name, self._wanted.namespace)
        except ApiError as error:
            # Also where the cluster knows no such kind, or not any more.
            if error.is_not_found:
                return None
            _refused(error)


def _refused(error: ApiError) -> NoReturn:
    """Raises NotNowError, with the remedy."""
    if error.is_not_found:
        raise NotNowError(
            BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE,
            "The cluster has no VolumeSnapshots (snapshot.storage.k8s.io/v1): have an administrator install the"
            " snapshot-controller with its CRDs, and a CSI driver that makes snapshots, or make a backup without"
            " spec.volumeSnapshot.",
        ) from None
    if error.is_permission_denied:
        raise NotNowError(
            BackupReason.PERMISSION_DENIED,
            "The operator may make no VolumeSnapshots: have an administrator install it with --volume-snapshots, or"
            f" make a backup without spec.volumeSnapshot. The API server says: {error.message}",
        ) from None
    if error.is_forbidden and _QUOTA in error.message:
        raise NotNowError(
            BackupReason.VOLUME_SNAPSHOT_NOT_POSSIBLE,
            f"A quota of the namespace leaves no room for a VolumeSnapshot: make room, or have an administrator raise"
            f" it, and make another backup. The API server says: {error.message}",
        ) from None
    raise NotNowError(BackupReason.HELPER_NOT_STARTED, f"The API server refused it: {error.message}") from None
