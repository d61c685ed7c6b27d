"""Workspaces of a sandbox that were kept aside when it got a fresh one: what there is, its content, its end.

On Kubernetes they are claims, and the content of one is read by a pod of one's own that ends with the command: it has
the claim read-only, a policy that denies everything, and nothing else. On Docker they are volumes, and the engine reads
the content itself, by a container that is never started. Nothing of what is kept is run.
"""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.backends.kubernetes.hardening import hardened_container
from claude_sandbox.blueprint.build import AGENT
from claude_sandbox.cli.incident.files import Bounded, new_file, to_its_end
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.install.containers import PLACE, any_image, holding
from claude_sandbox.install.errors import SetupError
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_exec import Channel, run
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PERSISTENT_VOLUME_CLAIMS, PODS

_PIECE = 1 << 20
_PATIENCE = 120.0
_NUMBERED = re.compile(rf"-({names.WORKSPACE}|{names.HOME})(?:-([2-9]|[1-9][0-9]+))?")


@dataclass(frozen=True)
class Kept:
    """A workspace, or what was kept of a home. `name`: of its claim or volume. `used_by`: pods or containers."""

    number: int
    part: str
    name: str
    made: str
    size: str
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Archive:
    """What the content of one is written to: `most` bytes. `image`: what reads it; None: whatever there is."""

    output: Path
    most: int
    image: str | None = None


def numbered(name: str, before: str) -> tuple[int, str] | None:
    """The number and what it is, by the name of a claim or volume that begins with `before`; None for any other."""
    found = _NUMBERED.fullmatch(name.removeprefix(before)) if name.startswith(before) else None
    return None if found is None else (int(found[2] or 1), found[1])


class Claims:
    """Of one sandbox in a cluster."""

    def __init__(self, api: Api, namespace: str, sandbox: str) -> None:
        self._api = api
        self._namespace = namespace
        self._sandbox = sandbox

    async def all(self) -> list[Kept]:
        """Raises WorkError."""
        selector = f"{meta.LABEL_SANDBOX}={self._sandbox}"
        try:
            claims = (await self._api.list(PERSISTENT_VOLUME_CLAIMS, self._namespace, label_selector=selector)).items
            pods = (await self._api.list(PODS, self._namespace)).items
        except ApiError as error:
            right = "list persistentvolumeclaims and pods"
            raise refused(error, f"Workspaces of {self._sandbox}", right, self._namespace) from None
        found = (_claimed(claim, self._sandbox, pods) for claim in claims)
        return sorted((one for one in found if one is not None), key=lambda one: (one.number, one.part))

    async def remove(self, kept: Kept) -> None:
        """Raises WorkError."""
        try:
            await self._api.delete(PERSISTENT_VOLUME_CLAIMS, kept.name, self._namespace)
        except ApiError as error:
            what = f"PersistentVolumeClaim {self._namespace}/{kept.name}"
            raise refused(error, what, "delete persistentvolumeclaims", self._namespace) from None

    async def _image(self) -> str | None:
        """What the sandbox runs now, where it runs."""
        try:
            pod = await self._api.get(PODS, meta.child_name(self._sandbox), self._namespace)
        except ApiError:
            return None
        return str(pod["spec"]["containers"][0]["image"])

    async def collect(self, kept: Kept, archive: Archive) -> int:
        """Write its content as a tar archive; how many bytes. Raises WorkError; then there is no file."""
        image = archive.image or await self._image()
        if image is None:
            raise WorkError("Nothing of the sandbox runs, so no image is known.", "Name one that has tar by --image.")
        async with _reader(self._api, self._namespace, kept, image) as pod:
            with new_file(archive.output) as file:
                return await self._read(pod, Bounded(file, archive.most), kept)

    async def _read(self, pod: str, file: Bounded, kept: Kept) -> int:
        errors = b""
        try:
            command = ("tar", "-C", PLACE, "-cf", "-", ".")
            session = await run(self._api, self._namespace, pod, "reader", command)
            try:
                async for channel, part in session.output():
                    if channel is Channel.STDOUT:
                        await asyncio.to_thread(file.write, part)
                    else:
                        errors = (errors + part)[-1024:]
            finally:
                await session.close()
        except ApiError as error:
            right = "get and create pods/exec"
            raise refused(error, f"The content of {kept.name}", right, self._namespace) from None
        if session.exit_code != 0:
            raise WorkError(
                f"tar in pod {self._namespace}/{pod} failed: {plain(errors.decode(errors='replace'))}.",
                "Name an image that has tar and a shell by --image.",
            )
        return file.size


def _claimed(claim: Mapping[str, Any], sandbox: str, pods: Iterable[Mapping[str, Any]]) -> Kept | None:
    metadata, name = claim["metadata"], str(claim["metadata"]["name"])
    which = numbered(name, meta.child_name(sandbox))
    if which is None:
        return None
    users = tuple(
        str(pod["metadata"]["name"])
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name
    )
    size = ((claim.get("status") or {}).get("capacity") or claim["spec"]["resources"]["requests"]).get("storage", "")
    return Kept(*which, name, str(metadata["creationTimestamp"]), str(size), users)


