"""Backups of workspaces on Kubernetes: by a helper pod of the operator's own image, on the sandbox's node.

Theory of operation. It holds nothing but until when no log is asked for, where that was refused: what there is, the API
server says. The pod belongs to its ClaudeSandboxBackup
and goes with it; so does its NetworkPolicy, which is there first, lets nothing in, and nothing out but to the one
address of a server elsewhere, where the repository is there. It passes the `restricted`
Pod Security Standard, has the agent's user, the workspace read-only, the claim for the repository, and room of its own.
Where one moment is asked for, snapshots of the volumes are made first, and it reads these (`volume_snapshots`).
What it said at its end the kubelet keeps in its status. Secrets are mounted in a container that ends before anything
of the agent's is read: a name that the agent exchanges meanwhile can lead to no file that holds the password.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api import meta, quantity
from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import TargetType
from claude_sandbox.backends.backup_servers import PUBLIC_SERVERS, Servers, location_of
from claude_sandbox.backends.backups import Helper, NotNowError, Wanted, hostname_of, ordered, progress_in, result_in
from claude_sandbox.backends.kubernetes import hardening
from claude_sandbox.backends.kubernetes.backups.volume_snapshots import VolumeSnapshots
from claude_sandbox.backends.kubernetes.ownership import is_owned, owner_reference
from claude_sandbox.backup import SCRATCH
from claude_sandbox.blueprint.build import AGENT
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_logs import log_parts
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PERSISTENT_VOLUME_CLAIMS, PODS, Resource
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, labels

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.backup")
"""Isolated: neither the working directory nor a variable decides what is imported."""
ANNOTATION_ORDER = f"{meta.GROUP}/backup-order"
_LARGEST_ORDER = 200 << 10
"""Bytes: an object's annotations have 256 KiB together."""
_HAND_OVER, _WORK = "hand-over", "backup"
_HANDED = "/handed"
_MEMORY, _CACHE = "1Gi", "512Mi"
_LAST = 3
"""Lines in which the last word of how far it is may be: restic's own may come after it."""
_LOG_TIME, _ASKED_AGAIN = 5.0, 600.0
"""Seconds for its log, and until that is asked for again where it was refused."""
_NO_RESOLVER = "192.0.2.1"
"""An address for documentation (RFC 5737): nothing is to be looked up."""

Allowed = Callable[[Wanted], Awaitable[None]]
"""Whether the Secret may be used. Raises NotNowError."""


