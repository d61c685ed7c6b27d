"""Whether the Secrets that a sandbox names may be used by it. Pure: told what was seen, never a Secret's data."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Failure, KeyState
from claude_sandbox.kubernetes_api.unstructured import annotations, data_changed_at, labels

Metadata = Mapping[str, Any]
"""A Secret, or only its metadata."""


def has_opted_in(secret: Metadata) -> bool:
    """Whether a Secret says by its label, or by its type, that sandboxes may use it; of mere metadata, by its label."""
    by_label = labels(secret).get(meta.LABEL_SECRET_OPT_IN) == meta.LABEL_SECRET_OPT_IN_VALUE
    return by_label or secret.get("type") == meta.SECRET_TYPE


def opted_in(secret: Metadata) -> KeyState:
    """A Secret that opted in; its resourceVersion is the generation."""
    changed = data_changed_at(secret)
    return KeyState(
        generation=str(secret["metadata"]["resourceVersion"]),
        changed=None if changed is None else datetime.fromisoformat(changed),
    )


def not_opted_in(namespace: str, name: str) -> KeyState:
    """The Secret is there, but nobody said that sandboxes may use it."""
    message = (
        f"Secret {namespace}/{name} has not opted in to being used by sandboxes. "
        f"Make it with `kubectl create secret generic {name} --type={meta.SECRET_TYPE} --from-file=…`, or label it: "
        f"`kubectl label secret -n {namespace} {name} {meta.LABEL_SECRET_OPT_IN}={meta.LABEL_SECRET_OPT_IN_VALUE}`. "
        "Until then no sandbox runs with it."
    )
    return KeyState(problem=Reason.SECRET_NOT_OPTED_IN, message=message, followed=False, withdrawn=True)


def not_found(namespace: str, name: str, key: str) -> KeyState:
    """There is no such Secret yet; the workload waits for it."""
    message = (
        f"There is no Secret {namespace}/{name} yet. Make it with `kubectl create secret generic -n {namespace} "
        f"{name} --type={meta.SECRET_TYPE} --from-file={key}`, where {key} is the file that holds it; "
        "the sandbox starts by itself."
    )
    return KeyState(problem=Reason.SECRET_NOT_FOUND, message=message, followed=False, withdrawn=True)


def refused_pull_secrets(
    names: Iterable[str], namespace: str, sandbox: str, live: Mapping[str, Any] | None
) -> Failure | None:
    """Why not all of these Secrets may be used to pull images with; None where they may.

    The namespace's annotation names those that may, wherever the operator may look at Secrets or not: their type is the
    registry's login, so that it can't say that they opted in, and a label would be a request for each.
    `live`: the Namespace; None where it could not be read, in which case none may be used.
    """
    listed = _listed(live, meta.ANNOTATION_NAMESPACE_PULL_SECRETS)
    refused = [name for name in names if name not in listed]
    if not refused:
        return None
    both = ",".join([*listed, *refused])
    message = (
        f"Nobody has said that images of sandboxes may be pulled with Secret {', '.join(refused)}. An administrator "
        f"allows it: `kubectl annotate --overwrite namespace {namespace} "
        f"{meta.ANNOTATION_NAMESPACE_PULL_SECRETS}={both}`; or adds it to the imagePullSecrets of ServiceAccount "
        f"{meta.child_name(sandbox)}, and spec.image.pullSecretRefs is left out. Until then no pod is made."
    )
    return Failure(Reason.PULL_SECRET_NOT_ALLOWED, message, permanent=True)


def _listed(live: Mapping[str, Any] | None, annotation: str) -> list[str]:
    """The names in an annotation of a namespace, comma-separated, each once."""
    text = annotations(live).get(annotation, "") if live is not None else ""
    return list(dict.fromkeys(filter(None, (item.strip() for item in text.split(",")))))


def by_namespace(namespace: str, name: str, live: Mapping[str, Any] | None, *, certain: bool = False) -> KeyState:
    """Where the operator may not look at Secrets: the namespace's annotation names those that opted in.

    `certain`: that one which is not named was not meant to be used, and is not one of which the operator merely lost
    sight.
    """
    if name in _listed(live, meta.ANNOTATION_NAMESPACE_SECRETS):
        return KeyState()
    message = (
        f"The operator may not look at Secrets, so an administrator has to say that sandboxes may use {name}: "
        f"`kubectl annotate namespace {namespace} {meta.ANNOTATION_NAMESPACE_SECRETS}={name}` (comma-separated)."
    )
    withdrawn = certain and live is not None
    return KeyState(problem=Reason.SECRET_NOT_OPTED_IN, message=message, withdrawn=withdrawn)
