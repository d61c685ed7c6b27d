"""The demo's own namespace, Secret and sandbox."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.demo import report
from claude_sandbox.demo.work.repository import GitServer
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

ENFORCE = "pod-security.kubernetes.io/enforce"
PLACEHOLDER = "placeholder-this-is-not-a-key"
# On the Secret as long as no key was ever in it.
_NO_KEY = {"app.kubernetes.io/component": "placeholder"}
_PATIENCE = 300.0
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
    labels = {ENFORCE: "restricted", **LABELS}
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])


def has_key(kubectl: Kubectl) -> bool:
    """Whether the Secret is there, and may hold a key: what it holds then goes to the Claude API and to nobody else."""
    return _secrets(kubectl) and not _secrets(kubectl, {**LABELS, **_NO_KEY})


def _secrets(kubectl: Kubectl, labels: Mapping[str, str] | None = None) -> bool:
    # Names only: what a Secret holds is not for a process that needn't know it.
    selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
    found = kubectl.run("get", "secrets", "--namespace", NAMESPACE, f"--selector={selector}", "--output=name")
    return f"secret/{SECRET}" in found.split()


def secret(kubectl: Kubectl, key: str | None, say: Say) -> None:
    """The Secret with the API key, or with a placeholder where there is none yet. The key is never printed."""
    exists = _secrets(kubectl)
    if key:
        say(f"The Secret {SECRET} holds the key of ANTHROPIC_API_KEY.")
    elif exists:
        say(f"The Secret {SECRET} is there already, and is left as it is.")
        return
    else:
        say(f"ANTHROPIC_API_KEY is not set: the Secret {SECRET} holds a placeholder, which the Claude API does not")
        say("take. Set it and run this again, and the key takes its place.")
    data = base64.b64encode((key or PLACEHOLDER).encode()).decode()
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE, "labels": LABELS if key else {**LABELS, **_NO_KEY}},
        "type": meta.SECRET_TYPE,
        "data": {KEY: data},
    }
    try:
        kubectl.apply([manifest], force=True)
    except SetupError as error:
        # A refusal may repeat what was refused.
        message = error.message.replace(data, "…").replace(key or PLACEHOLDER, "…")
        raise SetupError(message, error.remedy, error.logs) from None


def git_secret(kubectl: Kubectl, server: GitServer) -> None:
    """The Secret with the token of the demo's git server."""
    kubectl.apply([server.secret(NAMESPACE, LABELS)], force=True)


def sandbox(kubectl: Kubectl, domain: str, server: GitServer | None, say: Say) -> None:
    """A ClaudeSandbox whose gateway lets it out to the one name, with a repository of the server; with a workspace that
    needs no storage where the cluster has none to give.
    """
    spec = _spec(domain, server)
    if not any(_is_default(one) for one in kubectl.list("storageclasses")):
        say("The cluster has no default StorageClass, so the workspace is an EmptyDir and ends with its pod.")
        spec["workspace"] = {"type": "EmptyDir"}
    _apply(kubectl, spec)


def on_docker(kubectl: Kubectl, domain: str, server: GitServer | None) -> None:
    """The same as a container of a Docker host."""
    _apply(kubectl, {"backend": {"type": "Docker"}, **_spec(domain, server)})


def _spec(domain: str, server: GitServer | None) -> dict[str, Any]:
    """It holds no key and no token: its gateway does."""
    return {
        **({"repositories": server.declared} if server is not None else {}),
        "credentials": {"apiKeySecretRef": {"name": SECRET, "key": KEY}, "delivery": "Brokered"},
        "network": {"egress": {"allowedDomains": [domain]}},
        # Of a demo that an earlier version made: a pod or container that it made is not as this one wants it.
        "updateStrategy": {"type": "Recreate"},
    }


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