class KubernetesBackups:
    """In one cluster. `image`: the operator's own."""

    def __init__(
        self, api: Api, image: Image | None, allowed: Allowed, servers: Servers = PUBLIC_SERVERS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._api = api
        self._image = image
        self._allowed = allowed
        self._servers = servers
        self._clock = clock
        self._refused_until = 0.0

    async def look(self, wanted: Wanted) -> Helper | None:
        """See Helpers."""
        live = await self._found(PODS, name_of(wanted), wanted.namespace)
        if live is None:
            return None if wanted.volume_snapshot is None else await self._snapshots(wanted).look()
        # The name follows from a UID that everybody can read.
        if not is_owned(live, *_owner(wanted)):
            raise NotNowError(
                BackupReason.HELPER_NOT_STARTED, f"A pod of others has the name {name_of(wanted)}: remove it."
            )
        if live["metadata"].get("deletionTimestamp"):
            return Helper(message="an earlier helper is being removed")
        found = helper_of(live)
        if wanted.volume_snapshot is None:
            return found
        snapshots = self._snapshots(wanted)
        if (late := await snapshots.why_not_mounted(live, copies_of(wanted), found.message)) is not None:
            return late
        read = await snapshots.look()
        return found if read is None else replace(found, moment=read.moment)

    async def start(self, wanted: Wanted) -> str:
        """See Helpers."""
        if wanted.target.type is TargetType.HOST_DIRECTORY:
            raise NotNowError(
                BackupReason.TARGET_NOT_ALLOWED,
                "The sandbox is on Kubernetes, whose backups go to a PersistentVolumeClaim or a server elsewhere: make"
                " a backup with spec.target.type VolumeClaim, S3 or SFTP.",
            )
        if self._image is None:
            raise NotNowError(
                BackupReason.HELPER_NOT_STARTED,
                "The operator has no image to make backups with: start it with --gateway-image.",
            )
        claims = {part: await self._claim(name, wanted) for part, name in claims_of(wanted).items()}
        server = await self._servers.of(wanted.target, wanted.namespace)
        if server is not None:
            wanted, location = replace(wanted, order={**wanted.order, "server": server}), location_of(server)
        else:
            location = await self._repository(wanted, str(wanted.target.claim_name))
        wanted = replace(wanted, order=ordered(wanted, location))
        # Asked as late as can be, just before the pod that mounts them is made.
        await self._allowed(wanted)
        node = await self._node(wanted)
        if len(json.dumps(wanted.order)) > _LARGEST_ORDER:
            raise NotNowError(BackupReason.HELPER_NOT_STARTED, "The ClaudeSandbox is too large to go along.")
        volumes: Mapping[str, Manifest] = {}
        if wanted.volume_snapshot is not None:
            snapshots = self._snapshots(wanted)
            if (ready := await snapshots.ready()) is None:
                # The pod comes once they are there: until then they are what there is of the helper.
                await snapshots.take(claims)
                return location
            volumes, follows = await snapshots.volumes(ready, claims)
            # What is made without regard to a pod decides itself where that may run.
            node = node if follows else None
        # The policy first: no moment of the pod is without it.
        await self._create(NETWORK_POLICIES, network_policy(wanted), wanted)
        body = pod(wanted, self._image, node, [one["spec"]["resources"] for one in claims.values()], volumes)
        await self._create(PODS, body, wanted)
        return location

    async def remove(self, wanted: Wanted) -> None:
        """See Helpers."""
        # Its volumes are to be unmounted before what they were made from goes; else it needs no time.
        grace = 0 if wanted.volume_snapshot is None else None
        # In this order, for the same reason.
        for resource in (PODS, NETWORK_POLICIES):
            live = await self._found(resource, name_of(wanted), wanted.namespace)
            if live is None or not is_owned(live, *_owner(wanted)):
                continue
            try:
                await self._api.delete(
                    resource, name_of(wanted), wanted.namespace, uid=live["metadata"]["uid"], grace_seconds=grace
                )
            except ApiError as error:
                if not (error.is_not_found or error.is_conflict):
                    raise _refused(error) from None
        if wanted.volume_snapshot is not None:
            await self._snapshots(wanted).remove(*copies_of(wanted))

    async def progress(self, wanted: Wanted) -> Mapping[str, Any] | None:
        """See Helpers."""
        if time.monotonic() < self._refused_until:
            return None
        said = bytearray()
        try:
            async with asyncio.timeout(_LOG_TIME):
                log = log_parts(self._api, wanted.namespace, name_of(wanted), _WORK, tail=_LAST)
                async with aclosing(log):
                    async for part in log:
                        said += part
        except ApiError as error:
            # An installation without that right is as good as any other.
            if error.is_forbidden:
                self._refused_until = time.monotonic() + _ASKED_AGAIN
            return None
        except TimeoutError:
            return None
        return progress_in(said.decode(errors="replace"))

    def _snapshots(self, wanted: Wanted) -> VolumeSnapshots:
        return VolumeSnapshots(self._api, wanted, _owner(wanted), _metadata(wanted), claims_of(wanted), self._clock)

    async def _claim(self, name: str, wanted: Wanted) -> Object:
        live = await self._found(PERSISTENT_VOLUME_CLAIMS, name, wanted.namespace)
        # Whoever may make claims might have one of that name lead elsewhere.
        if live is None or labels(live).get(meta.LABEL_SANDBOX) != wanted.sandbox.name:
            raise NotNowError(BackupReason.WORKSPACE_NOT_THERE, f"The sandbox has no claim {name} of its own yet.")
        return live

    async def _repository(self, wanted: Wanted, name: str) -> str:
        live = await self._found(PERSISTENT_VOLUME_CLAIMS, name, wanted.namespace)
        where = f"PersistentVolumeClaim {wanted.namespace}/{name}"
        if live is None:
            raise NotNowError(BackupReason.TARGET_NOT_FOUND, f"There is no {where}.")
        # Who may make backups names any claim of the namespace; who may write the claim has to agree.
        if labels(live).get(meta.LABEL_BACKUPS) != "true":
            raise NotNowError(
                BackupReason.TARGET_NOT_ALLOWED,
                f"Nobody has said that backups may be written to {where}. Who may change it does so:"
                f" `kubectl label persistentvolumeclaim -n {wanted.namespace} {name} {meta.LABEL_BACKUPS}=true`.",
            )
        return where

    async def _node(self, wanted: Wanted) -> str | None:
        """Where the sandbox runs: a claim may be for one node at a time."""
        live = await self._found(PODS, meta.child_name(wanted.sandbox.name), wanted.namespace)
        return None if live is None else (live.get("spec") or {}).get("nodeName")

    async def _found(self, resource: Resource, name: str, namespace: str) -> Object | None:
        try:
            return await self._api.get(resource, name, namespace)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise _refused(error) from None

    async def _create(self, resource: Resource, body: Manifest, wanted: Wanted) -> None:
        try:
            await self._api.create(resource, body, wanted.namespace)
        except ApiError as error:
            # Of an earlier try; what it is was looked at, or is by the next look.
            if not error.is_already_exists:
                raise _refused(error) from None


def name_of(wanted: Wanted) -> str:
    """Of the pod and its policy: 59 characters at most."""
    return f"claude-sandbox-{'restore' if wanted.restores else 'backup'}-{wanted.uid}"


def claims_of(wanted: Wanted) -> dict[str, str]:
    """The claims of the sandbox's volumes, by what is backed up of them."""
    found = {"workspace": meta.workspace_name(wanted.sandbox.name, wanted.sandbox.workspace)}
    if wanted.home:
        found["home"] = meta.home_name(wanted.sandbox.name, wanted.sandbox.workspace)
    return found


def copies_of(wanted: Wanted) -> tuple[str, ...]:
    """The claims of what the pod has of snapshots, as Kubernetes names them: PODNAME-VOLUMENAME."""
    return tuple(f"{name_of(wanted)}-{part}" for part in claims_of(wanted))


def network_policy(wanted: Wanted) -> Manifest:
    """Nothing in, and nothing out but to the server of the repository."""
    server = wanted.order.get("server")
    egress = [] if server is None else [{
        "to": [{"ipBlock": {"cidr": str(ipaddress.ip_network(server["address"]))}}],
        "ports": [{"protocol": "TCP", "port": server["port"]}],
    }]  # fmt: skip
    selected = {"matchLabels": {meta.LABEL_BACKUP_UID: wanted.uid}}
    return hardening.network_policy(_metadata(wanted), selected, egress=egress)


def pod(
    wanted: Wanted, image: Image, node: str | None, claims: Sequence[Mapping[str, Any]],
    snapshots: Mapping[str, Manifest] | None = None,
) -> Manifest:  # fmt: skip
    """The helper. `claims`: the resources of those of workspace and home; the restored copy gets as much room.

    `snapshots`: volumes that it reads instead of these, by what they hold.
    """
    metadata = _metadata(wanted) | {"annotations": {ANNOTATION_ORDER: json.dumps(wanted.order)}}
    parts = claims_of(wanted)
    place = "/restored/source" if wanted.restores else "/source"
    mounts = {
        **{f"{place}/{part}": (part, not wanted.restores) for part in parts},
        **({} if wanted.target.is_elsewhere else {"/repository": ("repository", False)}),
        SCRATCH: ("scratch", False),
        "/tmp": ("tmp", False),  # noqa: S108 - its own
        _HANDED: ("handed", False),
        "/order": ("order", True),
    }
    passwords = [_mount("/password", "password", True), _mount(_HANDED, "handed", False)]
    if wanted.target.credentials_secret_ref is not None:
        passwords.append(_mount("/credentials", "credentials", True))
    spec: Manifest = {
        "restartPolicy": "Never",
        "hostname": hostname_of(wanted),
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [_NO_RESOLVER]},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AGENT.uid,
            "runAsGroup": AGENT.gid,
            "fsGroup": AGENT.gid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            _container(_HAND_OVER, image, ["hand-over", "/password/password", "/credentials", _HANDED], "64Mi")
            | {"volumeMounts": passwords}
        ],
        "containers": [
            _container(_WORK, image, ["/order", _HANDED], _MEMORY)
            | {"volumeMounts": [_mount(path, *what) for path, what in mounts.items()]}
        ],
        "volumes": _volumes(wanted, claims, snapshots or {}),
    }
    if node is not None:
        here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
        spec["affinity"] = {"nodeAffinity": required}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def helper_of(live: Object) -> Helper:
    """What the pod's status says of the work."""
    status = live.get("status") or {}
    phase = status.get("phase")
    states = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    ended = [one["state"]["terminated"] for one in states if (one.get("state") or {}).get("terminated")]
    if phase in ("Succeeded", "Failed"):
        last = ended[-1] if ended else {}
        # Only where all of them ended by themselves: a pod that was evicted in the midst has a last message too.
        result = result_in(str(last.get("message") or "")) if len(ended) == len(states) else None
        why = last.get("reason") or status.get("reason") or "it ended"
        how = f"{why}, code {last.get('exitCode', 'unknown')} {status.get('message') or ''}"
        return Helper(True, result, how.strip())
    if phase == "Running":
        return Helper(message="it is at work")
    waiting = [one["state"]["waiting"] for one in states if (one.get("state") or {}).get("waiting")]
    said = [f"{one.get('reason')}: {one.get('message') or ''}" for one in waiting if one.get("message")]
    found = status.get("conditions") or ()
    unplaced = [str(one.get("message")) for one in found if one.get("reason") == "Unschedulable"]
    return Helper(message="; ".join([*unplaced, *said]) or "its pod is being started")


