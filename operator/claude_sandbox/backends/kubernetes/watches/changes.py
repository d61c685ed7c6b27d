"""Which sandboxes a change in the cluster concerns, and how soon they are looked at for it.

A change is turned into keys of sandboxes, and forgotten. No handler awaits or asks the server, and what a tenant's
change costs is what an index has under it, or the tenant's own namespace: changes come as fast as the API server takes
them. What concerns a sandbox only in passing (rights, addresses, that its pod is starting) has it looked at soon rather
than at once, so that many changes are one look.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.evidence.endpoint_slices import (
    endpoints_of,
    services_of,
)
from claude_sandbox.backends.kubernetes.gateway.rollout import is_rolling
from claude_sandbox.backends.kubernetes.state import keeps_starting
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.unstructured import Object, labels

Wake = Callable[[str, str], None]
"""Have the sandbox of this namespace and name looked at: at once, or soon."""
WakeAll = Callable[[str], None]
"""Have all sandboxes of this namespace looked at."""

NO_SANDBOX = ""
"""The name under which a namespace is looked at for what belongs to no single sandbox, and may outlive them all."""
BY_ENDPOINT = "endpoint"
"""Of EndpointSlices: by address, and by the namespace and name of a pod. Of pods by address."""


@dataclass(frozen=True)
class Wakes:
    """How sandboxes come to be looked at: one at once, one soon, all of a namespace; `users`: those that name a Secret;
    `told`: those that name a ConfigMap.
    """

    one: Wake
    soon: Wake
    all: WakeAll
    users: Wake
    told: Wake


class Changes:
    """The handlers of one backend's informers. `pods`: the informers of sandboxes' pods."""

    def __init__(self, wakes: Wakes, pods: Callable[[], Iterable[Informer]], *, gateways: bool) -> None:
        self._wake = wakes.one
        self._wake_soon = wakes.soon
        self._wake_all = wakes.all
        self._wake_users = wakes.users
        self._wake_told = wakes.told
        self._pods = pods
        self._gateways = gateways

    def pod(self, old: Obj | None, new: Obj | None) -> None:
        """A pod of a sandbox's. While it starts it changes often, and each step is worth one look for all."""
        live = new or old
        if live is not None and str(live["metadata"]["name"]).startswith(meta.PROBE_PREFIX):
            # Whoever awaits a probe looks for its end, and no sandbox is another one for it.
            return
        if old is not None and new is not None and keeps_starting(old, new) and (name := _sandbox_of(new)):
            self._wake_soon(new["metadata"]["namespace"], name)
        else:
            self.child(old, new)

    def child(self, old: Obj | None, new: Obj | None) -> None:
        """What a sandbox may own, or what may select its pod: of one that belongs to none, all are looked at."""
        live = _either(old, new)
        namespace = live["metadata"]["namespace"]
        # Both: who takes an object's label or owner away concerns the sandbox that had it.
        sandboxes = {name for name in (_sandbox_of(old), _sandbox_of(new)) if name}
        for name in sandboxes:
            self._wake(namespace, name)
        if sandboxes:
            return
        if live["metadata"]["name"] == meta.GATEWAY:
            self.gateway(old, new)
            return
        self.neighbour(old, new)
        if live["metadata"]["name"] == meta.BASELINE_POLICY:
            self._wake(namespace, NO_SANDBOX)

    def neighbour(self, old: Obj | None, new: Obj | None) -> None:
        """What counts for all sandboxes of its namespace, by its spec."""
        # Statuses and labels of such objects change often, and decide nothing here.
        if old is not None and new is not None and old.get("spec") == new.get("spec"):
            return
        self._wake_all(_either(old, new)["metadata"]["namespace"])

    def slice(self, old: Obj | None, new: Obj | None) -> None:
        """Which addresses there are changes seldom; that one of them is ready is dropped at the door."""
        before, now = (set(endpoints_of(one)) if one is not None else set() for one in (old, new))
        if self._gateways and (before != now or _is_of_gateway(old) != _is_of_gateway(new)):
            for one in (old, new):
                if one is not None and _is_of_gateway(one):
                    self._wake_all(one["metadata"]["namespace"])
        # Only what came or went: a slice may have a thousand endpoints.
        for target in before ^ now:
            for pod in self._pods_at(target):
                if name := _sandbox_of(pod):
                    self._wake_soon(pod["metadata"]["namespace"], name)

    def gateway(self, old: Obj | None, new: Obj | None) -> None:
        """Deployments tell of each step of their pods: what matters is whether any takes requests, and whether they
        are being replaced; of a pod what it is, and whether it has started."""
        if old is not None and new is not None and _of_gateway(old) == _of_gateway(new):
            return
        namespace = _either(old, new)["metadata"]["namespace"]
        self._wake_all(namespace)
        # It may have outlived them all.
        self._wake(namespace, NO_SANDBOX)

    def report(self, old: Obj | None, new: Obj | None) -> None:
        """Gateways write one once a minute at most, but for what is not to wait."""
        if (name := _sandbox_of(new)) is not None and new is not None and old != new:
            self._wake(new["metadata"]["namespace"], name)

    def namespace(self, old: Obj | None, new: Obj | None) -> None:
        """A Namespace: its labels and annotations are judged, and its deletion."""
        if old is None or new is None or _told(old) != _told(new):
            self._wake_all(_either(old, new)["metadata"]["name"])

    def rights(self, namespace: str | None, account: str | None) -> None:
        """Have those sandboxes looked at soon that run as these accounts, or whose gateway does; None: as any."""
        if self._gateways and namespace is not None and account == meta.GATEWAY:
            self._wake_all(namespace)
        for informer in self._pods():
            if namespace is not None and account is not None:
                # A sandbox's account is called as its pod is.
                pod = informer.store.get(namespace, account)
                found: Iterable[Obj] = () if pod is None else (pod,)
            else:
                # Without an account it may be any of the namespace, and without a namespace any at all.
                found = informer.store if namespace is None else informer.store.by_namespace(namespace)
            for pod in found:
                if name := _sandbox_of(pod):
                    self._wake_soon(pod["metadata"]["namespace"], name)

    def plugin_policies(self, namespace: str | None) -> None:
        """Policies of network plugins in a namespace, or for the whole cluster."""
        if namespace is not None:
            self._wake_all(namespace)
        else:
            self.rights(None, None)

    def secret(self, old: Obj | None, new: Obj | None) -> None:
        """A Secret that opted in: those look again that name it."""
        live = _either(old, new)
        self._wake_users(live["metadata"]["namespace"], live["metadata"]["name"])

    def config_map(self, old: Obj | None, new: Obj | None) -> None:
        """A ConfigMap that opted in: those look again that are told something by it."""
        live = _either(old, new)
        self._wake_told(live["metadata"]["namespace"], live["metadata"]["name"])

    def _pods_at(self, target: Hashable) -> Iterator[Obj]:
        for informer in self._pods():
            if isinstance(target, tuple):
                pod = informer.store.get(*target[:2])
                yield from () if pod is None else (pod,)
            else:
                yield from informer.store.by_index(BY_ENDPOINT, target)


