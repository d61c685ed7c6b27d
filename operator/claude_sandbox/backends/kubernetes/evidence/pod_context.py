"""What else decides about a pod than the pod, read once: its namespace, its policies, its account, its runtime."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.evidence.endpoint_slices import addresses_of, endpoints_of
from claude_sandbox.backends.kubernetes.evidence.plugin_kinds import read_plugin_policies
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.grants import Grant, granted, identities, subjects, telling
from claude_sandbox.compliance.evidence.pods import QUESTIONS, Expected, KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ENDPOINT_SLICES,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    RESOURCE_QUOTAS,
    ROLE_BINDINGS,
    ROLES,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Object

T = TypeVar("T")

_MAX_AGE = timedelta(minutes=5)
_STRICTEST_MINOR = 34
_RIGHTS = (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)


@dataclass(frozen=True)
class Surroundings:
    """What else decides about a pod. What could not be read says why."""

    namespace: Reading[Object] | Unread
    policies: Reading[tuple[Object, ...]] | Unread
    services: Reading[tuple[Object, ...]] | Unread
    slices: Reading[tuple[Object, ...]] | Unread
    """The EndpointSlices of the namespace that name the pod."""
    account: Reading[Object] | Unread
    access: AccessReviews
    grants: Reading[tuple[Grant, ...]] | Unread
    runtime_class: Reading[Object | None] | Unread
    quotas: Reading[tuple[Object, ...]] | Unread
    plugin_policies: Reading[tuple[Object, ...]] | Unread
    minor: int

    def evidence(
        self,
        declared: Expected,
        pod: Object,
        differences: Reading[tuple[str, ...]] | Unread,
        gateway: Reading[Gateway | None] | Unread,
    ) -> KubernetesEvidence:
        """The evidence for the controls, complete with the pod and what is known of its declaration."""
        namespace = pod["metadata"]["namespace"]
        return KubernetesEvidence(
            expected=declared,
            pod=now_read(pod),
            namespace=self.namespace,
            policies=self.policies,
            services=self.services,
            slices=self.slices,
            service_account=self.account,
            access=self.access.known(namespace, account_of(pod)),
            grants=self.grants,
            runtime_class=self.runtime_class,
            quotas=self.quotas,
            gateway=gateway,
            drift=differences,
            plugin_policies=self.plugin_policies,
            now=datetime.now(UTC),
            max_age=_MAX_AGE,
            minor=self.minor,
        )


async def read_surroundings(api: Api, pod: Object) -> Surroundings:
    """Everything at once. Never raises ApiError: what is refused is part of the answer."""
    namespace, account = pod["metadata"]["namespace"], account_of(pod)
    access = AccessReviews(api, QUESTIONS)
    async with asyncio.TaskGroup() as group:
        space = group.create_task(_reading(api.get(NAMESPACES, namespace)))
        policies = group.create_task(read_all(api, NETWORK_POLICIES, namespace))
        services = group.create_task(read_all(api, SERVICES, namespace))
        slices = group.create_task(read_all(api, ENDPOINT_SLICES, namespace))
        live_account = group.create_task(_reading(api.get(SERVICE_ACCOUNTS, account, namespace)))
        runtime_class = group.create_task(_runtime_class(api, pod))
        quotas = group.create_task(read_all(api, RESOURCE_QUOTAS, namespace))
        ranges = group.create_task(read_all(api, LIMIT_RANGES, namespace))
        plugin_policies = group.create_task(read_plugin_policies(api, namespace))
        minor = group.create_task(_minor(api))
        grants = group.create_task(read_grants(api, namespace, account))
        group.create_task(access.ask(namespace, account))
    return Surroundings(
        namespace=space.result(),
        policies=policies.result(),
        services=services.result(),
        slices=_naming(pod, slices.result()),
        account=live_account.result(),
        access=access,
        grants=grants.result(),
        runtime_class=runtime_class.result(),
        quotas=_joined(quotas.result(), ranges.result()),
        plugin_policies=plugin_policies.result(),
        minor=minor.result(),
    )


def account_of(pod: Object) -> str:
    """The name of the pod's ServiceAccount."""
    return str(pod["spec"].get("serviceAccountName") or "default")


def now_read(value: T) -> Reading[T]:
    """A reading of a live object, made now."""
    return Reading(value, EvidenceSource.LIVE_OBJECT, datetime.now(UTC))


async def read_one(api: Api, resource: Resource, name: str, namespace: str) -> Reading[Object | None] | Unread:
    """None where there is no such object."""
    try:
        return now_read(await api.get(resource, name, namespace))
    except ApiError as error:
        return now_read(None) if error.is_not_found else Unread(f"{resource}: {error.reason}")


async def _reading(answer: Coroutine[Any, Any, T]) -> Reading[T] | Unread:
    try:
        return now_read(await answer)
    except ApiError as error:
        return Unread(error.reason)


async def read_all(api: Api, resource: Resource, namespace: str) -> Reading[tuple[Object, ...]] | Unread:
    try:
        return now_read(tuple((await api.list(resource, namespace)).items))
    except ApiError as error:
        return Unread(error.reason)


async def read_grants(api: Api, namespace: str, account: str) -> Reading[tuple[Grant, ...]] | Unread:
    """All rules that reach the ServiceAccount, wherever in the cluster they are granted."""
    try:
        # Of the whole cluster, since a ClusterRoleBinding may name the account or its groups.
        roles, cluster_roles, *bindings = await asyncio.gather(*(api.list(resource) for resource in _RIGHTS))
    except ApiError as error:
        return Unread(f"{', '.join(map(str, _RIGHTS))}: {error.reason}")
    # Items of a list come without a kind.
    rules = {
        (kind, one["metadata"].get("namespace") or "", one["metadata"]["name"]): telling(one.get("rules") or ())
        for kind, listing in (("Role", roles), ("ClusterRole", cluster_roles))
        for one in listing.items
    }
    who = set(identities(namespace, account))
    ours = (one for listing in bindings for one in listing.items if who.intersection(subjects(one)))
    found = granted(ours, lambda *role: rules.get(role, ()))
    return Unread(found) if isinstance(found, str) else now_read(found)


def _naming(pod: Object, slices: Reading[tuple[Object, ...]] | Unread) -> Reading[tuple[Object, ...]] | Unread:
    """Those that name the pod."""
    if isinstance(slices, Unread):
        return slices
    targets = {(pod["metadata"]["namespace"], pod["metadata"]["name"]), *addresses_of(pod)}
    return replace(slices, value=tuple(one for one in slices.value if not targets.isdisjoint(endpoints_of(one))))


async def _runtime_class(api: Api, pod: Object) -> Reading[Object | None] | Unread:
    name = pod["spec"].get("runtimeClassName")
    if not name:
        return now_read(None)
    try:
        return now_read(await api.get(RUNTIME_CLASSES, name))
    except ApiError as error:
        return Unread(error.reason)


async def _minor(api: Api) -> int:
    """The API server's minor version; where it does not tell, the one whose standards are the strictest."""
    try:
        return int(str((await api.get_path("/version"))["minor"]).rstrip("+"))
    except (ApiError, KeyError, ValueError):
        return _STRICTEST_MINOR


def _joined(
    one: Reading[tuple[Object, ...]] | Unread, other: Reading[tuple[Object, ...]] | Unread
) -> Reading[tuple[Object, ...]] | Unread:
    if isinstance(one, Unread):
        return one
    return other if isinstance(other, Unread) else now_read(one.value + other.value)