def _container(name: str, image: Image, arguments: list[str], memory: str) -> Manifest:
    return {
        "name": name,
        "image": image.reference,
        "imagePullPolicy": image.pull_policy,
        "command": list(PROGRAM),
        "args": arguments,
        "resources": {
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "2", "memory": memory},
        },
        "securityContext": hardening.hardened_container(),
    }


def _mount(path: str, volume: str, read_only: bool) -> Manifest:
    return {"name": volume, "mountPath": path, "readOnly": read_only}


def _volumes(wanted: Wanted, claims: Sequence[Mapping[str, Any]], snapshots: Mapping[str, Manifest]) -> list[Manifest]:
    sizes = (str((one.get("requests") or {}).get("storage") or "10Gi") for one in claims)
    room = str(sum(quantity.bytes_of(size) for size in sizes))
    return [
        *(snapshots.get(part) or _mounted(part, claim) for part, claim in claims_of(wanted).items()),
        *_target(wanted),
        {"name": "scratch", "emptyDir": {"sizeLimit": room}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": _CACHE}},
        {"name": "handed", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "order", "downwardAPI": {"items": [_order()]}},
        {"name": "password", "secret": {"secretName": wanted.secret, "items": [_password(wanted)]}},
    ]


def _mounted(volume: str, claim: str | None) -> Manifest:
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim}}


