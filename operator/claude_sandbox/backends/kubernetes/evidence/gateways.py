"""The gateway of each namespace as the watches have it, for the controls of its sandboxes.

Theory of operation. It holds for each namespace the evidence that was put together last and the versions of all that it
was made of, so that the sandboxes of a namespace share one, and what is found of it is found once. It is made anew when
any of them has changed. How much there may be is bounded by what informers keep of a namespace; what is judged of it,
by the controls. Used from the event loop, by the passes. A crash forgets, and the next pass makes it again.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from claude_sandbox.api import meta
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.gateway import evidence
from claude_sandbox.backends.kubernetes.gateway.gateways import Gateways, Wanted
from claude_sandbox.backends.kubernetes.gateway.objects import SELECTOR, Brokering
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.readings import Object, Reading, Unread
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.resources import DEPLOYMENTS, NETWORK_POLICIES, PODS, SERVICES, Resource
from claude_sandbox.kubernetes_api.unstructured import labels

Seen = tuple[tuple[Object, ...] | str, Informer]


class GatewayEvidence:
    """Of all namespaces of one cluster. `named`: of a namespace the Secrets that its sandboxes name for their gateway,
    whether they opted in or not."""

    def __init__(self, watches: Watches, gateways: Gateways, given: Brokering, named: Wanted, minor: int) -> None:
        self._watches = watches
        self._gateways = gateways
        self._given = given
        self._named = named
        self._minor = minor
        self._last: dict[str, tuple[object, Gateway]] = {}

    def of(self, namespace: str) -> Reading[Gateway | None] | Unread:
        """The gateway as last seen; Unread where it was not looked at yet, or must not be looked at, and where that
        raises, whatever it raises: pods with its labels are anybody's."""
        try:
            return self._of(namespace)
        except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
            return Unread(mishap(error))

    def _of(self, namespace: str) -> Reading[Gateway | None] | Unread:
        if self._given.image is None:
            return Unread("this operator starts no gateways (--gateway-image)")
        wished = self._gateways.wished(namespace)
        if wished is None:
            return Unread("it has not been looked at yet")
        watches, readable = self._watches, self._named(namespace) or frozenset()
        deployments = watches.of_gateways(DEPLOYMENTS, namespace)
        if not deployments.readable:
            return Unread(f"the operator may not list {deployments.resource}")
        pods = _seen(watches.of_gateways(PODS, namespace), watches.replicas(namespace))
        policies = self._selecting(NETWORK_POLICIES, namespace, pods[0])
        services = self._selecting(SERVICES, namespace, pods[0])
        slices = _seen(*watches.slices_of(namespace, meta.GATEWAY))
        objects = self._gateways.live(namespace)
        grants = watches.rights.of(namespace, meta.GATEWAY)
        granted = grants.reason if isinstance(grants, Unread) else grants.value
        read = evidence.Read(pods[0], policies[0], services[0], slices[0], granted)
        lists = (read.pods, read.policies, read.services, read.slices)
        # What the evidence is made of; nothing else may decide about it.
        versions = (wished, readable, granted, _versions(objects.values()), *map(_versions, lists))
        known = self._last.get(namespace)
        if known is None or known[0] != versions:
            wish, authority = wished
            gateway = evidence.gateway_of(
                wish, self._given, readable, objects, read, authority=authority, minor=self._minor
            )
            known = self._last[namespace] = versions, gateway
        informers = [informer for _, informer in (pods, policies, services, slices)]
        # The oldest counts for all of it.
        heard = min(one.last_contact.wall for one in (deployments, *informers))
        at = datetime.fromtimestamp(int(heard), UTC)
        at = at if isinstance(grants, Unread) else min(at, grants.observed_at)
        return Reading(known[1], EvidenceSource.LIVE_OBJECT, at)

    def size(self, namespace: str) -> int:
        """Bytes of JSON of the pods that have its labels."""
        if self._given.image is None:
            return 0
        informer = self._watches.of_gateways(PODS, namespace)
        return sum(
            informer.limits.size((namespace, one["metadata"]["name"])) for one in self._watches.replicas(namespace)
        )

    def forget(self, namespace: str) -> None:
        """No sandbox there has a gateway any more."""
        self._last.pop(namespace, None)

    def _selecting(self, resource: Resource, namespace: str, pods: tuple[Object, ...] | str) -> Seen:
        """Those that may select a pod of the gateway, or one that has its labels and more."""
        plain: Object = {"metadata": {"name": meta.GATEWAY, "namespace": namespace, "labels": SELECTOR}}
        others = [] if isinstance(pods, str) else [one for one in pods if meta.LABEL_SANDBOX in labels(one)]
        found: dict[str, Object] = {}
        for pod in (plain, *others):
            informer, some = self._watches.selecting(resource, pod)
            found |= {one["metadata"]["name"]: one for one in some}
        return _seen(informer, tuple(found.values()))


def _seen(informer: Informer, found: Iterable[Object]) -> Seen:
    if not informer.readable:
        return f"the operator may not list {informer.resource}", informer
    return tuple(found), informer


def _versions(found: Iterable[Object] | str) -> object:
    if isinstance(found, str):
        return found
    return tuple((one["metadata"].get("uid"), one["metadata"].get("resourceVersion")) for one in found)
