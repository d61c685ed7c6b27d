"""An API server's answers over HTTP, without the server: objects by their paths, for the real client to read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from claude_sandbox.api import meta
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site

Object = dict[str, Any]

NAMESPACE = "agents"
DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/claude@{DIGEST}"


@dataclass
class Cluster:
    """What the server answers, for the tests to change; and what it was asked."""

    pods: Object = field(default_factory=dict)
    sandboxes: Object = field(default_factory=dict)
    policies: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    slices: list[Object] = field(default_factory=list)
    accounts: Object = field(default_factory=dict)
    claims: Object = field(default_factory=dict)
    quotas: list[Object] = field(default_factory=list)
    runtime_classes: Object = field(default_factory=dict)
    roles: list[Object] = field(default_factory=list)
    """ClusterRoles."""
    bindings: list[Object] = field(default_factory=list)
    """RoleBindings of all namespaces."""
    refused: tuple[str, ...] = ()
    """Plurals that are answered with 403."""
    gateways: dict[str, str] = field(default_factory=dict)
    """By the names of pods with a gateway, what each has written."""
    allowed: bool = False
    """Whether ServiceAccounts may do what they are asked about."""
    asked: list[str] = field(default_factory=list)
    leases: Object = field(default_factory=dict)
    docker_hosts: list[Object] = field(default_factory=list)
    cilium: list[Object] | None = None
    """CiliumNetworkPolicies of all namespaces; None: their kind is not served."""

    def answer(self, method: str, path: str) -> tuple[int, Object | str]:
        self.asked.append(f"{method} {path}")
        if path == "/version":
            return 200, {"major": "1", "minor": "34"}
        if any(f"/{plural}" in path for plural in self.refused):
            return 403, _status(403, "Forbidden", "forbidden")
        if method == "POST" and path.endswith("/localsubjectaccessreviews"):
            return 201, {"status": {"allowed": self.allowed}}
        if path in ("/apis", "/apis/cilium.io/v2", "/apis/cilium.io/v2alpha1"):
            return 200, _served(self.cilium is not None)
        head, _, name = path.rpartition("/")
        if name == "pods":
            return 200, {"metadata": {"resourceVersion": "1"}, "items": list(map(_gateway, self.gateways))}
        if name == meta.PLURAL:
            return 200, {"metadata": {"resourceVersion": "1"}, "items": list(self.sandboxes.values())}
        if name == "log":
            return 200, self.gateways[head.rpartition("/")[2]]
        if head.endswith("/api/v1/namespaces"):
            labels = {"kubernetes.io/metadata.name": name, "pod-security.kubernetes.io/enforce": "restricted"}
            return 200, {"metadata": {"name": name, "labels": labels}}
        lists = {
            "networkpolicies": self.policies,
            "services": self.services,
            "endpointslices": self.slices,
            "resourcequotas": self.quotas,
            "ciliumnetworkpolicies": self.cilium or [],
            meta.HOST_PLURAL: self.docker_hosts,
        }
        lists |= {"rolebindings": self.bindings, "clusterroles": self.roles}
        if name in (*lists, "limitranges", "roles", "clusterrolebindings"):
            return 200, {"metadata": {"resourceVersion": "1"}, "items": lists.get(name, [])}
        single = {
            "pods": self.pods,
            meta.PLURAL: self.sandboxes,
            "serviceaccounts": self.accounts,
            "persistentvolumeclaims": self.claims,
            "runtimeclasses": self.runtime_classes,
            "leases": self.leases,
        }
        found = single.get(head.rpartition("/")[2], {}).get(name)
        return (200, found) if found else (404, _status(404, "NotFound", f'"{name}" not found'))


def _served(cilium: bool) -> Object:
    """Which groups there are, and what is in the only one."""
    versions = [{"version": "v2alpha1"}, {"version": "v2"}]
    group = {"name": "cilium.io", "versions": versions, "preferredVersion": {"version": "v2"}}
    kind = {"name": "ciliumnetworkpolicies", "kind": "CiliumNetworkPolicy", "namespaced": True, "verbs": ["list"]}
    return {"groups": [group] if cilium else [], "resources": [kind]}


def _gateway(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"containers": [{"name": "gateway"}]}}


@contextmanager
def serving(cluster: Cluster, directory: Path) -> Iterator[str]:
    """A server that answers for `cluster`; yields the path of its kubeconfig."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond("GET")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._respond("POST")

        def _respond(self, method: str) -> None:
            code, body = cluster.answer(method, self.path.partition("?")[0])
            # A log is text.
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {"token": "x"}}],
    }
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield str(kubeconfig)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_sandbox(**spec: Any) -> Cluster:
    """A cluster with the sandbox `alice` as the operator makes it, running."""
    sandbox = {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"namespace": NAMESPACE, "name": "alice", "uid": "u-1", "generation": 1},
        "spec": {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Mounted"}} | spec,
    }
    blueprint = build(
        Identity(NAMESPACE, "alice", "u-1"), parse_spec(sandbox), Site(parse_image(IMAGE, "IfNotPresent"))
    )
    gateway = objects.Endpoint("10.96.0.9", "-----BEGIN CERTIFICATE-----") if blueprint.gateway is not None else None
    pod = objects.pod(blueprint, "7", gateway)
    pod["metadata"]["uid"] = "p-1"
    pod["status"] = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "agent",
                "imageID": IMAGE,
                "user": {"linux": {"uid": 1000, "gid": 1000, "supplementalGroups": [1000]}},
                "resources": {"limits": {"cpu": "2", "memory": "2Gi"}},
            }
        ],
    }
    claim = objects.claim(blueprint)
    return Cluster(
        pods={"sandbox-alice": pod},
        sandboxes={"alice": sandbox},
        policies=[objects.baseline_policy(NAMESPACE), objects.network_policy(blueprint)],
        accounts={"sandbox-alice": objects.service_account(blueprint)},
        claims={"sandbox-alice-workspace": claim} if claim else {},
    )


def with_pod() -> Cluster:
    """A cluster with the pod `bob`, as hardened as a sandbox's, that nobody declares."""
    cluster = with_sandbox()
    pod = cluster.pods.pop("sandbox-alice")
    pod["metadata"] = {"namespace": NAMESPACE, "name": "bob", "uid": "p-2", "labels": {"app": "bob"}}
    pod["spec"]["serviceAccountName"] = "bob"
    policy = {
        "metadata": {"name": "bob", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app": "bob"}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]}],
        },
    }
    return Cluster(pods={"bob": pod}, policies=[policy], accounts={"bob": {"metadata": {"name": "bob"}}})


def _status(code: int, reason: str, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
