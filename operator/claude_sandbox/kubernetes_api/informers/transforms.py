"""What is kept of the objects that are followed: what something here reads, and nothing else.

Whoever may write any object of a followed kind would else decide how much memory the operator takes. So a projection is
declared for each kind; an informer applies it to each object as it arrives, before anybody sees it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.compliance.evidence.pods import CLOUD_IDENTITIES, SLICE_MANAGER, SLICE_OF
from claude_sandbox.kubernetes_api.informers.store import Obj
from claude_sandbox.kubernetes_api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    ENDPOINT_SLICES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    ROLES,
    SANDBOXES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    USAGES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import DATA_CHANGED_AT, data_changed_at, last_writers

_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
)
_OURS = (f"{meta.GROUP}/", meta.LABEL_MANAGED_BY)
_RESERVED = (f"{meta.GROUP}/",)
_OWNERS = 16
"""Owners that are kept, of those that are controllers or sandboxes: an object has one of each."""


_REPORTS = 16
"""Gateways of a sandbox whose reports are kept: it has two, and during a rollout four."""


@dataclass(frozen=True)
class Projection:
    """What is kept of a kind. Names of labels and annotations are given by how they begin; "" is all of them."""

    fields: tuple[str, ...] = ()
    """Those beside the metadata that are kept whole."""
    labels: tuple[str, ...] = _OURS
    annotations: tuple[str, ...] = _OURS
    finalizers: bool = False
    author: bool = False
    """Who wrote it last, beside its subresources: the managedFields of the newest second, without their fields."""
    reduce: Callable[[Obj], None] = lambda _: None
    """Changes what is left, in place."""
    data_changed: bool = False
    """Whether it is kept when the object's data was written last, which is all that is kept of managedFields."""

    def __call__(self, obj: Obj) -> Obj:
        """A new object with what is kept of `obj`."""
        metadata = obj["metadata"]
        kept = {name: metadata[name] for name in _METADATA if name in metadata}
        for part, beginnings in (("labels", self.labels), ("annotations", self.annotations)):
            if found := _named(metadata.get(part) or {}, beginnings):
                kept[part] = found
        if owners := [one for one in metadata.get("ownerReferences") or () if _matters(one)]:
            kept["ownerReferences"] = owners[:_OWNERS]
        if self.finalizers and "finalizers" in metadata:
            kept["finalizers"] = metadata["finalizers"]
        if self.author and (authors := last_writers(metadata)):
            kept["managedFields"] = authors
        left: Obj = {name: obj[name] for name in ("apiVersion", "kind") if name in obj} | {"metadata": kept}
        left |= {name: obj[name] for name in self.fields if name in obj}
        if self.data_changed and (at := data_changed_at(obj)) is not None:
            left[DATA_CHANGED_AT] = at
        self.reduce(left)
        return left


def _named(given: Mapping[str, str], beginnings: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name.startswith(beginnings)}


def _matters(owner: Mapping[str, Any]) -> bool:
    return bool(owner.get("controller")) or owner.get("kind") == meta.KIND


def _endpoints(obj: Obj) -> None:
    """Which address and which pod each endpoint is. Of several addresses only the first is ever used."""
    obj["endpoints"] = [
        {"addresses": (one.get("addresses") or [])[:1], "targetRef": _target(one.get("targetRef") or {})}
        for one in obj.get("endpoints") or ()
    ]


def _target(reference: Mapping[str, Any]) -> dict[str, Any]:
    return {name: reference[name] for name in ("kind", "namespace", "name") if name in reference}


def _reports(obj: Obj) -> None:
    """What gateways report; nothing of an account, should somebody put the label on one."""
    given = (obj.get("spec") or {}).get("reports") or {}
    obj["spec"] = {"reports": dict(sorted(given.items())[:_REPORTS])}


PROJECTIONS: Mapping[Resource, Projection] = {
    # The labels of pods are what policies and Services select by; of annotations Pod Security has an opinion.
    PODS: Projection(
        ("spec", "status"),
        labels=("",),
        annotations=(
            *_OURS,
            # They choose the networks of a pod: a probe has to be on the same.
            "k8s.v1.cni.cncf.io/networks",
            "v1.multus-cni.io/default-network",
            "container.apparmor.security.beta.kubernetes.io/",
            "container.seccomp.security.alpha.kubernetes.io/",
            "seccomp.security.alpha.kubernetes.io/",
        ),
    ),
    SERVICE_ACCOUNTS: Projection(("automountServiceAccountToken",), annotations=(*_OURS, *CLOUD_IDENTITIES)),
    PERSISTENT_VOLUME_CLAIMS: Projection(("spec", "status")),
    NETWORK_POLICIES: Projection(("spec",)),
    # Of gateways: whoever may write one with their label.
    DEPLOYMENTS: Projection(("spec", "status")),
    DISRUPTION_BUDGETS: Projection(("spec",)),
    ROLES: Projection(("rules",)),
    ROLE_BINDINGS: Projection(("roleRef", "subjects")),
    SERVICES: Projection(("spec",)),
    ENDPOINT_SLICES: Projection(("endpoints",), labels=(SLICE_OF, SLICE_MANAGER), annotations=(), reduce=_endpoints),
    RESOURCE_QUOTAS: Projection(("spec",)),
    LIMIT_RANGES: Projection(("spec",)),
    NAMESPACES: Projection((), labels=("",)),
    # Labels and annotations of the operator's own are refused.
    SANDBOXES: Projection(("spec", "status"), labels=_RESERVED, annotations=_RESERVED, finalizers=True, author=True),
    USAGES: Projection(("spec",), annotations=(), reduce=_reports),
    # Those that opted in. `kubectl apply` leaves a copy of the data in an annotation.
    CONFIG_MAPS: Projection(("data",), labels=(meta.LABEL_CLAUDE_CODE,), annotations=()),
    SECRETS: Projection(
        (),
        labels=(meta.LABEL_SECRET_OPT_IN, meta.GIT_SECRET_TYPE, meta.SERVICE_SECRET_TYPE),
        annotations=(),
        data_changed=True,
    ),
}
"""By kind. A Secret's data isn't asked for, but `kubectl apply` leaves a copy of it in an annotation."""
