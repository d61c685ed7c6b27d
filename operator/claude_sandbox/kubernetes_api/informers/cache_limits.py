"""How much of one kind of object a namespace may have kept.

What is more is known of only: a stub stands for it, which says in `outsize` why. Nothing that is measured takes a stub
for the object: controls that need it fail, or are Unknown, and say so.

Theory of operation. It holds the size of each object that arrived last under each key, and the sums by namespace; each
sum is that of its sizes. A size is noted when the object arrives, before it is known whether it will be held: what is
older than what is held, or of a list that breaks off, is counted too, until the next complete list says which keys are
held (`retain`). While a list is read, what is gone still counts; so an object may be a stub that need not be, and the
next list takes it anew. Used by one informer, from the event loop. A crash loses all.

Sizes are of the object as JSON; in memory it is three to six times as much.
"""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from claude_sandbox.api import meta
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.informers.store import Key, Obj, key_of
from claude_sandbox.kubernetes_api.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    NETWORK_POLICIES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SANDBOXES,
    Resource,
)

KIB, MIB = 1024, 1024 * 1024
_LABELS = (meta.LABEL_SANDBOX, meta.LABEL_SANDBOX_UID, meta.LABEL_COMPONENT, meta.LABEL_MANAGED_BY)
_FINALIZERS = 16
# What is needed to find what a sandbox has, and to remove it. With it nothing new is made.
_OF_SANDBOXES = {
    "spec": ("backend", "workspace", "credentials", "resources", "network", "operatingMode"),
    "status": ("placement", "workload", "conditions", "observedGeneration"),
}
_STUB_PART = 16 * KIB
_TOO_DEEP = 1 << 40
_STUB_SELECTOR = 4 * KIB
"""Bytes of a policy's `podSelector` up to which its stub has it, so that it still selects what it selects."""


@dataclass(frozen=True)
class CacheLimit:
    """In bytes."""

    object: int = 128 * KIB
    namespace: int = 8 * MIB


LIMITS: Mapping[Resource, CacheLimit] = {
    # With its status it has up to 10 KiB, and there may be thousands.
    PODS: CacheLimit(namespace=32 * MIB),
    # The longest spec that is valid has 65,536 characters and some more, of four bytes at most.
    SANDBOXES: CacheLimit(object=512 * KIB, namespace=16 * MIB),
    # Up to a thousand subjects are kept of one (compliance/pods/grants.py).
    ROLE_BINDINGS: CacheLimit(object=512 * KIB),
    CLUSTER_ROLE_BINDINGS: CacheLimit(object=512 * KIB),
}
"""Where it is not the usual."""
GATEWAY_PODS = CacheLimit(object=32 * KIB, namespace=512 * KIB)
"""Of pods with the labels of a gateway: it has two, and for a while those that were replaced, each of some 10 KiB."""


class CacheLimits:
    """Of one kind, in all namespaces."""

    def __init__(self, resource: Resource, limit: CacheLimit | None = None) -> None:
        self._resource = resource
        self._ration = limit or LIMITS.get(resource, CacheLimit())
        self._sizes: dict[Key, int] = {}
        self._sums: Counter[str] = Counter()

    def admit(self, obj: Obj) -> Obj:
        """The object, or its stub where it or its namespace has too much."""
        key = key_of(obj)
        size = _size(obj)
        # Without its own earlier size: an update takes no more than the difference.
        others = self._sums[key[0]] - self._sizes.get(key, 0)
        why = ""
        if size > self._ration.object:
            why = f"it has {size // KIB} KiB, and {self._ration.object // KIB} are kept of one"
        elif key[0] and others + size > self._ration.namespace:
            # Objects of the cluster are its administrators'; there is no sum for them.
            why = f"the namespace has more than {self._ration.namespace // MIB} MiB of {self._resource}"
        if why:
            obj = self._stub(obj, why)
            size = _size(obj)
        self._sums[key[0]] = others + size
        self._sizes[key] = size
        return obj

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._sums[key[0]] -= self._sizes.pop(key, 0)
        if not self._sums[key[0]]:
            del self._sums[key[0]]

    def retain(self, held: Container[Key]) -> None:
        """Forget all that is not held: what a list brought that was never put anywhere, since it failed half-way."""
        for key in [key for key in self._sizes if key not in held]:
            self.forget(key)

    def size(self, key: Key) -> int:
        """Of one object, 0 where there is none."""
        return self._sizes.get(key, 0)

    def sum(self, namespace: str) -> int:
        """Of all that is kept of a namespace."""
        return self._sums.get(namespace, 0)

    def _stub(self, obj: Obj, why: str) -> Obj:
        # Names, UIDs and times: the API server bounds them.
        metadata = {name: value for name, value in obj["metadata"].items() if not isinstance(value, dict | list)}
        stub: Obj = {"metadata": metadata, OUTSIZE: why} | {n: obj[n] for n in ("apiVersion", "kind") if n in obj}
        if finalizers := obj["metadata"].get("finalizers"):
            # Who has more loses the others should the operator write this list: they are the sandbox's owner's own.
            metadata["finalizers"] = [one for one in finalizers if one == meta.FINALIZER] or finalizers[:_FINALIZERS]
        labels = obj["metadata"].get("labels") or {}
        metadata["labels"] = {name: labels[name] for name in _LABELS if name in labels}
        if owners := (obj["metadata"].get("ownerReferences") or ())[:1]:
            metadata["ownerReferences"] = list(owners)
        return stub | _instead(self._resource, obj)


def _instead(resource: Resource, obj: Obj) -> Obj:
    """What stands for the rest of it: nothing, or what is the worst that it could be."""
    if resource is PODS:
        status = obj.get("status") or {}
        return {"spec": {}, "status": {name: status[name] for name in ("phase",) if name in status}}
    if resource in (ROLES, CLUSTER_ROLES):
        return {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    if resource in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
        return {"roleRef": obj.get("roleRef"), "subjects": [{"kind": "Group", "name": "system:authenticated"}]}
    if resource is SANDBOXES:
        return {part: _small(obj.get(part) or {}, names) for part, names in _OF_SANDBOXES.items()}
    selector = (obj.get("spec") or {}).get("podSelector")
    if resource is NETWORK_POLICIES and _size(selector) <= _STUB_SELECTOR:
        return {"spec": {"podSelector": selector}}
    return {"spec": {}}


def _small(part: Obj, names: tuple[str, ...]) -> Obj:
    return {name: part[name] for name in names if name in part and _size(part[name]) <= _STUB_PART}


def _size(value: Any) -> int:
    """In bytes of JSON; what is nested too deeply to be written is too large."""
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return _TOO_DEEP
