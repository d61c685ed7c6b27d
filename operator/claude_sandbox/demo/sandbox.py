"""The demo's own namespace, Secret and sandbox."""

import base64
from collections.abc import Callable
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.demo import report
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import Manifest
from claude_sandbox.install.waiting import Say, wait

NAMESPACE = "agents"
NAME = "alice"
SECRET = "anthropic-api-key"
KEY = "api-key"
# On everything that the demo made, so that it removes nothing else.
LABELS = {"app.kubernetes.io/part-of": "claude-sandbox-demo"}

_ENFORCE = "pod-security.kubernetes.io/enforce"
_PATIENCE = 300.0
_PLACEHOLDER = "placeholder-this-is-not-a-key"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def is_demos(manifest: Manifest | None) -> bool:
    """Whether the demo made it."""
    labels = manifest["metadata"].get("labels") or {} if manifest else {}
    return LABELS.items() <= labels.items()


def namespace(kubectl: Kubectl, say: Say) -> None:
    """A namespace in which the API server refuses pods that are not restricted. Another's is left as it is."""
    found = kubectl.get("namespace", NAMESPACE)
    if found is not None and not is_demos(found):
        say(f"The namespace {NAMESPACE} is there already, and is left as it is.")
        return
    labels = {_ENFORCE: "restricted", **LABELS}
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])


def secret(kubectl: Kubectl, key: str | None, say: Say) -> None:
    """The Secret with the API key, or with a placeholder where there is none yet. The key is never printed."""
    # Names only: what a Secret holds is not for a process that needn't know it.
    exists = kubectl.run(
        "get", "secret", SECRET, "--namespace", NAMESPACE, "--ignore-not-found", "--output=name"
    ).strip()
    if key:
        say(f"The Secret {SECRET} holds the key of ANTHROPIC_API_KEY.")
    elif exists:
        say(f"The Secret {SECRET} is there already, and is left as it is.")
        return
    else:
        say(f"ANTHROPIC_API_KEY is not set: the Secret {SECRET} holds a placeholder, which the Claude API does not")
        say("take. Set it and run this again, and the key takes its place.")
    data = base64.b64encode((key or _PLACEHOLDER).encode()).decode()
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE, "labels": LABELS},
        "type": meta.SECRET_TYPE,
        "data": {KEY: data},
    }
    try:
        kubectl.apply([manifest], force=True)
    except SetupError as error:
        # A refusal may repeat what was refused.
        message = error.message.replace(data, "…").replace(key or _PLACEHOLDER, "…")
        raise SetupError(message, error.remedy, error.logs) from None


def sandbox(kubectl: Kubectl, say: Say) -> None:
    """The smallest ClaudeSandbox; with a workspace that needs no storage where the cluster has none to give."""
    spec: dict[str, Any] = {"credentials": {"apiKeySecretRef": {"name": SECRET, "key": KEY}}}
    if not any(_is_default(one) for one in kubectl.list("storageclasses")):
        say("The cluster has no default StorageClass, so the workspace is an EmptyDir and ends with its pod.")
        spec["workspace"] = {"type": "EmptyDir"}
    _apply(kubectl, spec)


def on_docker(kubectl: Kubectl, domains: tuple[str, ...]) -> None:
    """A ClaudeSandbox that is a container of a Docker host and holds no key; its gateway lets it out to the names."""
    spec: dict[str, Any] = {
        "backend": {"type": "Docker"},
        "credentials": {"apiKeySecretRef": {"name": SECRET, "key": KEY}, "delivery": "Brokered"},
        "network": {"egress": {"allowedDomains": list(domains)}},
    }
    _apply(kubectl, spec)


def await_ready(kubectl: Kubectl, say: Say, troubles: Callable[[], str], logs: tuple[str, ...]) -> None:
    """Wait until the sandbox is Ready and Compliant. Raises SetupError where that takes too long.

    `troubles` says what else is in the way, empty where nothing is known; `logs` are commands or files that tell more.
    """

    def look() -> str | None:
        state = report.progress(kubectl.get(meta.PLURAL, NAME, NAMESPACE))
        why = troubles() if state is not None else ""
        return f"{state}\n{why}" if why else state

    if not wait(look, say, _PATIENCE):
        raise SetupError(
            f"The sandbox is not Ready and Compliant after {_PATIENCE:.0f} s. {look()}",
            "Mend what is said above, and run the command again.",
            logs,
        )


def _apply(kubectl: Kubectl, spec: dict[str, Any]) -> None:
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": LABELS}
    kubectl.apply([{"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": metadata, "spec": spec}])


def remove(kubectl: Kubectl, say: Say) -> None:
    """What the demo made, as far as it is the demo's; the workspace goes with the namespace."""
    ours = kubectl.get(meta.PLURAL, NAME, NAMESPACE) if kubectl.get("crd", f"{meta.PLURAL}.{meta.GROUP}") else None
    if ours is not None and is_demos(ours):
        say(f"Removing the sandbox {NAME}.")
        kubectl.run("delete", meta.PLURAL, NAME, "--namespace", NAMESPACE, "--wait", timeout=180)
    found = kubectl.get("namespace", NAMESPACE)
    if is_demos(found):
        say(f"Removing the namespace {NAMESPACE}, with all that is in it.")
        kubectl.run("delete", "namespace", NAMESPACE, "--wait", timeout=300)
    elif found is not None:
        say(f"The namespace {NAMESPACE} was there before, so it stays, as does the workspace of {NAME} in it.")
        selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
        kubectl.run("delete", "secrets", "--namespace", NAMESPACE, f"--selector={selector}")


def _is_default(storage_class: Manifest) -> bool:
    return (storage_class["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