def _target(wanted: Wanted) -> list[Manifest]:
    """The volumes of the target: the claim with the repository, or the Secret that its server lets in with."""
    if wanted.target.credentials_secret_ref is not None:
        secret = {"secretName": wanted.target.credentials_secret_ref.name, "defaultMode": 0o440}
        return [{"name": "credentials", "secret": secret}]
    return [_mounted("repository", wanted.target.claim_name)]


def _order() -> Manifest:
    return {"path": "order.json", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_ORDER}']"}}


def _password(wanted: Wanted) -> Manifest:
    return {"key": wanted.key, "path": "password", "mode": 0o440}


def _metadata(wanted: Wanted) -> Manifest:
    return {
        "name": name_of(wanted),
        "namespace": wanted.namespace,
        "labels": {
            meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
            meta.LABEL_COMPONENT: "backup",
            meta.LABEL_BACKUP_UID: wanted.uid,
        },
        "ownerReferences": [owner_reference(*_owner(wanted))],
    }


def _owner(wanted: Wanted) -> tuple[Identity, str]:
    """What a helper goes with, and of which kind that is: a backup; of a restore, the sandbox."""
    if wanted.restores:
        return wanted.sandbox, meta.KIND
    return Identity(wanted.namespace, wanted.name, wanted.uid), meta.BACKUP_KIND


def _refused(error: ApiError) -> NotNowError:
    reason = BackupReason.PERMISSION_DENIED if error.is_forbidden else BackupReason.HELPER_NOT_STARTED
    return NotNowError(reason, f"The API server refused it: {error.message}")
