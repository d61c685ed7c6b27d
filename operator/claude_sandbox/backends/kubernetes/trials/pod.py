"""The pod in which another image is tried beside a sandbox, its policy, and what is seen of it. Pure."""

from collections.abc import Iterator

from claude_sandbox.api import meta
from claude_sandbox.backends.base import Trial
from claude_sandbox.backends.kubernetes import hardening, objects
from claude_sandbox.backends.kubernetes.objects import CONTAINER
from claude_sandbox.backends.kubernetes.ownership import owner_reference
from claude_sandbox.backends.kubernetes.tools import has_tools
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.blueprint.tools import NO_SHELL, UNUSABLE
from claude_sandbox.kubernetes_api.unstructured import Manifest, Object, annotations, terminating

_KEY = "api-key"
"""The volume of a sandbox's pod that it does not have."""
_EVERY = 5
_FROM_OUTSIDE = frozenset({137, 143})
"""Exit codes of what was killed, or told to end: by the time that it has, or with its node."""


def name_of(identity: Identity) -> str:
    """Of the pod and its policy: 60 characters at most."""
    return f"{meta.child_name(identity.name)}-canary"


def network_policy(identity: Identity) -> Manifest:
    """Nothing in, and nothing out."""
    return hardening.network_policy(_metadata(identity), {"matchLabels": {meta.LABEL_CANARY_UID: identity.uid}})


def pod(canary: Blueprint, seconds: int, *, image_volumes: bool) -> Manifest:
    """As a sandbox's, without its key. It lasts so many seconds at most, and is never started again.

    It is asked whether it is ready, and by no probe with which the kubelet would end it: whoever was killed by a probe
    can't be told from whoever was killed from outside.
    """
    found = objects.pod(canary, None, image_volumes=image_volumes)
    spec = found["spec"]
    (container,) = spec["containers"]
    kept = {name: value for name, value in container.items() if name not in ("startupProbe", "livenessProbe")}
    asked = {**container["readinessProbe"], "periodSeconds": _EVERY}
    mounts = [one for one in container["volumeMounts"] if one["name"] != _KEY]
    # It was not made from the spec as that stands, and so does not say so.
    settings = {name: text for name, text in annotations(found).items() if name != meta.ANNOTATION_SPEC_HASH}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**_metadata(canary.identity), "annotations": settings},
        "spec": {
            **spec,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "containers": [{**kept, "readinessProbe": asked, "volumeMounts": mounts}],
            "volumes": [one for one in spec["volumes"] if one["name"] != _KEY],
            "dnsPolicy": "None",
            # Nothing is to be looked up: it may connect nowhere.
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
        },
    }


def image_of(live: Object) -> str:
    """Which image is tried in it."""
    containers = (live.get("spec") or {}).get("containers") or ()
    return next((str(one.get("image")) for one in containers if one.get("name") == CONTAINER), "")


def trial_of(live: Object) -> Trial:
    """What is seen of it. Of one that was ended from outside, which says nothing of its image, nothing."""
    uid, status = str(live["metadata"]["uid"]), live.get("status") or {}
    if terminating(live):
        return Trial()
    if status.get("phase") in ("Failed", "Succeeded"):
        return next(_ended(live, uid), Trial())
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if (conditions.get("PodScheduled") or {}).get("reason") == "Unschedulable":
        return Trial(uid, no_room=f"No node takes its pod: {conditions['PodScheduled'].get('message')}")
    if (conditions.get("Ready") or {}).get("status") == "True":
        return Trial(uid, ready=True)
    return Trial(uid, message=next(_waiting(status), "Claude Code does not answer in it"))


def _ended(live: Object, uid: str) -> Iterator[Trial]:
    """Of containers that ended badly by themselves."""
    status = live.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ended = (one.get("state") or {}).get("terminated") or {}
        code = ended.get("exitCode")
        # Before its code, which is that of one that was killed from outside.
        if ended.get("reason") == "OOMKilled":
            yield Trial(uid, failed="it needed more memory than spec.resources.memory")
        if not ended or code in _FROM_OUTSIDE or (one.get("name") != CONTAINER and code == 0):
            continue
        if code == NO_SHELL and has_tools(live):
            yield Trial(uid, failed=UNUSABLE.format(image=one.get("image")))
        yield Trial(uid, failed=f"it ended with exit code {code}")


def _waiting(status: Object) -> Iterator[str]:
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            yield f"{waiting.get('reason')}: {waiting['message']}"


def _metadata(identity: Identity) -> Manifest:
    return {
        "name": name_of(identity),
        "namespace": identity.namespace,
        "labels": {
            meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
            meta.LABEL_COMPONENT: meta.COMPONENT_CANARY,
            meta.LABEL_CANARY_UID: identity.uid,
        },
        "ownerReferences": [owner_reference(identity)],
    }
