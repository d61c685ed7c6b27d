"""Everything that is followed of the cluster. Which sandboxes a change concerns is decided in `changes.py`.

Pods, ServiceAccounts and claims are followed by label. NetworkPolicies, Services and EndpointSlices are followed
whatever they are, because those of others matter as well: policies add up, and any Service may lead to a sandbox's pod.

Theory of operation. It holds one informer for each kind, and each namespace where the operator has only some, and
nothing else: what it tells is what their stores hold. An informer tells of a change on the event loop, at once.

The watches do not say what our own writes were: informers don't tell of what was learnt (`learn`). A change that is
missed comes with the informer's next list, and every sandbox is looked at by the resync in any case. A crash loses
nothing: on a start, everything is listed before the first pass (`settled`).
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
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
from claude_sandbox.backends.kubernetes.watches.changes import BY_ENDPOINT, Changes, Wake, WakeAll, Wakes
from claude_sandbox.backends.kubernetes.watches.plugin_policies import PluginPolicies
from claude_sandbox.backends.kubernetes.watches.rbac import Rights
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import by_namespace
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.informers.cache_limits import GATEWAY_PODS, CacheLimits
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings, Transform
from claude_sandbox.kubernetes_api.informers.poller import Poller
from claude_sandbox.kubernetes_api.informers.store import IndexFunction, key_of
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
from claude_sandbox.kubernetes_api.unstructured import Object, labels

MAX_AGE = timedelta(minutes=5)
"""How old what watches tell may be: they hear from the server at least once a minute (bookmarks)."""

_OURS = meta.LABEL_SANDBOX
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
        plugin_policies: bool = False,
        wake: Wake,
        wake_soon: Wake,
        wake_all: WakeAll,
        wake_users: Wake,
        wake_told: Wake = lambda _namespace, _config_map: None,
        pace: Timings = Timings(),  # noqa: B008 - frozen
    ) -> None:
        self._api = api
        self._pace = pace
        self._informers: dict[Resource, dict[str | None, Informer]] = {}
        self._secrets: dict[str, list[dict[str | None, Informer]]] = {}
        self._gateways: dict[Resource, dict[str | None, Informer]] = {}
        wakes = Wakes(wake, wake_soon, wake_all, wake_users, wake_told)
        self._changes = Changes(wakes, self._of_pods, gateways=gateways)
        # Of the whole cluster, whatever namespaces are looked after: a ClusterRoleBinding reaches into each.
        self.rights = Rights(
            lambda resource, changed, transform, indexes: self._informer(
                resource, None, changed, transform, indexes=indexes
            ),
            self._changes.rights,
        )
        scopes: tuple[str | None, ...] = namespaces or (None,)
        self._follow_objects(scopes)
        # What others hold is no business of the operator's.
        opted_in = f"{meta.LABEL_CLAUDE_CODE}=true"
        self._config_maps = self._each(scopes, CONFIG_MAPS, self._changes.config_map, label_selector=opted_in)
        if secrets:
            self._follow_secrets(scopes)
        if gateways:
            self._follow_gateways(scopes)
        self.plugin_policies = PluginPolicies(api, self._changes.plugin_policies, pace) if plugin_policies else None
        """None: they are not looked at."""

    def _follow_objects(self, scopes: tuple[str | None, ...]) -> None:
        """What sandboxes have, what reaches them or limits them, and their namespaces."""
        for resource in _CHILDREN:
            changed = self._changes.pod if resource is PODS else self._changes.child
            indexes = {BY_ENDPOINT: addresses_of} if resource is PODS else None
            self._informers[resource] = self._each(scopes, resource, changed, label_selector=_OURS, indexes=indexes)
        self._informers[ENDPOINT_SLICES] = self._each(
            scopes, ENDPOINT_SLICES, self._changes.slice, indexes={BY_ENDPOINT: endpoints_of, BY_SERVICE: services_of}
        )
        for resource in _WHOLE:
            select = _SELECTING.get(resource)
            changed = self._changes.child if select else self._changes.neighbour
            by = {BY_SANDBOX: select} if select else None
            self._informers[resource] = self._each(scopes, resource, changed, indexes=by)
        self._informers[NAMESPACES] = {
            # By its name: who has rights in some namespaces alone may not watch all Namespaces.
            scope: Poller(self._api, NAMESPACES, scope, self._changes.namespace, self._pace)
            if scope
            else self._informer(NAMESPACES, None, self._changes.namespace)
            for scope in scopes
        }

    def _follow_secrets(self, scopes: tuple[str | None, ...]) -> None:
        """Those that opted in to a use, by their type or by a label of the same name; their metadata alone."""
        for use in (meta.SECRET_TYPE, meta.GIT_SECRET_TYPE, meta.SERVICE_SECRET_TYPE):
            selectors = (
                {"field_selector": f"type={use}"},
                {"label_selector": f"{use}={meta.LABEL_SECRET_OPT_IN_VALUE}"},
            )
            self._secrets[use] = [
                self._each(scopes, SECRETS, self._changes.secret, metadata_only=True, **selector)
                for selector in selectors
            ]

    def _follow_gateways(self, scopes: tuple[str | None, ...]) -> None:
        """What the gateway of a namespace is made of, and what gateways report."""
        changed = self._changes.gateway
        of_component = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_GATEWAY}"
        for resource in _OF_GATEWAYS:
            self._gateways[resource] = self._each(scopes, resource, changed, label_selector=of_component)
        # Whoever made them: to have the labels is to be where sandboxes may connect to. Each scope has its own limits.
        self._gateways[PODS] = {
            scope: self._informer(
                PODS, scope, changed, label_selector=of_component, limits=CacheLimits(PODS, GATEWAY_PODS)
            )
            for scope in scopes
        }
        certificate = f"metadata.name={meta.GATEWAY_TLS}"
        self._gateways[SECRETS] = self._each(scopes, SECRETS, changed, field_selector=certificate, metadata_only=True)
        # Reports alone: what gateways keep accounts in is written far more often, and is theirs.
        reports = f"{meta.LABEL_COMPONENT}={meta.COMPONENT_REPORT}"
        self._gateways[USAGES] = self._each(scopes, USAGES, self._changes.report, label_selector=reports)

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
            if self.plugin_policies is not None:
                group.create_task(self.plugin_policies.run(), name="policies of network plugins")

    async def settled(self) -> None:
        """Wait until everything was listed once, or is known not to be readable."""
        for informer in self:
            await informer.settled.wait()
        if self.plugin_policies is not None:
            await self.plugin_policies.settled()

    def _of_pods(self) -> Iterable[Informer]:
        return self._informers[PODS].values()

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
        # All of them: a Secret that one of two selectors would find may be the very one that can't be listed.
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
        # By key, since a slice may name the pod by its name and by each of its addresses.
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

    def hears(self, namespace: str, max_age: timedelta) -> bool:
        """Whether what the namespace's gateways report can be read, and was no longer ago than that."""
        if USAGES not in self._gateways:
            return False
        informer = _scoped(self._gateways[USAGES], namespace)
        return informer.readable and informer.age() <= max_age.total_seconds()

    def learn_gateways(self, resource: Resource, live: Obj) -> None:
        """Take in the answer to a write of ours."""
        self.of_gateways(resource, live["metadata"]["namespace"]).learn(live)

    def unlearn_gateways(self, resource: Resource, live: Obj) -> None:
        """It was removed."""
        self.of_gateways(resource, live["metadata"]["namespace"]).unlearn(live)

    def of_gateways(self, resource: Resource, namespace: str) -> Informer:
        """The informer that follows objects of gateways of this kind in this namespace."""
        return _scoped(self._gateways.get(resource) or self._informers[resource], namespace)

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


def _scoped(informers: dict[str | None, Informer], namespace: str) -> Informer:
    return informers.get(namespace) or informers[None]
