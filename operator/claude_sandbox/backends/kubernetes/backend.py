"""The Kubernetes backend: observes through watches, applies through the API server, hands evidence to compliance."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.spec import ClaudeSandboxSpec, UpdateStrategyType
from claude_sandbox.api.status import Compliance, EvidenceSource
from claude_sandbox.backends.base import Cause, Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.gateway_reports import merged, read
from claude_sandbox.backends.kubernetes import admission as making
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.admission import PodAdmission, Recorded, nothing_recorded
from claude_sandbox.backends.kubernetes.apply import carry_out
from claude_sandbox.backends.kubernetes.baseline import BaselinePolicies
from claude_sandbox.backends.kubernetes.evidence import volume_claims
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.evidence.evaluation import Evaluations, is_light
from claude_sandbox.backends.kubernetes.evidence.gateways import GatewayEvidence
from claude_sandbox.backends.kubernetes.evidence.runtime_classes import RuntimeClasses
from claude_sandbox.backends.kubernetes.gateway.gateways import Ensured, Gateways, Wanted, added
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering
from claude_sandbox.backends.kubernetes.image_volumes import ImageVolumes
from claude_sandbox.backends.kubernetes.objects import known_endpoint
from claude_sandbox.backends.kubernetes.objects import pod as pod_of
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.backends.kubernetes.plan import Desired, Observed, desire, plan
from claude_sandbox.backends.kubernetes.state import node_lost, state_of, wants_users, without_users
from claude_sandbox.backends.kubernetes.tools import lacks_image_volumes
from claude_sandbox.backends.kubernetes.watches import secret_opt_in
from claude_sandbox.backends.kubernetes.watches.secrets import SecretStates
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.pods import measure
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informer import Informer
from claude_sandbox.kubernetes_api.resources import (
    LIMIT_RANGES,
    NETWORK_POLICIES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    SANDBOXES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Object, terminating

T = TypeVar("T")

# Evidence comes from watches, which hear from the server at least once a minute (bookmarks).
MAX_AGE = timedelta(minutes=5)
# After the grace period that a terminating pod has, in seconds, before its node is suspected.
NODE_SUSPECTED_AFTER = 30.0


class KubernetesBackend:
    """One cluster, or some of its namespaces."""

    def __init__(
        self,
        api: Api,
        watches: Watches,
        access: AccessReviews,
        pacer: Pacer,
        *,
        minor: int,
        allowed_registries: tuple[str, ...] = (),
        plain_images: frozenset[str] = frozenset(),
        recorded: Recorded = nothing_recorded,
        brokering: Brokering = Brokering(),  # noqa: B008 - frozen
        brokered: Wanted = lambda _: None,
        named: Wanted | None = None,
        lent_by_address: Callable[[str], bool] = lambda _: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._watches = watches
        self._access = access
        self._secrets = SecretStates(api, watches)
        self._pacer = pacer
        self._runtime_classes = RuntimeClasses(api)
        self._claims = volume_claims.StorageClasses(api)
        self._admission = PodAdmission(api, recorded)
        self._image_volumes = ImageVolumes(api)
        self._baselines = BaselinePolicies(api, watches)
        self._gateways = Gateways(api, watches, self._admission, brokering, brokered, now, lent_by_address)
        self._gateway_evidence = GatewayEvidence(watches, self._gateways, brokering, named or brokered, minor)
        self._evaluations = Evaluations()
        self._minor = minor
        self._allowed_registries = allowed_registries
        self._plain_images = plain_images
        self._now = now

    async def key(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret; its data is never asked for."""
        return await self._secrets.of(identity, secret, key)

    async def ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        """Observe, plan and apply, and ask for the ServiceAccount's rights along with the first writes."""
        async with self._baselines.relied_upon(blueprint.identity.namespace):
            return await self._ensure(blueprint, key, spec, past)

    async def _ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        identity = blueprint.identity
        account = meta.child_name(identity.name)
        if not past.settled:
            # A user's new wish is carried out at once, however often the workload was replaced before.
            self._pacer.forget(identity.namespace, identity.name)
        refused = self._refused_pull_secrets(blueprint)
        gateway = await self._gateway(blueprint)
        if gateway.outcome.gone:
            return gateway.outcome
        has_door = blueprint.gateway is None or gateway.endpoint is not None
        may_start = key.problem is None and refused is None and has_door and not blueprint.held
        live = self._watches.get(PODS, identity.namespace, account)
        desired = replace(
            desire(
                blueprint,
                key.generation,
                may_start,
                _update(blueprint, spec, live),
                gateway.endpoint,
                image_volumes=await self._uses_image_volumes(blueprint, live),
            ),
            # Who does not hold the key need not end with it: the gateway does not use it any more.
            withdrawn=key.withdrawn and blueprint.gateway is None,
        )
        try:
            observed = await self._observed(identity, desired)
        except ApiError as error:
            message = f"It could not be found out whose pod {account} is: {error}"
            return Outcome(failure=Failure(Reason.RETRYING, message, permanent=False))
        wanted = plan(desired, observed, past)
        # Asked for only where something seems lost, which is seldom: it costs a request.
        if any(step.cause is Cause.HEAL for step in wanted.steps) and await self._is_gone(identity):
            return Outcome(gone=True)
        pace = partial(self._pacer.wait, identity)
        carried = carry_out(self._api, wanted, identity, self._watches.learn, pace, self._admission)
        # The rights are asked for while the objects are written: neither needs the other, and a start waits for both.
        if not self._access.due(identity.namespace, account):
            outcome = await carried
        else:
            outcome, _ = await asyncio.gather(carried, self._access.ask(identity.namespace, account))
        return added(replace(outcome, failure=outcome.failure or refused), gateway.outcome)

    async def _uses_image_volumes(self, blueprint: Blueprint, live: Object | None) -> bool:
        """Whether Claude Code comes by an image volume, where it has to be brought into the pod."""
        if blueprint.tools is None or not blueprint.running:
            return False
        return await self._image_volumes.usable(pod_of(blueprint, None, image_volumes=True), live)

    async def _gateway(self, blueprint: Blueprint) -> Ensured:
        """The namespace's gateway, as far as it is there; nothing for a sandbox that has none."""
        namespace = blueprint.identity.namespace
        if blueprint.gateway is None:
            await self._gateways.remove_unused(namespace)
            return Ensured(None, Outcome())
        found = await self._gateways.ensure(namespace)
        if found.endpoint is not None:
            return found
        # What runs is not told of as another one because the gateway can't be looked at.
        pod = self._watches.get(PODS, namespace, meta.child_name(blueprint.identity.name))
        return replace(found, endpoint=known_endpoint(pod) if pod is not None else None)

    def _refused_pull_secrets(self, blueprint: Blueprint) -> Failure | None:
        """Why the image may not be pulled with what the spec names; nothing is pulled for one that is suspended."""
        namespace, name = blueprint.identity.namespace, blueprint.identity.name
        asked = blueprint.image.pull_secrets if blueprint.running else ()
        return secret_opt_in.refused_pull_secrets(asked, namespace, name, self._watches.namespace(namespace)[1])

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the pod can be worked with now."""
        pod = self._watches.get(PODS, identity.namespace, meta.child_name(identity.name))
        if pod is None or not is_owned(pod, identity) or (known := self._admission.ours(identity, pod)) is None:
            return state_of(None)
        if not terminating(pod):
            found = await self._with_node(await self._with_claim(state_of(pod, known.revision), identity), pod)
            return found if known_endpoint(pod) is None else self._with_gateway(found, identity)
        asked = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
        patience = (asked - self._now()).total_seconds() + NODE_SUSPECTED_AFTER
        lost = patience <= 0 and await self._is_lost(pod)
        # Nobody follows the nodes: what becomes of one is found out by asking.
        again = patience if patience > 0 else NODE_SUSPECTED_AFTER
        return replace(node_lost(pod, known.revision) if lost else state_of(pod, known.revision), again=again)

    def _with_gateway(self, state: WorkloadState, identity: Identity) -> WorkloadState:
        """The state of a pod that has a gateway for its only way out, with what that reports."""
        said = (read(text) for text in self._watches.reports(identity.namespace, identity.uid))
        state = replace(state, report=merged(one for one in said if one is not None))
        if state.status is not ConditionStatus.TRUE:
            return state
        if problem := self._gateways.problem(identity.namespace):
            return replace(state, status=ConditionStatus.FALSE, reason=Reason.GATEWAY_NOT_READY, message=problem)
        return replace(state, message=f"{state.message} Its way out is the gateway {meta.GATEWAY}.")

    async def _with_claim(self, state: WorkloadState, identity: Identity) -> WorkloadState:
        """The state; where no node takes the pod, with what its claim waits for."""
        if state.reason is not Reason.POD_UNSCHEDULABLE:
            return state
        names = meta.workspace_name(identity.name), meta.home_name(identity.name)
        claims = (self._watches.get(PERSISTENT_VOLUME_CLAIMS, identity.namespace, name) for name in names)
        why = " ".join(filter(None, [await self._claims.why_unbound(claim) for claim in claims]))
        return replace(state, message=why, again=volume_claims.AGAIN) if why else state

    async def _with_node(self, state: WorkloadState, pod: Object) -> WorkloadState:
        """The state; where the pod's node can't run it as it asks, with that. Of a node that can't be read nothing."""
        if not wants_users(state, pod):
            return state
        try:
            return without_users(state, pod, await self._node_of(pod))
        except ApiError:
            return state

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, tuple[ConditionStatus, Reason, str], tuple[ConditionStatus, Reason, str]]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        await self._runtime_classes.look(self._pod_of(blueprint.identity))
        evidence = self._evidence(blueprint, spec, outcome)
        namespace, child = blueprint.identity.namespace, meta.child_name(blueprint.identity.name)
        size = self._watches.of(PODS, namespace).limits.size((namespace, child))
        beside = self._gateway_evidence.size(namespace) if blueprint.gateway is not None else 0
        if is_light(evidence, size, beside):
            return measure(evidence)
        return await self._evaluations.run(namespace, lambda: measure(evidence))

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """Owner references have the sandbox's objects collected; what belongs to no single one goes with the last."""
        self._access.forget(namespace, meta.child_name(name))
        self._pacer.forget(namespace, name)
        self._admission.forget(namespace, name)
        if name:
            await self._gateways.let_go(namespace)
        else:
            # What is to be put back is put back by the pass of a sandbox, which tells of it.
            await self._gateways.remove_unused(namespace)
        if self._gateways.wished(namespace) is None:
            self._gateway_evidence.forget(namespace)
        if last:
            await self._baselines.remove(namespace)

    async def _is_gone(self, identity: Identity) -> bool:
        """Whether there is no such sandbox any more.

        What looks like a loss may be the garbage collector at work, of whose reason the watch has not told yet.
        """
        try:
            live = await self._api.get(SANDBOXES, identity.name, identity.namespace, metadata_only=True)
        except ApiError as error:
            return error.is_not_found
        return bool(live["metadata"]["uid"] != identity.uid or terminating(live))

    async def _observed(self, identity: Identity, desired: Desired) -> Observed:
        """What watches tell; and where that does not do, whose the pod is and what admission does. Raises ApiError."""
        namespace, child = identity.namespace, meta.child_name(identity.name)
        get = self._watches.get
        pod = get(PODS, namespace, child)
        known = None if pod is None or not is_owned(pod, identity) else self._admission.ours(identity, pod)
        foreign = False
        if pod is not None and known is None and is_owned(pod, identity):
            foreign = not await self._admission.recognize(identity, desired.pod, pod)
            known = None if foreign else self._admission.ours(identity, pod)
        # A pod that is as it should be, and the first one of a sandbox, cost no request.
        settled = pod is None or known is None or terminating(pod)
        differs = not settled and bool(drift.pod_differences(desired.pod, pod or {}))
        await self._admission.find_out(desired.pod, differs=differs)
        made_from, _, fingerprint = (known.revision if known else "").partition("/")
        wanted = (desired.baseline, desired.account, desired.policy, desired.service, desired.pod)
        return Observed(
            baseline=get(NETWORK_POLICIES, namespace, meta.BASELINE_POLICY),
            account=get(SERVICE_ACCOUNTS, namespace, child),
            policy=get(NETWORK_POLICIES, namespace, child),
            service=get(SERVICES, namespace, child),
            claim=get(PERSISTENT_VOLUME_CLAIMS, namespace, meta.workspace_name(identity.name)),
            home=get(PERSISTENT_VOLUME_CLAIMS, namespace, meta.home_name(identity.name)),
            pod=pod,
            pod_is_foreign=foreign,
            made_from=made_from or None,
            changed_since=bool(pod and fingerprint and fingerprint != making.fingerprint(pod)),
            imposed={f"{one['kind']} {one['metadata']['name']}": self._admission.imposed(one) for one in wanted if one},
        )

    async def _is_lost(self, pod: Object) -> bool:
        """Whether nobody hears from the pod's node, or it is gone."""
        try:
            node = await self._node_of(pod)
        except ApiError as error:
            return error.is_not_found
        if node is None:
            return False
        conditions = node.get("status", {}).get("conditions") or ()
        return not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def _node_of(self, pod: Object) -> Object | None:
        """The pod's node; None where it has none yet. Raises ApiError."""
        name = pod.get("spec", {}).get("nodeName")
        return None if name is None else await self._api.get(NODES, name)

    def _evidence(self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome) -> KubernetesEvidence:
        namespace, child = blueprint.identity.namespace, meta.child_name(blueprint.identity.name)
        pods, accounts = self._watches.of(PODS, namespace), self._watches.of(SERVICE_ACCOUNTS, namespace)
        namespaces, space = self._watches.namespace(namespace)
        quotas = self._all(RESOURCE_QUOTAS, namespace)
        ranges = self._all(LIMIT_RANGES, namespace)
        both = quotas if isinstance(quotas, Unread) else ranges
        if isinstance(quotas, Reading) and isinstance(ranges, Reading):
            both = Reading(quotas.value + ranges.value, quotas.source, min(quotas.observed_at, ranges.observed_at))
        pod = _reading(pods, self._pod_of(blueprint.identity), "there is no pod of the sandbox's")
        return KubernetesEvidence(
            expected=expected(blueprint, spec.profile, self._allowed_registries, self._plain_images),
            pod=pod,
            namespace=_reading(namespaces, space, "the Namespace was not found"),
            policies=self._selecting(NETWORK_POLICIES, pod),
            services=self._selecting(SERVICES, pod),
            slices=self._slices(pod),
            service_account=_reading(accounts, accounts.store.get(namespace, child), "there is no ServiceAccount"),
            access=self._access.known(namespace, child),
            grants=self._watches.rights.of(namespace, child),
            runtime_class=self._runtime_classes.of(pod),
            quotas=both,
            gateway=self._gateway_of(blueprint),
            drift=pod if isinstance(pod, Unread) else Reading(outcome.drifted, pod.source, pod.observed_at),
            outdated=outcome.spec_changed,
            imposed=outcome.imposed,
            now=self._now(),
            max_age=MAX_AGE,
            minor=self._minor,
        )

    def _gateway_of(self, blueprint: Blueprint) -> Reading[Gateway | None] | Unread:
        if blueprint.gateway is None:
            return Reading(None, EvidenceSource.LIVE_OBJECT, self._now())
        return self._gateway_evidence.of(blueprint.identity.namespace)

    def _pod_of(self, identity: Identity) -> Object | None:
        """The sandbox's pod as last seen, if it is one that the operator made."""
        live = self._watches.get(PODS, identity.namespace, meta.child_name(identity.name))
        return live if live is not None and self._admission.ours(identity, live) is not None else None

    def _slices(self, pod: Reading[Object] | Unread) -> Reading[tuple[Object, ...]] | Unread:
        return pod if isinstance(pod, Unread) else _reading(*self._watches.slices(pod.value), "")

    def _selecting(self, resource: Resource, pod: Reading[Object] | Unread) -> Reading[tuple[Object, ...]] | Unread:
        return pod if isinstance(pod, Unread) else _reading(*self._watches.selecting(resource, pod.value), "")

    def _all(self, resource: Resource, namespace: str) -> Reading[tuple[Object, ...]] | Unread:
        informer = self._watches.of(resource, namespace)
        return _reading(informer, informer.store.by_namespace(namespace), "")


def _update(blueprint: Blueprint, spec: ClaudeSandboxSpec, live: Object | None) -> UpdateStrategyType:
    """What runs is not replaced by what can't be made. What never ran, for want of image volumes, is made otherwise."""
    if live is not None and lacks_image_volumes(live):
        return UpdateStrategyType.RECREATE
    return UpdateStrategyType.ON_DELETE if blueprint.held else spec.update_strategy.type


def _reading(informer: Informer, value: T | None, missing: str) -> Reading[T] | Unread:
    if not informer.readable:
        return Unread(f"the operator may not list {informer.resource}")
    if value is None:
        return Unread(missing)
    seen = datetime.fromtimestamp(int(informer.last_contact.wall), UTC)
    return Reading(value, EvidenceSource.LIVE_OBJECT, seen)
