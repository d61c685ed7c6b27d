"""What is created: a sandbox, and a raw pod of the very spec that the operator gives a sandbox's pod."""

from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site

SECRET = "anthropic-api-key"
IMAGE = f"registry.example/claude-sandbox@sha256:{'a' * 64}"


MOUNTED, BROKERED = DELIVERIES = ("Mounted", "Brokered")
"""Who holds the key: the sandbox itself, or its gateway."""


def sandbox(namespace: str, name: str, delivery: str = MOUNTED) -> dict[str, Any]:
    """A minimal sandbox. Its workspace is an EmptyDir: nobody provides volumes to pretended nodes."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "credentials": {"apiKeySecretRef": {"name": SECRET}, "delivery": delivery},
            "workspace": {"type": "EmptyDir"},
        },
    }


def raw_pod(namespace: str, name: str) -> dict[str, Any]:
    """The floor: the same pod without an owner, an account of its own or anything else that the operator adds."""
    document = sandbox(namespace, name)
    blueprint = build(Identity(namespace, name, "none"), parse_spec(document), Site(parse_image(IMAGE, "IfNotPresent")))
    pod = objects.pod(blueprint, "1")
    pod["metadata"] = {"namespace": namespace, "name": name, "annotations": pod["metadata"]["annotations"]}
    pod["spec"]["serviceAccountName"] = "default"
    return pod


def is_ready(live: dict[str, Any]) -> bool:
    """Whether the condition Ready is True: of a pod and of a sandbox alike."""
    conditions = live.get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
