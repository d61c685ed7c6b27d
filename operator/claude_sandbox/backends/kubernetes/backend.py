"""The Kubernetes backend: observes through watches, applies through the API server, hands evidence to compliance.

Theory of operation. Holds its parts, each of which says what it holds itself, and nothing of a sandbox beside them.
`ensure` is one pass: the namespace's baseline policy is not removed meanwhile (`baseline.py`); then comes the gateway,
whose address a pod has to know when it is made; then what `plan` says of what the watches tell. Called by the one pass
at work on a sandbox, on the event loop; passes of different sandboxes run side by side, and meet in the gateway's turns
and in the watches. A crash at any write leaves what `plan` finds again.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.work.workspace import MOST_INSTANCES
from claude_sandbox.api.spec import ClaudeSandboxSpec, UpdateStrategyType
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Cause, Failure, KeyState, Outcome, Past, Trial, WorkloadState, set_aside
from claude_sandbox.backends.containment import ROOM, Containment, Evidence, Kept
from claude_sandbox.backends.kubernetes import admission as making
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.admission import PodAdmission, Recorded, nothing_recorded
from claude_sandbox.backends.kubernetes.apply import carry_out
from claude_sandbox.backends.kubernetes.baseline import BaselinePolicies
from claude_sandbox.backends.kubernetes.containment import keeping, stopping
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.evidence.gateways import GatewayEvidence
from claude_sandbox.backends.kubernetes.evidence.measurement import Measurement
from claude_sandbox.backends.kubernetes.gateway.gateways import Ensured, Gateways, Wanted, added
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering
from claude_sandbox.backends.kubernetes.image_volumes import ImageVolumes
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.objects import known_endpoint
from claude_sandbox.backends.kubernetes.objects import pod as pod_of
from claude_sandbox.backends.kubernetes.ownership import is_owned, is_retained_claim
from claude_sandbox.backends.kubernetes.plan import Desired, Observed, desire, plan
from claude_sandbox.backends.kubernetes.pod_states import PodStates
from claude_sandbox.backends.kubernetes.probing.probes import PodProbes
from claude_sandbox.backends.kubernetes.tools import lacks_image_volumes
from claude_sandbox.backends.kubernetes.trials.trials import KubernetesTrials
from claude_sandbox.backends.kubernetes.watches import secret_opt_in
from claude_sandbox.backends.kubernetes.watches.secrets import SecretStates
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.reports.isolation import Judgement
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SANDBOXES,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from claude_sandbox.kubernetes_api.unstructured import Object, terminating


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
        probes: PodProbes | None = None,
        node_agents: NodeAgents | None = None,
        evidence_namespace: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._watches = watches
        self._access = access
        self._secrets = SecretStates(api, watches)
        self._pacer = pacer
        self._admission = PodAdmission(api, recorded)
        self._image_volumes = ImageVolumes(api)
        self._trials = KubernetesTrials(api)
        self._baselines = BaselinePolicies(api, watches)
        self._gateways = Gateways(api, watches, self._admission, brokering, brokered, now, lent_by_address)
        self._gateway_evidence = GatewayEvidence(watches, self._gateways, brokering, named or brokered, minor)
        self._states = PodStates(api, watches, self._admission, self._gateways, node_agents, now)
        self._measurement = Measurement(
            api,
            watches,
            access,
            self._admission,
            self._gateway_evidence,
            probes,
            node_agents,
            minor=minor,
            allowed_registries=allowed_registries,
            plain_images=plain_images,
            now=now,
        )
        self._probes = probes
        self._node_agents = node_agents
        self._evidence_namespace = evidence_namespace
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
        # Before anything is made: the older workspace would be taken for the present one.
        there = self._workspaces(identity)
        highest = max(there, default=1)
        if (aside := self._set_aside(blueprint, there)) is not None:
            return Outcome(failure=aside, workspaces=highest)
        refused = self._refused_pull_secrets(blueprint)
        # First: a pod has to know its gateway's address and authority when it is made.
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
        outcome = replace(outcome, failure=outcome.failure or refused, workspaces=highest)
        return added(outcome, gateway.outcome)

    def _workspaces(self, identity: Identity) -> dict[int, Object]:
        """The claims of the sandbox's workspaces that there are beyond the first, by their numbers."""
        names = {number: meta.workspace_name(identity.name, number) for number in range(2, MOST_INSTANCES + 1)}
        get = partial(self._watches.get, PERSISTENT_VOLUME_CLAIMS, identity.namespace)
        return {number: live for number, name in names.items() if (live := get(name)) is not None}

    def _set_aside(self, blueprint: Blueprint, there: Mapping[int, Object]) -> Failure | None:
        """That a sandbox that says no number would get a workspace that was set aside for another."""
        identity = blueprint.identity
        if identity.workspace is not None or blueprint.workspace.volume is None:
            return None
        others = [one for one in there.values() if is_owned(one, identity) or is_retained_claim(one, identity)]
        return set_aside(f"PersistentVolumeClaim {others[-1]['metadata']['name']}") if others else None

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
        found = await self._states.of(identity)
        return replace(found, certificate_ends=self._gateways.certificate_ends(identity.namespace))

    def certificates_end(self) -> dict[str, datetime]:
        """When the certificate of each namespace's gateway ends, were it not renewed until then."""
        return self._gateways.certificates_end()

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        return await self._measurement.of(blueprint, spec, outcome)

    async def contain(self, identity: Identity, since: datetime, more: Mapping[str, bytes] | None) -> Containment:
        """End the sandbox's pod, after what goes with it was kept, with `more` files; None: nothing is to be kept."""
        pod = stopping.live_pod(self._watches, identity)
        # Nothing more can be had of it, and nothing has to be done.
        if pod is None or stopping.ends_soon(pod):
            return stopping.judged(pod, self._now())
        if more is None:
            return await self._ended(identity, since, pod, None, 0)
        with ROOM.share(stopping.LARGEST_LOGS) as most:
            return await self._ended(identity, since, pod, more, most)

    async def _ended(
        self, identity: Identity, since: datetime, pod: Object, more: Mapping[str, bytes] | None, most: int
    ) -> Containment:
        found = await stopping.before_the_end(self._api, self._watches, self._node_agents, identity, pod, most)
        found.evidence.files |= more or {}
        # Before its end: the API server forgets the pod's log and document with the pod.
        kept = await self._keep(identity, since, found.evidence) if more is not None else None
        try:
            await stopping.end(self._api, self._watches, identity, pod)
            found.did.append(f"told pod {pod['metadata']['name']} to end")
        except ApiError as error:
            return Containment(ConditionStatus.FALSE, f"its pod can't be ended: {error}", tuple(found.did), kept=kept)
        seen = stopping.judged(stopping.live_pod(self._watches, identity), self._now(), tuple(found.did))
        return replace(seen, found=found.evidence.files, kept=kept)

    async def keep_evidence(self, identity: Identity, since: datetime, more: Mapping[str, bytes]) -> Kept:
        """Keep what was found before the pod's end, where that could not be kept then."""
        return await self._keep(identity, since, Evidence(dict(more), [stopping.not_had(more)]))

    async def _keep(self, identity: Identity, since: datetime, what: Evidence) -> Kept:
        return await keeping.as_said(self._api, self._evidence_namespace, identity, what, since, self._now)

    async def release(self, identity: Identity) -> Failure | None:
        """What was contained has ended; another pod may be made as soon as it is gone."""
        pod = stopping.live_pod(self._watches, identity)
        if pod is None or not terminating(pod):
            return None
        message = "The pod that was in quarantine has not ended yet."
        return Failure(Reason.RETRYING, message, permanent=False)

    async def tried(self, identity: Identity) -> Trial:
        """What is seen of an image that is tried beside the pod."""
        return await self._trials.look(identity)

    async def try_beside(self, canary: Blueprint, spec: ClaudeSandboxSpec, seconds: float) -> Trial:
        """Have the canary's image tried, which ends by itself; a trial of another image ends."""
        identity = canary.identity
        if (refused := self._refused_pull_secrets(canary)) is not None:
            return Trial(message=refused.message)
        live = self._watches.get(PODS, identity.namespace, meta.child_name(identity.name))
        image_volumes = await self._uses_image_volumes(canary, live)
        return await self._trials.begin(canary, seconds, image_volumes=image_volumes)

    async def end_trial(self, identity: Identity) -> bool:
        """Whether nothing of a trial is left."""
        return await self._trials.end(identity)

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """Owner references have the sandbox's objects collected; what belongs to no single one goes with the last."""
        self._access.forget(namespace, meta.child_name(name))
        self._pacer.forget(namespace, name)
        self._admission.forget(namespace, name)
        self._states.forget(namespace, name)
        if self._probes is not None:
            await self._probes.forget_name(namespace, name)
        if self._node_agents is not None:
            self._node_agents.forget(namespace, name)
        if name:
            await self._gateways.let_go(namespace)
        else:
            # What is to be put back is put back by the pass of a sandbox, which tells of it.
            await self._gateways.remove_unused(namespace)
        if self._gateways.wished(namespace) is None:
            self._gateway_evidence.forget(namespace)
        # Last of all, and only where no pod is left: until then it is what denies.
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
            # Owned by this sandbox and named by nothing: our own from before a crash, or a tenant's that took the
            # owner's name.
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
            claim=get(PERSISTENT_VOLUME_CLAIMS, namespace, meta.workspace_name(identity.name, identity.workspace)),
            home=get(PERSISTENT_VOLUME_CLAIMS, namespace, meta.home_name(identity.name, identity.workspace)),
            pod=pod,
            pod_is_foreign=foreign,
            made_from=made_from or None,
            changed_since=bool(pod and fingerprint and fingerprint != making.fingerprint(pod)),
            imposed={f"{one['kind']} {one['metadata']['name']}": self._admission.imposed(one) for one in wanted if one},
        )


def _update(blueprint: Blueprint, spec: ClaudeSandboxSpec, live: Object | None) -> UpdateStrategyType:
    """What runs is not replaced by what can't be made. What never ran, for want of image volumes, is made otherwise."""
    if live is not None and lacks_image_volumes(live):
        return UpdateStrategyType.RECREATE
    return UpdateStrategyType.ON_DELETE if blueprint.held else spec.update_strategy.type
