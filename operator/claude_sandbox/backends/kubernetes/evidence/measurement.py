"""What is measured of a sandbox on Kubernetes: evidence out of watches and reviews, judged in time.

Everything that a control may ask for is gathered here, each piece with its source and its moment, or why it could not
be read. Holds what was looked up for the evidence (RuntimeClasses) and the evaluations that wait for their thread.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status import Compliance, EvidenceSource
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.kubernetes.admission import PodAdmission
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.evidence.evaluation import Evaluations, is_light
from claude_sandbox.backends.kubernetes.evidence.gateways import GatewayEvidence
from claude_sandbox.backends.kubernetes.evidence.runtime_classes import RuntimeClasses
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.probing.probes import PodProbes
from claude_sandbox.backends.kubernetes.watches.watches import MAX_AGE, Watches
from claude_sandbox.backends.probing.schedule import UNDER_WAY
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.compliance.evidence.exemptions import exemptions_of
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.isolation import Judgement
from claude_sandbox.compliance.reports.pods import measure
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informers.informer import Informer
from claude_sandbox.kubernetes_api.resources import (
    LIMIT_RANGES,
    NETWORK_POLICIES,
    PODS,
    RESOURCE_QUOTAS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Object

T = TypeVar("T")


class Measurement:
    """Of the sandboxes of one backend. `minor`: the API server's version; `allowed_registries`, `plain_images`: where
    images may be from, and which of them have Claude Code brought to them.
    """

    def __init__(
        self,
        api: Api,
        watches: Watches,
        access: AccessReviews,
        admission: PodAdmission,
        gateways: GatewayEvidence,
        probes: PodProbes | None,
        node_agents: NodeAgents | None,
        *,
        minor: int,
        allowed_registries: tuple[str, ...],
        plain_images: frozenset[str],
        now: Callable[[], datetime],
    ) -> None:
        self._watches = watches
        self._access = access
        self._admission = admission
        self._gateway_evidence = gateways
        self._probes = probes
        self._node_agents = node_agents
        self._runtime_classes = RuntimeClasses(api)
        self._evaluations = Evaluations()
        self._minor = minor
        self._allowed_registries = allowed_registries
        self._plain_images = plain_images
        self._now = now

    async def of(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        pod = self._pod_of(blueprint.identity)
        # What costs a request first, so that nothing awaits while the stores are read: they are of one moment then.
        await self._runtime_classes.look(pod)
        if self._node_agents is not None:
            await self._node_agents.look(blueprint.identity.namespace, blueprint.identity.name, pod)
        evidence = self._probed(self._evidence(blueprint, spec, outcome), blueprint)
        namespace, child = blueprint.identity.namespace, meta.child_name(blueprint.identity.name)
        size = self._watches.of(PODS, namespace).limits.size((namespace, child))
        beside = self._gateway_evidence.size(namespace) if blueprint.gateway is not None else 0
        if is_light(evidence, size, beside):
            return measure(evidence)
        return await self._evaluations.run(namespace, lambda: measure(evidence))

    def _evidence(self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome) -> KubernetesEvidence:
        namespace, child = blueprint.identity.namespace, meta.child_name(blueprint.identity.name)
        pods, accounts = self._watches.of(PODS, namespace), self._watches.of(SERVICE_ACCOUNTS, namespace)
        namespaces, space = self._watches.namespace(namespace)
        quotas = self._all(RESOURCE_QUOTAS, namespace)
        ranges = self._all(LIMIT_RANGES, namespace)
        # Of either unread, both are: a namespace may be bounded by the one or the other.
        both = quotas if isinstance(quotas, Unread) else ranges
        if isinstance(quotas, Reading) and isinstance(ranges, Reading):
            both = Reading(quotas.value + ranges.value, quotas.source, min(quotas.observed_at, ranges.observed_at))
        pod = _reading(pods, self._pod_of(blueprint.identity), "there is no pod of the sandbox's")
        return KubernetesEvidence(
            expected=expected(
                blueprint,
                spec.profile,
                self._allowed_registries,
                self._plain_images,
                spec.compliance.level,
                exemptions_of(spec.compliance),
            ),
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
            plugin_policies=self._plugin_policies(namespace),
            kernel=self._node_agents.known(namespace, blueprint.identity.name) if self._node_agents else None,
            now=self._now(),
            max_age=MAX_AGE,
            minor=self._minor,
        )

    def _probed(self, evidence: KubernetesEvidence, blueprint: Blueprint) -> KubernetesEvidence:
        """The evidence with what is known of what can be reached; where that is nothing, a probe is begun."""
        if self._probes is None:
            return evidence
        found = self._probes.known(blueprint, self._pod_of(blueprint.identity))
        age, under_way = self._probes.max_age, found is UNDER_WAY
        return replace(evidence, probe=found, probe_max_age=age, probe_under_way=under_way)

    def _gateway_of(self, blueprint: Blueprint) -> Reading[Gateway | None] | Unread:
        if blueprint.gateway is None:
            return Reading(None, EvidenceSource.LIVE_OBJECT, self._now())
        return self._gateway_evidence.of(blueprint.identity.namespace)

    def _pod_of(self, identity: Identity) -> Object | None:
        """The sandbox's pod as last seen, if it is one that the operator made."""
        live = self._watches.get(PODS, identity.namespace, meta.child_name(identity.name))
        # A pod that somebody else made would be measured in place of ours, and pass.
        return live if live is not None and self._admission.ours(identity, live) is not None else None

    def _plugin_policies(self, namespace: str) -> Reading[tuple[Object, ...]] | Unread | None:
        followed = self._watches.plugin_policies
        return followed.of(namespace) if followed is not None else None

    def _slices(self, pod: Reading[Object] | Unread) -> Reading[tuple[Object, ...]] | Unread:
        return pod if isinstance(pod, Unread) else _reading(*self._watches.slices(pod.value), "")

    def _selecting(self, resource: Resource, pod: Reading[Object] | Unread) -> Reading[tuple[Object, ...]] | Unread:
        return pod if isinstance(pod, Unread) else _reading(*self._watches.selecting(resource, pod.value), "")

    def _all(self, resource: Resource, namespace: str) -> Reading[tuple[Object, ...]] | Unread:
        informer = self._watches.of(resource, namespace)
        return _reading(informer, informer.store.by_namespace(namespace), "")


def _reading(informer: Informer, value: T | None, missing: str) -> Reading[T] | Unread:
    if not informer.readable:
        return Unread(f"the operator may not list {informer.resource}")
    if value is None:
        return Unread(missing)
    # When the server was heard last, not when the object changed: until then it is known to be as it is. Rounded down,
    # so that it is never said to be newer.
    seen = datetime.fromtimestamp(int(informer.last_contact.wall), UTC)
    return Reading(value, EvidenceSource.LIVE_OBJECT, seen)
