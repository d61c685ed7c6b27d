"""Where it is measured: a real control plane, pretended nodes, and the operator's installation without its pod."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.bench.objects import SECRET

from claude_sandbox.api import meta
from claude_sandbox.install.manifests import NAMESPACE, OPERATOR, Installation, render, sources
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, NODES, SECRETS, SERVICE_ACCOUNTS, Resource
from claude_sandbox.localcluster import cluster, components
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.tools import tool

Report = Callable[[str], None]

_KWOK = "kwok"
_KWOK_CONFIG = Path(__file__).with_name("kwok.yaml")
_PRETENDED = {"kwok.x-k8s.io/node": "fake"}

_RBAC = "rbac.authorization.k8s.io"
_DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
# What of the installation there is without the operator's pod.
_INSTALLED = {
    resource.kind: resource
    for resource in (
        _DEFINITIONS,
        NAMESPACES,
        SERVICE_ACCOUNTS,
        Resource(_RBAC, "v1", "clusterroles", False, "ClusterRole"),
        Resource(_RBAC, "v1", "clusterrolebindings", False, "ClusterRoleBinding"),
        Resource(_RBAC, "v1", "roles", True, "Role"),
        Resource(_RBAC, "v1", "rolebindings", True, "RoleBinding"),
    )
}


@dataclass(frozen=True)
class Lab:
    """A cluster that is up, and a client of its administrator."""

    cluster: Cluster
    credentials: Credentials
    api: Api
    directory: Path
    """For files of this run: logs, the operator's kubeconfig."""

    @property
    def pids(self) -> dict[str, int]:
        """The processes of the control plane and of the nodes, by name; this one is `load`."""
        layout = self.cluster.layout
        found = {name: components.running(layout, name) for name in components.recorded(layout)}
        return {name: process.pid for name, process in found.items() if process} | {"load": os.getpid()}


@contextlib.asynccontextmanager
async def lab(directory: Path, nodes: int, report: Report) -> AsyncIterator[Lab]:
    """Bring everything up but the operator; all of it is gone afterwards. Raises LocalClusterError."""
    with _cluster(report) as running:
        credentials = load(str(running.kubeconfig))
        # Far more than there ever is under way: the load must not wait for itself.
        async with Api(credentials, pool_size=1000, attempts=1, user_agent="bench") as api:
            found = Lab(running, credentials, api, directory)
            await _nodes(found, nodes, report)
            await _install(api)
            yield found


@contextlib.asynccontextmanager
async def node_lab(directory: Path, images: Sequence[ImageArchive], report: Report) -> AsyncIterator[Lab]:
    """The same with one real node in place of pretended ones. Needs root. Raises LocalClusterError."""
    with _cluster(report, node=True) as running:
        for image in images:
            await asyncio.to_thread(load_image, running.layout, image)
        credentials = load(str(running.kubeconfig))
        async with Api(credentials, attempts=1, user_agent="bench") as api:
            await _install(api)
            yield Lab(running, credentials, api, directory)


@contextlib.contextmanager
def _cluster(report: Report, *, node: bool = False) -> Iterator[Cluster]:
    try:
        yield cluster.up("bench", controllers=True, node=node, fsync=False, report=report)
    finally:
        cluster.down("bench", report)


async def _nodes(lab: Lab, count: int, report: Report) -> None:
    binary = builder.build_all([tool(_KWOK, lab.cluster.version)], report)[_KWOK]
    (annotation,) = _PRETENDED.items()
    argv = (
        str(binary),
        f"--kubeconfig={lab.cluster.kubeconfig}",
        f"--config={_KWOK_CONFIG}",
        f"--manage-nodes-with-annotation-selector={'='.join(annotation)}",
        "--node-lease-duration-seconds=40",
    )
    components.start(lab.cluster.layout, _KWOK, argv, environment={"HOME": str(lab.directory)})
    await asyncio.gather(*(lab.api.create(NODES, _node(f"pretended-{number}")) for number in range(count)))


def _node(name: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": _PRETENDED, "labels": {"kubernetes.io/hostname": name}}
    return {"apiVersion": NODES.api_version, "kind": NODES.kind, "metadata": metadata}


async def _install(api: Api) -> None:
    """The CRD, and the operator's account with no more rights than the manifests give it."""
    for manifest in render(Installation()):
        if resource := _INSTALLED.get(manifest["kind"]):
            await api.create(resource, manifest, manifest["metadata"].get("namespace"))
            if resource is _DEFINITIONS:
                await _until(partial(_is_established, api, manifest["metadata"]["name"]))


async def _is_established(api: Api, name: str) -> bool:
    conditions = (await api.get(_DEFINITIONS, name)).get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


async def namespace(lab: Lab, name: str) -> None:
    """A namespace as the documentation asks for: it enforces `restricted`, and has the key's Secret."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await lab.api.create(NAMESPACES, _object(NAMESPACES, {"name": name, "labels": labels}))
    secret = _object(SECRETS, {"name": SECRET, "namespace": name})
    await lab.api.create(SECRETS, secret | {"type": meta.SECRET_TYPE, "data": {"api-key": "bm9uZQ=="}}, name)
    # Made by a controller; no pod can be made before.
    await _until(lambda: _exists(lab.api, SERVICE_ACCOUNTS, "default", name))


def _object(resource: Resource, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}


async def _exists(api: Api, resource: Resource, name: str, namespace: str) -> bool:
    try:
        await api.get(resource, name, namespace)
    except ApiError as error:
        if not error.is_not_found:
            raise
        return False
    return True


async def may_read_logs(lab: Lab) -> None:
    """Let the operator read the logs of pods, which belong to the evidence, as `manifests/incidents` does."""
    for manifest in yaml.safe_load_all((sources() / "incidents" / "incidents.yaml").read_text()):
        if manifest["metadata"]["name"] == "claude-sandbox-operator-logs":
            await lab.api.create(_INSTALLED[manifest["kind"]], manifest)


async def _until(true: Callable[[], Awaitable[bool]], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)


async def operator_kubeconfig(lab: Lab) -> Path:
    """A kubeconfig with a token of the operator's own account, as its pod would have."""
    request = _object(Resource("authentication.k8s.io", "v1", "", True, "TokenRequest"), {})
    request["spec"] = {"expirationSeconds": 24 * 3600}
    answer = await lab.api.create(SERVICE_ACCOUNTS, request, NAMESPACE, name=OPERATOR, subresource="token")
    document = yaml.safe_load(lab.cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": answer["status"]["token"]}
    path = lab.directory / "operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path
