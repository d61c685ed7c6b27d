"""What the demo has beside its sandbox in a cluster: pods behind Services, in a namespace of the demo's own.

Only the gateway of the demo's sandbox may connect to them, and they may connect to nobody.
"""

from dataclasses import dataclass

from claude_sandbox.api import meta
from claude_sandbox.demo import sandbox
from claude_sandbox.install import applying
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import Manifest
from claude_sandbox.install.waiting import Say, wait

NAMESPACE = "claude-sandbox-demo"
_USER = 65532
_PATIENCE = 180.0
_NAME = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Beside:
    """A server: `port` is its own, `service_port` the Service's. `files`: a directory that it may write to, if any, of
    which it has 64 MiB; `title` is what people call it.
    """

    name: str
    title: str
    image: str
    command: list[str]
    port: int
    service_port: int
    files: str = ""


def apply(kubectl: Kubectl, server: Beside) -> None:
    """Have it begin. Raises SetupError where the namespace is somebody else's."""
    found = kubectl.get("namespace", NAMESPACE)
    if found is not None and not sandbox.is_demos(found):
        raise SetupError(
            f"The namespace {NAMESPACE}, in which {server.title} would run, is not the demo's.",
            "Delete it, or use another cluster.",
        )
    kubectl.apply([_namespace()])
    kubectl.apply([_policy(server), _service(server), _deployment(server)], force=True)


def ready(kubectl: Kubectl, server: Beside, say: Say) -> str:
    """The address of its Service, once it runs. Raises SetupError where it does not."""
    if not wait(lambda: applying.rollout(kubectl, server.name, NAMESPACE), say, _PATIENCE):
        why = applying.rollout(kubectl, server.name, NAMESPACE)
        raise SetupError(
            f"{server.title[0].upper()}{server.title[1:]} does not run after {_PATIENCE:.0f} s: {why}\n"
            f"{applying.troubles(kubectl, NAMESPACE)}",
            "Mend what is said above, and run the command again.",
        )
    service = kubectl.get("service", server.name, NAMESPACE)
    assert service is not None  # noqa: S101 - it was applied a moment ago
    address: str = service["spec"]["clusterIP"]
    return address


def remove(kubectl: Kubectl, name: str) -> bool:
    """Remove one of them; whether it was there. Raises SetupError."""
    if not sandbox.is_demos(kubectl.get("namespace", NAMESPACE)) or kubectl.get("deployment", name, NAMESPACE) is None:
        return False
    kubectl.run(
        "delete", "deployment,service,networkpolicy", f"--selector={_NAME}={name}", "--namespace", NAMESPACE, "--wait",
        timeout=180,
    )  # fmt: skip
    return True


def down(kubectl: Kubectl, say: Say) -> bool:
    """Remove all of them; whether there were any. Raises SetupError."""
    if not sandbox.is_demos(kubectl.get("namespace", NAMESPACE)):
        return False
    say(f"Removing the namespace {NAMESPACE}, with the servers that the demo had in it.")
    kubectl.run("delete", "namespace", NAMESPACE, "--wait", timeout=300)
    return True


def _namespace() -> Manifest:
    labels = {sandbox.ENFORCE: "restricted", **sandbox.LABELS}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _policy(server: Beside) -> Manifest:
    gateways = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": sandbox.NAMESPACE}},
        "podSelector": {"matchLabels": {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(server),
        "spec": {
            "podSelector": {"matchLabels": {_NAME: server.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [gateways], "ports": [{"protocol": "TCP", "port": server.port}]}],
        },
    }


def _service(server: Beside) -> Manifest:
    ports = [{"name": "server", "port": server.service_port, "targetPort": server.port, "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": {_NAME: server.name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(server), "spec": spec}


def _deployment(server: Beside) -> Manifest:
    container: Manifest = {
        "name": server.name,
        "image": server.image,
        "imagePullPolicy": "IfNotPresent",
        "command": server.command,
        "ports": [{"name": "server", "containerPort": server.port, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": server.port}, "periodSeconds": 1},
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "96Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    if server.files:
        container |= {"workingDir": server.files, "volumeMounts": [{"name": "files", "mountPath": server.files}]}
        pod["volumes"] = [{"name": "files", "emptyDir": {"sizeLimit": "64Mi"}}]
    template = {"metadata": {"labels": {_NAME: server.name}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(server),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {_NAME: server.name}},
            "template": template,
        },
    }


def _metadata(server: Beside) -> Manifest:
    return {"name": server.name, "namespace": NAMESPACE, "labels": {_NAME: server.name, **sandbox.LABELS}}
