"""People with rights in a real cluster and no engine, and the operator's Service for their sessions.

The API server's proxy connects to addresses of pods alone, and never to loopback. So the operator listens on an address
of this machine's own, and a Pod that says that it has that address stands for it.
"""

import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from claude_sandbox.install.manifests import sources
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import (
    CLUSTER_ROLES,
    ENDPOINT_SLICES,
    NAMESPACES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.localcluster.cluster import Cluster

SERVICE = "claude-sandbox-sessions"
ENDPOINTS = Resource("", "v1", "endpoints", True, "Endpoints")


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


def free_port(address: str) -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        return int(listener.getsockname()[1])


async def serve(api: Api, namespace: str, address: str, ports: Iterable[int]) -> str:
    """The Service in the namespace, with an operator at each of the ports: how it is named to the operator."""
    await api.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    await api.apply(SERVICE_ACCOUNTS, account)
    documents = list(yaml.safe_load_all((sources() / "sessions/sessions.yaml").read_text()))
    for one in documents:
        if one["kind"] in ("Service", "Role"):
            one["metadata"]["namespace"] = namespace
            one["spec" if one["kind"] == "Service" else "metadata"].pop("selector", None)
            await api.apply(SERVICES if one["kind"] == "Service" else ROLES, one)
    subsets = [await _endpoint(api, namespace, f"operator-{port}", address, port) for port in ports]
    # What API servers before 1.35 ask; no controller makes it here.
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": SERVICE, "namespace": namespace}}
    await api.apply(ENDPOINTS, endpoints | {"subsets": subsets})
    return f"{namespace}/{SERVICE}:8443"


async def unserve(api: Api, namespace: str) -> None:
    """Nobody is behind the Service any more."""
    for resource in (PODS, ENDPOINT_SLICES, ENDPOINTS):
        for one in (await api.list(resource, namespace)).items:
            await api.delete(resource, one["metadata"]["name"], namespace, grace_seconds=0)


async def _endpoint(api: Api, namespace: str, name: str, address: str, port: int) -> dict[str, Any]:
    """A pod that has the address, and its slice; what Endpoints say of it."""
    container = {"name": "operator", "image": "none"}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }  # fmt: skip
    await api.apply(PODS, pod)
    await api.patch_status(PODS, name, namespace, {"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"})
    target = {"kind": "Pod", "name": name, "namespace": namespace}
    endpoint = {"addresses": [address], "conditions": {"ready": True}, "targetRef": target}
    slice_ = {
        "apiVersion": ENDPOINT_SLICES.api_version, "kind": ENDPOINT_SLICES.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4", "endpoints": [endpoint], "ports": [{"name": "sessions", "port": port}],
    }  # fmt: skip
    await api.apply(ENDPOINT_SLICES, slice_)
    return {"addresses": [{"ip": address, "targetRef": target}], "ports": [{"name": "sessions", "port": port}]}


async def person(
    api: Api, cluster: Cluster, directory: Path, name: str, *, works_in: Iterable[str], reaches: Iterable[str]
) -> str:
    """The kubeconfig of an account that may work in sandboxes of namespaces, and reach the Service in namespaces.

    By the roles that are installed for people, and nothing else.
    """
    home = "default"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": home}}
    await api.apply(SERVICE_ACCOUNTS, account)
    for one in yaml.safe_load_all((sources() / "rbac/users/users.yaml").read_text()):
        await api.apply(CLUSTER_ROLES, one)
    for namespace in works_in:
        await _bind(api, namespace, name, ("ClusterRole", "claudesandbox-worker"))
    for namespace in reaches:
        await _bind(api, namespace, name, ("Role", SERVICE))
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = await api.create(SERVICE_ACCOUNTS, request, home, name=name, subresource="token")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token["status"]["token"]}
    path = directory / f"{name}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def _bind(api: Api, namespace: str, name: str, role: tuple[str, str]) -> None:
    kind, called = role
    binding: dict[str, Any] = {
        "apiVersion": ROLE_BINDINGS.api_version, "kind": ROLE_BINDINGS.kind,
        "metadata": {"name": f"{name}-{called}", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": called},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }  # fmt: skip
    await api.apply(ROLE_BINDINGS, binding)
