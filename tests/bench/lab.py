"""Where it is measured: a real control plane, pretended nodes, and the operator as a process of its own."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.client import Api
from claude_sandbox.backends.kubernetes.credentials import load
from claude_sandbox.backends.kubernetes.errors import ApiError
from claude_sandbox.backends.kubernetes.resources import NAMESPACES, NODES, SECRETS, SERVICE_ACCOUNTS, Resource
from claude_sandbox.localcluster import builder, cluster, components
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.tools import tool

Report = Callable[[str], None]

SECRET = "anthropic-api-key"
KWOK = "kwok"
# The operator's own account: what it asks of the API server can be told from what all others ask.
ACCOUNT, ACCOUNT_NAMESPACE = "claude-sandbox-operator", "claude-sandbox-system"

_KWOK_CONFIG = Path(__file__).with_name("kwok.yaml")
_CRDS = Path(__file__).parents[2] / "crds"
_FAKE = {"kwok.x-k8s.io/node": "fake"}

CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", False, "ClusterRoleBinding"
)
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition"
)


@dataclass(frozen=True)
class Lab:
    """A cluster that is up, and a client of its administrator."""

    cluster: Cluster
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
        # Much more than the load ever has under way: the load must not wait for the load.
        async with Api(load(str(running.kubeconfig)), pool_size=1000, attempts=1, user_agent="bench") as api:
            found = Lab(running, api, directory)
            await _nodes(found, nodes, report)
            for path in sorted(_CRDS.glob(f"{meta.GROUP}_*.yaml")):
                await _define(api, yaml.safe_load(path.read_text()))
            yield found


@contextlib.contextmanager
def _cluster(report: Report) -> Iterator[Cluster]:
    try:
        yield cluster.up("bench", controllers=True, fsync=False, report=report)
    finally:
        cluster.down("bench", report)


async def _nodes(lab: Lab, count: int, report: Report) -> None:
    layout = lab.cluster.layout
    binary = builder.build_all([tool(KWOK, lab.cluster.version)], report)[KWOK]
    argv = (
        str(binary),
        f"--kubeconfig={lab.cluster.kubeconfig}",
        f"--config={_KWOK_CONFIG}",
        "--manage-nodes-with-annotation-selector=" + ",".join(f"{key}={value}" for key, value in _FAKE.items()),
        "--node-lease-duration-seconds=40",
    )
    components.start(layout, KWOK, argv, environment={"HOME": str(lab.directory)})
    await asyncio.gather(*(lab.api.create(NODES, _node(f"pretended-{number}")) for number in range(count)))


def _node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": _FAKE, "labels": labels}}


async def _define(api: Api, definition: dict[str, Any]) -> None:
    await api.create(DEFINITIONS, definition)
    name = definition["metadata"]["name"]
    async with asyncio.timeout(30):
        while not _established(await api.get(DEFINITIONS, name)):
            await asyncio.sleep(0.1)


def _established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


async def namespace(lab: Lab, name: str) -> None:
    """A namespace as the documentation asks for: it enforces `restricted`, and has the key's Secret."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    await _ensure(lab.api, NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    secret = {"metadata": {"name": SECRET, "namespace": name}, "type": meta.SECRET_TYPE, "data": {"api-key": "bm9uZQ=="}}
    await _ensure(lab.api, SECRETS, secret)
    async with asyncio.timeout(30):  # made by a controller; no pod may name it before
        while not await _exists(lab.api, SERVICE_ACCOUNTS, "default", name):
            await asyncio.sleep(0.05)


async def _ensure(api: Api, resource: Resource, body: dict[str, Any]) -> None:
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    try:
        await api.create(resource, body, body["metadata"].get("namespace"))
    except ApiError as error:
        if not error.is_already_exists:
            raise


async def _exists(api: Api, resource: Resource, name: str, namespace: str) -> bool:
    try:
        await api.get(resource, name, namespace)
    except ApiError as error:
        if not error.is_not_found:
            raise
        return False
    return True


async def operator_kubeconfig(lab: Lab) -> Path:
    """A kubeconfig with a token of the operator's own account, as its pod would have."""
    await _ensure(lab.api, NAMESPACES, {"metadata": {"name": ACCOUNT_NAMESPACE}})
    await _ensure(lab.api, SERVICE_ACCOUNTS, {"metadata": {"name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE}})
    binding = {
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": ACCOUNT_NAMESPACE}],
    }
    await _ensure(lab.api, CLUSTER_ROLE_BINDINGS, binding)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 24 * 3600},
    }
    answer = await lab.api.create(SERVICE_ACCOUNTS, request, ACCOUNT_NAMESPACE, name=ACCOUNT, subresource="token")
    document = yaml.safe_load(lab.cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": answer["status"]["token"]}
    document["contexts"][0]["context"]["namespace"] = ACCOUNT_NAMESPACE
    path = lab.directory / "operator.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


class OperatorEnded(Exception):  # noqa: N818 - said to a person
    """The operator is not running, or did not get ready."""


class Operator:
    """One operator process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, argv: tuple[str, ...], log: Path) -> "Operator":
        """Start it; its output is appended to `log`."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent)}
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL, env=environment
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def require_running(self) -> None:
        """Raises OperatorEnded, with the end of its log, where it has ended."""
        if self._process.returncode is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-20:]
            raise OperatorEnded("\n".join([f"The operator ended with {self._process.returncode}:", *lines]))

    async def stop(self, grace: float = 30.0) -> float:
        """Tell it to stop; seconds until it had ended, by force after `grace`."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(grace):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        return loop.time() - start


def command(kubeconfig: Path, port: int) -> tuple[str, ...]:
    """How the operator is started, as in its pod: one of possibly several replicas, all namespaces."""
    return (
        sys.executable,
        "-m",
        "claude_sandbox.cli.main",
        "run",
        f"--kubeconfig={kubeconfig}",
        f"--sandbox-image=registry.example/claude-sandbox@sha256:{'a' * 64}",
        f"--bind=127.0.0.1:{port}",
        f"--lease-namespace={ACCOUNT_NAMESPACE}",
        "--log-format=json",
    )
