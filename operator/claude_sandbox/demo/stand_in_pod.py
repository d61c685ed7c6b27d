"""The stand-in for the Claude API in a cluster: a pod behind a Service, in a namespace of its own.

Only the gateway of the demo's sandbox may connect to it, and it may connect to nobody.
"""

from claude_sandbox.api import meta
from claude_sandbox.demo import sandbox
from claude_sandbox.demo.provider import ALLOWED, PROGRAM, Provider, settings
from claude_sandbox.install import applying
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import Manifest
from claude_sandbox.install.waiting import Say, wait

NAMESPACE = "claude-sandbox-demo"
NAME = "stand-in"
_PORT = 8080
_USER = 65532
_PATIENCE = 180.0
_SELECTOR = {"app.kubernetes.io/name": NAME}


def up(kubectl: Kubectl, image: str, say: Say) -> Provider:
    """Have it run, and say how gateways reach it. Raises SetupError where it does not run, or the namespace is
    somebody else's.
    """
    found = kubectl.get("namespace", NAMESPACE)
    if found is None:
        say("ANTHROPIC_API_KEY is not set, so a stand-in for the Claude API is started: it answers the same whatever")
        say("it is asked.")
    elif not sandbox.is_demos(found):
        raise SetupError(
            f"The namespace {NAMESPACE}, in which the stand-in for the Claude API would run, is not the demo's.",
            "Set ANTHROPIC_API_KEY, and no stand-in is needed; or delete the namespace.",
        )
    kubectl.apply([_namespace()])
    kubectl.apply([_policy(), _service(), _deployment(image)], force=True)
    if not wait(lambda: applying.rollout(kubectl, NAME, NAMESPACE), say, _PATIENCE):
        why = applying.rollout(kubectl, NAME, NAMESPACE)
        raise SetupError(
            f"The stand-in for the Claude API does not run after {_PATIENCE:.0f} s: {why}\n"
            f"{applying.troubles(kubectl, NAMESPACE)}",
            "Mend what is said above, and run the command again; or set ANTHROPIC_API_KEY, and none is needed.",
        )
    service = kubectl.get("service", NAME, NAMESPACE)
    assert service is not None  # noqa: S101 - it was applied a moment ago
    address: str = service["spec"]["clusterIP"]
    return Provider(True, ALLOWED, f"http://{ALLOWED}/", settings(f"http://{address}", address))


def down(kubectl: Kubectl, say: Say) -> bool:
    """Remove it; whether there was one. Raises SetupError."""
    if not sandbox.is_demos(kubectl.get("namespace", NAMESPACE)):
        return False
    say("Removing the stand-in for the Claude API.")
    kubectl.run("delete", "namespace", NAMESPACE, "--wait", timeout=300)
    return True


def _namespace() -> Manifest:
    labels = {sandbox.ENFORCE: "restricted", **sandbox.LABELS}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _policy() -> Manifest:
    gateways = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": sandbox.NAMESPACE}},
        "podSelector": {"matchLabels": {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(),
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [gateways], "ports": [{"protocol": "TCP", "port": _PORT}]}],
        },
    }


def _service() -> Manifest:
    ports = [{"name": "http", "port": 80, "targetPort": _PORT, "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "selector": _SELECTOR, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(), "spec": spec}


def _deployment(image: str) -> Manifest:
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # All addresses of the pod: the policy says who may connect.
        "command": [*PROGRAM, "", str(_PORT)],
        "ports": [{"name": "http", "containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
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
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    template = {"metadata": {"labels": _SELECTOR}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(),
        "spec": {"replicas": 1, "selector": {"matchLabels": _SELECTOR}, "template": template},
    }


def _metadata() -> Manifest:
    return {"name": NAME, "namespace": NAMESPACE, "labels": {**_SELECTOR, **sandbox.LABELS}}
