"""Everything that is followed of the cluster, and which sandboxes a change concerns.

Pods, ServiceAccounts and claims are followed by label. NetworkPolicies, Services and EndpointSlices are followed
whatever they are, because those of others matter as well: policies add up, and any Service may lead to a sandbox's pod.

Theory of operation. It holds one informer for each kind, and each namespace where the operator has only some, and
nothing else: what it tells is what their stores hold. An informer tells of a change on the event loop, at once; here
it is turned into keys of sandboxes, and forgotten. No handler awaits or asks the server, and what a tenant's change
costs is what an index has under it, or the tenant's own namespace: changes come as fast as the API server takes them.
What concerns a sandbox only in passing (rights, addresses, that its pod is starting) has it looked at soon rather than
at once, so that many changes are one look.

The watches do not say what our own writes were: informers don't tell of what was learnt (`learn`). A change that is
missed comes with the informer's next list, and every sandbox is looked at by the resync in any case. A crash loses
nothing: on a start, everything is listed before the first pass (`settled`).
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.evidence.endpoint_slices import (
    addresses_of,
    endpoints_of,
    outsize_in,
    services_of,
)
from claude_sandbox.backends.kubernetes.evidence.selecting import selected_by_policy, selected_by_service
from claude_sandbox.backends.kubernetes.gateway.rollout import is_rolling
from claude_sandbox.backends.kubernetes.state import keeps_starting
from claude_sandbox.backends.kubernetes.watches.rbac import Rights
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import by_namespace
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.cache_limits import GATEWAY_PODS, CacheLimits
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.informer import Informer, Timings, Transform
from claude_sandbox.kubernetes_api.poller import Poller
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
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    USAGES,
    Resource,
)
from claude_sandbox.kubernetes_api.store import IndexFunction, key_of
from claude_sandbox.kubernetes_api.unstructured import Object, labels

Wake = Callable[[str, str], None]
"""Have the sandbox of this namespace and name looked at: at once, or soon."""
WakeAll = Callable[[str], None]
"""Have all sandboxes of this namespace looked at."""

# The name under which a namespace is looked at for what belongs to no single sandbox, and may outlive them all.
NO_SANDBOX = ""

_OURS = meta.LABEL_SANDBOX
BY_ENDPOINT = "endpoint"
"""Of EndpointSlices: by address, and by the namespace and name of a pod. Of pods by address."""
BY_SERVICE = "service"
"""Of EndpointSlices: by the namespace and the name of the Service that they are of."""
BY_SANDBOX = "sandbox"
"""Of NetworkPolicies and Services: by the namespace and the one sandbox that the selector can select, or None."""
_SELECTING: Mapping[Resource, IndexFunction] = {NETWORK_POLICIES: selected_by_policy, SERVICES: selected_by_service}
_CHILDREN = (PODS, SERVICE_ACCOUNTS, PERSISTENT_VOLUME_CLAIMS)
_OF_GATEWAYS = (DEPLOYMENTS, DISRUPTION_BUDGETS, ROLES, ROLE_BINDINGS, SERVICE_ACCOUNTS)
_WHOLE = (NETWORK_POLICIES, SERVICES, RESOURCE_QUOTAS, LIMIT_RANGES)


class Watches:
    """The informers of one backend. `namespaces` empty: the whole cluster."""

    def __init__(
        self,
        api: Api,
        namespaces: tuple[str, ...],
        *,
        secrets: bool,
        gateways: bool = False,
        wake: Wake,
        wake_soon: Wake,
        wake_all: WakeAll,
        wake_users: Wake,
        wake_told: Wake = lambda _namespace, _config_map: None,
        pace: Timings = Timings(),  # noqa: B008 - frozen
    ) -> None:
        self._api = api
        self._pace = pace
        self._wake = wake
        self._wake_soon = wake_soon
        self._wake_all = wake_all
        self._wake_users = wake_users
        self._wake_told = wake_told
        self._informers: dict[Resource, dict[str | None, Informer]] = {}
        self._secrets: dict[str, list[dict[str | None, Informer]]] = {}
        self._gateways: dict[Resource, dict[str | None, Informer]] = {}
        self.rights = Rights(
            lambda resource, changed, transform, indexes: self._informer(
                resource, None, changed, transform, indexes=indexes
            ),
            self._rights_changed,
        )
        scopes: tuple[str | None, ...] = namespaces or (None,)
        for resource in _CHILDREN:
            changed = self._pod_changed if resource is PODS else self._child_changed
            indexes = {BY_ENDPOINT: addresses_of} if resource is PODS else None
            self._informers[resource] = self._each(scopes, resource, changed, label_selector=_OURS, indexes=indexes)
        self._informers[ENDPOINT_SLICES] = self._each(
            scopes, ENDPOINT_SLICES, self._slice_changed, indexes={BY_ENDPOINT: endpoints_of, BY_SERVICE: services_of}
        )
        for resource in _WHOLE:
            select = _SELECTING.get(resource)
            changed = self._child_changed if select else self._neighbour_changed
            by = {BY_SANDBOX: select} if select else None
            self._informers[resource] = self._each(scopes, resource, changed, indexes=by)
        self._informers[NAMESPACES] = {
            scope: Poller(api, NAMESPACES, scope, self._namespace_changed, pace)
            if scope
            else self._informer(NAMESPACES, None, self._namespace_changed)
            for scope in scopes
        }
        opted_in = f"{meta.LABEL_CLAUDE_CODE}=true"
        self._config_maps = self._each(scopes, CONFIG_MAPS, self._config_map_changed, label_selector=opted_in)
        if secrets:
            for use in (meta.SECRET_TYPE, meta.GIT_SECRET_TYPE, meta.SERVICE_SECRET_TYPE):
                # A Secret opts in to a use by its type, or by a label of the same name.
                selectors = (
                    {"field_selector": f"type={use}"},
                    {"label_selector": f"{use}={meta.LABEL_SECRET_OPT_IN_VALUE}"},
                )
                self._secrets[use] = [
                    self._each(scopes, SECRETS, self._secret_changed, metadata_only=True, **selector)
                    for selector in selectors
                ]

        if gateways:
            of_component = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_GATEWAY}"
            for resource in _OF_GATEWAYS:
                self._gateways[resource] = self._each(
                    scopes, resource, self._gateway_changed, label_selector=of_component
                )
            # Whoever made them: to have the labels is to be where sandboxes may connect to.
            self._gateways[PODS] = {
                scope: self._informer(
                    PODS,
                    scope,
                    self._gateway_changed,
                    label_selector=of_component,
                    limits=CacheLimits(PODS, GATEWAY_PODS),
                )
                for scope in scopes
            }
            self._gateways[SECRETS] = self._each(
                scopes,
                SECRETS,
                self._gateway_changed,
                field_selector=f"metadata.name={meta.GATEWAY_TLS}",
                metadata_only=True,
            )
            # Reports alone: what gateways keep accounts in is written far more often, and is theirs.
            reports = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_REPORT}"
            self._gateways[USAGES] = self._each(scopes, USAGES, self._report_changed, label_selector=reports)

    @property
    def look_at_secrets(self) -> bool:
        """Whether Secrets are to be looked at at all, be it allowed or not."""
        return bool(self._secrets)

    def __iter__(self) -> Iterator[Informer]:
        yield from self.rights.informers.values()
        secrets = chain(*self._secrets.values())
        for scoped in (*self._informers.values(), self._config_maps, *secrets, *self._gateways.values()):
            yield from scoped.values()

    async def run(self) -> None:
        """Follow everything until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self:
                group.create_task(informer.run(), name=f"informer {informer.resource}")

    async def settled(self) -> None:
        """Wait until everything was listed once, or is known not to be readable."""
        for informer in self:
            await informer.settled.wait()

    def of(self, resource: Resource, namespace: str) -> Informer:
        """The informer that follows this kind of object in this namespace."""
        return _scoped(self._informers[resource], namespace)

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """One object as last seen."""
        return self.of(resource, namespace).store.get(namespace, name)

    def namespace(self, name: str) -> tuple[Informer, Obj | None]:
        """The Namespace object, and the informer that it is from."""
        informer = _scoped(self._informers[NAMESPACES], name)
        return informer, informer.store.get("", name)

    def opted_in(self, namespace: str, name: str, use: str = meta.SECRET_TYPE) -> tuple[bool, Obj | None]:
        """Whether Secrets can be looked at, and the metadata of this one where it opted in to this use."""
        informers = [_scoped(scoped, namespace) for scoped in self._secrets.get(use, ())]
        readable = bool(informers) and all(informer.readable for informer in informers)
        found = (informer.store.get(namespace, name) for informer in informers)
        return readable, next((secret for secret in found if secret is not None), None)

    def config_map(self, namespace: str, name: str) -> tuple[bool, Obj | None]:
        """Whether ConfigMaps can be read, and this one where it opted in to telling Claude Code something."""
        informer = _scoped(self._config_maps, namespace)
        return informer.readable, informer.store.get(namespace, name)

    def knows_secrets(self, namespace: str) -> bool:
        """Whether it was seen which Secrets there have opted in. A right that was lost since does not undo that."""
        scoped = [*chain(*self._secrets.values())]
        return bool(scoped) and all(_scoped(one, namespace).synced.is_set() for one in scoped)

    def may_be_used(self, namespace: str, secret: str) -> bool:
        """Whether a Secret has opted in to some use by sandboxes, as far as is known. For which, the gateway asks."""
        if self.knows_secrets(namespace):
            return any(self.opted_in(namespace, secret, use)[1] is not None for use in self._secrets)
        return by_namespace(namespace, secret, self.namespace(namespace)[1]).problem is None

    def slices(self, pod: Object) -> tuple[Informer, tuple[Obj, ...]]:
        """The EndpointSlices that name the pod, or are too large to tell; and the informer that they are from."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        informer = self.of(ENDPOINT_SLICES, namespace)
        targets = ((namespace, name), outsize_in(namespace), *addresses_of(pod))
        found = {key_of(one): one for target in targets for one in informer.store.by_index(BY_ENDPOINT, target)}
        return informer, tuple(found.values())

    def selecting(self, resource: Resource, pod: Object) -> tuple[Informer, tuple[Obj, ...]]:
        """The NetworkPolicies or Services that may select the pod, by what names its sandbox or none; and the informer
        that they are from."""
        namespace = pod["metadata"]["namespace"]
        informer = self.of(resource, namespace)
        keys = [(namespace, name) for name in dict.fromkeys((None, labels(pod).get(meta.LABEL_SANDBOX)))]
        return informer, tuple(one for key in keys for one in informer.store.by_index(BY_SANDBOX, key))

    def learn(self, resource: Resource, live: Obj) -> None:
        """Take in the answer to a write of ours."""
        self.of(resource, live["metadata"]["namespace"]).learn(live)

    def gateway(self, resource: Resource, namespace: str) -> Obj | None:
        """What there is of this kind under the gateway's name; of a Secret its metadata."""
        name = meta.GATEWAY_TLS if resource is SECRETS else meta.GATEWAY
        return self.of_gateways(resource, namespace).store.get(namespace, name)

    def replicas(self, namespace: str) -> tuple[Obj, ...]:
        """The pods with the gateway's labels, whoever made them."""
        return self.of_gateways(PODS, namespace).store.by_namespace(namespace)

    def slices_of(self, namespace: str, service: str) -> tuple[Informer, tuple[Obj, ...]]:
        """The EndpointSlices of a Service, those that are too large to tell, and the informer that they are from."""
        informer = self.of(ENDPOINT_SLICES, namespace)
        targets = ((namespace, service), outsize_in(namespace))
        return informer, tuple(one for target in targets for one in informer.store.by_index(BY_SERVICE, target))

    def reports(self, namespace: str, uid: str) -> tuple[object, ...]:
        """What the namespace's gateways report of the sandbox with this UID, as they wrote it."""
        if USAGES not in self._gateways:
            return ()
        found = _scoped(self._gateways[USAGES], namespace).store.get(namespace, meta.report_name(uid)) or {}
        return tuple(((found.get("spec") or {}).get("reports") or {}).values())

    def learn_gateways(self, resource: Resource, live: Obj) -> None:
        """Take in the answer to a write of ours."""
        self.of_gateways(resource, live["metadata"]["namespace"]).learn(live)

    def unlearn_gateways(self, resource: Resource, live: Obj) -> None:
        """It was removed."""
        self.of_gateways(resource, live["metadata"]["namespace"]).unlearn(live)

    def of_gateways(self, resource: Resource, namespace: str) -> Informer:
        """The informer that follows objects of gateways of this kind in this namespace."""
        return _scoped(self._gateways.get(resource) or self._informers[resource], namespace)

    def _gateway_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Deployments tell of each step of their pods: what matters is whether any takes requests, and whether they
        are being replaced; of a pod what it is, and whether it has started."""
        if old is not None and new is not None and _of_gateway(old) == _of_gateway(new):
            return
        live = new or old
        assert live is not None  # noqa: S101
        namespace = live["metadata"]["namespace"]
        self._wake_all(namespace)
        # It may have outlived them all.
        self._wake(namespace, NO_SANDBOX)

    def _report_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Gateways write one once a minute at most, but for what is not to wait."""
        if (name := _sandbox_of(new)) is not None and new is not None and old != new:
            self._wake(new["metadata"]["namespace"], name)

    def _each(
        self,
        scopes: Iterable[str | None],
        resource: Resource,
        changed: Callable[[Obj | None, Obj | None], None],
        **selectors: Any,
    ) -> dict[str | None, Informer]:
        return {scope: self._informer(resource, scope, changed, **selectors) for scope in scopes}

    def _informer(
        self,
        resource: Resource,
        scope: str | None,
        changed: Callable[[Obj | None, Obj | None], None],
        transform: Transform | None = None,
        **selectors: Any,
    ) -> Informer:
        return Informer(
            self._api,
            resource,
            namespace=scope,
            transform=transform,
            on_change=changed,
            pace=self._pace,
            **selectors,
        )

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and keeps_starting(old, new) and (name := _sandbox_of(new)):
            self._wake_soon(new["metadata"]["namespace"], name)
        else:
            self._child_changed(old, new)

    def _child_changed(self, old: Obj | None, new: Obj | None) -> None:
        live = new or old
        assert live is not None  # noqa: S101 - one of the two is always there
        namespace = live["metadata"]["namespace"]
        sandboxes = {name for name in (_sandbox_of(old), _sandbox_of(new)) if name}
        for name in sandboxes:
            self._wake(namespace, name)
        if sandboxes:
            return
        if live["metadata"]["name"] == meta.GATEWAY:
            self._gateway_changed(old, new)
            return
        self._neighbour_changed(old, new)
        if live["metadata"]["name"] == meta.BASELINE_POLICY:
            self._wake(namespace, NO_SANDBOX)

    def _neighbour_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and old.get("spec") == new.get("spec"):
            return
        live = new or old
        assert live is not None  # noqa: S101
        self._wake_all(live["metadata"]["namespace"])

    def _slice_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Which addresses there are changes seldom; that one of them is ready is dropped at the door."""
        before, now = (set(endpoints_of(one)) if one is not None else set() for one in (old, new))
        if self._gateways and (before != now or _is_of_gateway(old) != _is_of_gateway(new)):
            for one in (old, new):
                if one is not None and _is_of_gateway(one):
                    self._wake_all(one["metadata"]["namespace"])
        for target in before ^ now:
            for pod in self._pods_at(target):
                if name := _sandbox_of(pod):
                    self._wake_soon(pod["metadata"]["namespace"], name)

    def _pods_at(self, target: Hashable) -> Iterator[Obj]:
        for informer in self._informers[PODS].values():
            if isinstance(target, tuple):
                pod = informer.store.get(*target[:2])
                yield from () if pod is None else (pod,)
            else:
                yield from informer.store.by_index(BY_ENDPOINT, target)

    def _namespace_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or _told(old) != _told(new):
            live = new or old
            assert live is not None  # noqa: S101
            self._wake_all(live["metadata"]["name"])

    def _rights_changed(self, namespace: str | None, account: str | None) -> None:
        """Have those sandboxes looked at soon that run as these accounts, or whose gateway does; None: as any."""
        if self._gateways and namespace is not None and account == meta.GATEWAY:
            self._wake_all(namespace)
        for informer in self._informers[PODS].values():
            if namespace is not None and account is not None:
                # A sandbox's account is called as its pod is.
                pod = informer.store.get(namespace, account)
                found: Iterable[Obj] = () if pod is None else (pod,)
            else:
                found = informer.store if namespace is None else informer.store.by_namespace(namespace)
            for pod in found:
                if name := _sandbox_of(pod):
                    self._wake_soon(pod["metadata"]["namespace"], name)

    def _secret_changed(self, old: Obj | None, new: Obj | None) -> None:
        live = new or old
        assert live is not None  # noqa: S101
        self._wake_users(live["metadata"]["namespace"], live["metadata"]["name"])

    def _config_map_changed(self, old: Obj | None, new: Obj | None) -> None:
        live = new or old
        assert live is not None  # noqa: S101
        self._wake_told(live["metadata"]["namespace"], live["metadata"]["name"])


def _scoped(informers: dict[str | None, Informer], namespace: str) -> Informer:
    return informers.get(namespace) or informers[None]


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