def _either(old: Obj | None, new: Obj | None) -> Obj:
    """The object as it is, or was: one of the two is always there."""
    live = new or old
    assert live is not None  # noqa: S101
    return live


def _sandbox_of(live: Object | None) -> str | None:
    """The name of the sandbox that an object belongs to, by owner, or else by label."""
    if live is None:
        return None
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == meta.KIND:
            return str(owner["name"])
    return labels(live).get(meta.LABEL_SANDBOX)


def _is_of_gateway(one: Object | None) -> bool:
    """Whether an EndpointSlice says where a gateway's Service leads, or is too large to tell."""
    return one is not None and not {meta.GATEWAY, OUTSIZE}.isdisjoint(name for _, name, *_ in services_of(one))


def _of_gateway(live: Object) -> tuple[Any, ...]:
    metadata = live["metadata"]
    ours = metadata.get("labels"), metadata.get("annotations"), metadata.get("deletionTimestamp")
    parts = (live.get(part) for part in ("spec", "rules", "subjects", "roleRef", "automountServiceAccountToken"))
    version = metadata["resourceVersion"] if "spec" not in live and "rules" not in live else None
    status = live.get("status") or {}
    started = tuple((one.get("imageID"), one.get("user")) for one in status.get("containerStatuses") or ())
    rolling = is_rolling(live) if "replicas" in (live.get("spec") or {}) else False
    return *ours, *parts, version, bool(status.get("availableReplicas")), rolling, status.get("phase"), started


def _told(namespace: Object) -> tuple[Any, ...]:
    metadata = namespace["metadata"]
    return metadata.get("labels"), metadata.get("annotations"), metadata.get("deletionTimestamp")
