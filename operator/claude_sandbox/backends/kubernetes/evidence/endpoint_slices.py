"""Which pods an EndpointSlice leads to: by their addresses, and by name. Pure."""

from collections.abc import Hashable, Iterator

from claude_sandbox.compliance.evidence.pods import SLICE_OF
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.unstructured import Object


def addresses_of(pod: Object) -> tuple[str, ...]:
    """The addresses that a pod has now."""
    return tuple(str(one["ip"]) for one in (pod.get("status") or {}).get("podIPs") or () if one.get("ip"))


def endpoints_of(one: Object) -> Iterator[Hashable]:
    """Addresses, and the namespaces and names of pods; for a slice that is too large to be kept `outsize_in`."""
    namespace = one["metadata"]["namespace"]
    if OUTSIZE in one:
        yield outsize_in(namespace)
    for endpoint in one.get("endpoints") or ():
        yield from endpoint.get("addresses") or ()
        target = endpoint.get("targetRef") or {}
        if target.get("kind") == "Pod" and target.get("name"):
            yield target.get("namespace") or namespace, target["name"]


def services_of(one: Object) -> Iterator[tuple[str, ...]]:
    """The namespace and the name of the Service that a slice is of; for one that is too large `outsize_in`."""
    namespace = one["metadata"]["namespace"]
    if OUTSIZE in one:
        yield outsize_in(namespace)
    if service := (one["metadata"].get("labels") or {}).get(SLICE_OF):
        yield namespace, service


def outsize_in(namespace: str) -> tuple[str, ...]:
    """Stands for all pods, and all Services, of a namespace."""
    return namespace, OUTSIZE, ""