@contextlib.asynccontextmanager
async def _reader(api: Api, namespace: str, kept: Kept, image: str) -> AsyncIterator[str]:
    """A pod that has the claim read-only and does nothing; it goes in the end. Raises WorkError."""
    name = f"kept-{secrets.token_hex(4)}"
    what = f"Pod {namespace}/{name}"
    try:
        try:
            for resource, body in ((NETWORK_POLICIES, _denied(name)), (PODS, _pod(name, kept.name, image))):
                await api.create(resource, body, namespace)
            await _until_running(api, namespace, name)
        except ApiError as error:
            right = "create and get pods, and create networkpolicies"
            raise refused(error, what, right, namespace) from None
        yield name
    finally:
        await to_its_end(_removed(api, namespace, name))


async def _until_running(api: Api, namespace: str, name: str) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            while (await api.get(PODS, name, namespace)).get("status", {}).get("phase") != "Running":  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise WorkError(
            f"Pod {namespace}/{name}, which is to read it, does not run after {_PATIENCE:.0f} s.",
            "See that its image can be had on the node, or name another by --image: it needs tar and a shell.",
        ) from None


async def _removed(api: Api, namespace: str, name: str) -> None:
    for resource in (PODS, NETWORK_POLICIES):
        with contextlib.suppress(ApiError):
            grace = 0 if resource is PODS else None
            await api.delete(resource, name, namespace, grace_seconds=grace)


def _labels(name: str) -> dict[str, str]:
    return {meta.LABEL_COMPONENT: name}


def _denied(name: str) -> dict[str, Any]:
    kind = {"apiVersion": NETWORK_POLICIES.api_version, "kind": NETWORK_POLICIES.kind, "metadata": {"name": name}}
    spec = {"podSelector": {"matchLabels": _labels(name)}, "policyTypes": ["Ingress", "Egress"]}
    return {**kind, "spec": {**spec, "ingress": [], "egress": []}}


def _pod(name: str, claim: str, image: str) -> dict[str, Any]:
    """It passes the `restricted` Pod Security Standard, as the agent's user, whose files they are."""
    user = {"runAsNonRoot": True, "runAsUser": AGENT.uid, "runAsGroup": AGENT.gid}
    container = {
        "name": "reader",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        "securityContext": hardened_container(),
        "volumeMounts": [{"name": "kept", "mountPath": PLACE, "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": 3600,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": _labels(name)}, "spec": spec}


class Volumes:
    """Of one sandbox on an engine. Each method blocks, and raises WorkError."""

    def __init__(self, engine: EngineAddress, namespace: str, sandbox: str) -> None:
        self._engine = engine
        self._namespace = namespace
        self._sandbox = sandbox

    def all(self) -> list[Kept]:
        """Those of a sandbox of this name in a namespace of this name."""
        with self._connected() as connection:
            return self._all(connection)

    def _all(self, connection: Connection) -> list[Kept]:
        wanted = [f"{meta.LABEL_SANDBOX}={self._sandbox}", f"{names.LABEL_NAMESPACE}={self._namespace}"]
        volumes = connection.api.volumes(filters={"label": wanted}).get("Volumes") or ()
        found = [one for one in volumes if (one.get("Labels") or {}).get(names.LABEL_COMPONENT) in names.KEPT]
        clusters = {one["Labels"].get(names.LABEL_CLUSTER) for one in found}
        if len(clusters) > 1:
            raise WorkError(
                f"Sandboxes {self._namespace}/{self._sandbox} of {len(clusters)} clusters have workspaces there.",
                f"See whose each is: docker volume ls --filter label={wanted[0]}, and docker volume inspect NAME.",
            )
        made = [self._kept(connection, one) for one in found]
        return sorted((one for one in made if one is not None), key=lambda one: (one.number, one.part))

    def _kept(self, connection: Connection, volume: Mapping[str, Any]) -> Kept | None:
        name = str(volume["Name"])
        part = str(volume["Labels"][names.LABEL_COMPONENT])
        which = numbered(name, name[: name.rfind(f"-{part}")])
        if which is None:
            return None
        users = connection.api.containers(all=True, filters={"volume": name})
        called = tuple(str((one.get("Names") or ["/?"])[0]).lstrip("/") for one in users)
        return Kept(*which, name, str(volume.get("CreatedAt", "")), "", called)

    def remove(self, kept: Kept) -> None:
        """Refused by the engine where a container has it."""
        with self._connected() as connection:
            connection.api.remove_volume(kept.name)

    def collect(self, kept: Kept, archive: Archive) -> int:
        """Write its content as a tar archive; how many bytes."""
        with self._connected() as connection:
            try:
                reader = archive.image or any_image(connection.api)
            except SetupError as error:
                raise WorkError(error.message, "Pull any, and name it.") from None
            with holding(connection.api, kept.name, reader, read_only=True) as made:
                pieces, _ = connection.api.get_archive(made, f"{PLACE}/.", chunk_size=_PIECE)
                with new_file(archive.output) as file:
                    bounded = Bounded(file, archive.most)
                    for piece in pieces:
                        bounded.write(piece)
                    return bounded.size

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with connect(self._engine.address, self._engine.credentials) as connection:
                yield connection
        except ConnectError as error:
            raise WorkError(
                f"{self._engine.endpoint}: {error}.",
                "Run this where the Docker host's engine can be reached, or name the engine with --host.",
            ) from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise WorkError(
                f"The engine refuses it: {plain(str(error))}.",
                "docker volume ls and docker ps --all say what is there.",
            ) from None
