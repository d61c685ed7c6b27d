"""What is known of a namespace's gateway, in the terms in which compliance is judged. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.gateway.objects import (
    BROKER_PORT,
    CONTAINER,
    PROXY_PORT,
    SELECTOR,
    Brokering,
    Wish,
)
from claude_sandbox.backends.kubernetes.gateway.plan import desired
from claude_sandbox.backends.kubernetes.gateway.rollout import is_rolling
from claude_sandbox.backends.kubernetes.ownership import is_gateways
from claude_sandbox.compliance.evidence.gateways import MOST_REPLICAS, Gateway, Meant, Replica
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.unstructured import Object, annotations, labels, terminating

_REVISION = "pod-template-hash"
"""The label by which a Deployment tells the pods of one revision from those of another."""
_ENDED = ("Succeeded", "Failed")
"""Phases of pods of which nothing runs any more: they stay until they are collected."""


@dataclass(frozen=True)
class Read:
    """What was read beside the objects under the gateway's name; what could not be, says why."""

    pods: tuple[Object, ...] | str
    """Those with its labels, whoever made them."""
    policies: tuple[Object, ...] | str
    services: tuple[Object, ...] | str
    slices: tuple[Object, ...] | str
    grants: tuple[Grant, ...] | str


def gateway_of(
    wish: Wish,
    given: Brokering,
    readable: frozenset[str],
    objects: Mapping[str, Object],
    read: Read,
    *,
    authority: str | None = None,
    minor: int,
    doubts: tuple[str, ...] = (),
) -> Gateway:
    """A namespace's gateway, compared with what is wished.

    `readable`: the Secrets that sandboxes of the namespace name. `objects`: those under its name, by kind.
    """
    wanted = desired(wish, given)
    return Gateway(
        namespace=wish.namespace,
        meant=_meant(wish, given, readable, wanted),
        objects=objects,
        differences=tuple(_differences(wanted, objects)),
        replicas=read.pods if isinstance(read.pods, str) else tuple(_replicas(wanted, objects, read.pods)),
        policies=read.policies,
        services=read.services,
        slices=read.slices,
        grants=read.grants,
        authority=authority,
        minor=minor,
        doubts=doubts,
    )


def _meant(wish: Wish, given: Brokering, readable: frozenset[str], wanted: Mapping[str, Object]) -> Meant:
    assert given.image is not None  # noqa: S101 - without an image there is no gateway
    return Meant(
        name=meta.GATEWAY,
        labels=SELECTOR,
        container=CONTAINER,
        image=given.image.reference,
        ports=(BROKER_PORT, PROXY_PORT),
        mounted=frozenset({meta.GATEWAY_TLS, *(wish.secrets if wish.mounted else ())}),
        readable=readable,
        policy=wanted["NetworkPolicy"],
    )


def _differences(wanted: Mapping[str, Object], objects: Mapping[str, Object]) -> Iterator[str]:
    for kind, manifest in wanted.items():
        live = objects.get(kind)
        if live is None:
            yield f"{kind} {meta.GATEWAY} is missing"
        elif not is_gateways(live):
            yield f"{kind} {meta.GATEWAY} is not the operator's"
        elif OUTSIZE in live:
            yield f"{kind} {meta.GATEWAY} is too large to be looked at"
        else:
            yield from (f"{kind}: {path}" for path in drift.DIFFER[kind](manifest, live))


def _replicas(wanted: Mapping[str, Object], objects: Mapping[str, Object], pods: Iterable[Object]) -> Iterator[Replica]:
    """Those that run; of more than are looked at, one more."""
    template, rolling = wanted["Deployment"]["spec"]["template"], is_rolling(objects.get("Deployment"))
    running = [one for one in pods if (one.get("status") or {}).get("phase") not in _ENDED]
    # By name: in whatever order they became known, what is said of them is the same.
    running.sort(key=lambda one: str(one["metadata"]["name"]))
    yield from (_replica(template, one, rolling=rolling) for one in islice(running, MOST_REPLICAS + 1))


def _replica(template: Object, pod: Object, *, rolling: bool) -> Replica:
    """A pod with the gateway's labels, compared with what its Deployment should make."""
    # Only a stub of it is held, which can't be compared.
    if OUTSIZE in pod:
        return Replica(pod)
    wanted = template["metadata"]
    # Which certificate it began with says nothing of what it is.
    notes = {key: one for key, one in wanted["annotations"].items() if key != meta.ANNOTATION_GATEWAY_CERTIFICATE}
    found = [
        *drift.differences(notes, annotations(pod), "metadata.annotations"),
        *drift.differences(wanted["labels"], labels(pod), "metadata.labels"),
        *drift.pod_differences(template, pod),
    ]
    # With both labels it would be a sandbox and its gateway in one: policies that are for the one are for the other.
    if meta.LABEL_SANDBOX in labels(pod):
        found.append(f"metadata.labels.{meta.LABEL_SANDBOX}")
    if not (owned := _is_a_deployments(pod)):
        found.append("metadata.ownerReferences")
    return Replica(pod, tuple(found), owned and (terminating(pod) or rolling))


def _is_a_deployments(pod: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    revision = labels(pod).get(_REVISION)
    return any(
        one.get("kind") == "ReplicaSet" and one.get("controller") and one.get("name") == f"{meta.GATEWAY}-{revision}"
        for one in owners
    )
