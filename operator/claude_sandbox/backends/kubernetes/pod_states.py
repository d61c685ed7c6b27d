"""What the pod of a sandbox is like now, with what its node, its claims and its gateway say of it.

Watches tell of the pod; of its node nothing tells, so it is asked for where it matters, and again after a while.
Holds what StorageClasses were like, and what was said last of a pod that is short of something.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.backends.gateway_reports import merged, read
from claude_sandbox.backends.kubernetes.admission import Pod, PodAdmission
from claude_sandbox.backends.kubernetes.evidence import volume_claims
from claude_sandbox.backends.kubernetes.gateway.gateways import Gateways
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.node_agents.counted import agents_container, cpu_use, pressure_in
from claude_sandbox.backends.kubernetes.objects import known_endpoint
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.backends.kubernetes.state import node_lost, state_of, wants_users, without_users
from claude_sandbox.backends.kubernetes.watches.watches import MAX_AGE, Watches
from claude_sandbox.backends.pressure import LastSaid
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
)
from claude_sandbox.kubernetes_api.unstructured import Object, terminating

NODE_SUSPECTED_AFTER = 30.0
"""After the grace period that a terminating pod has, in seconds, before its node is suspected."""


class PodStates:
    """Of the sandboxes of one backend."""

    def __init__(
        self,
        api: Api,
        watches: Watches,
        admission: PodAdmission,
        gateways: Gateways,
        node_agents: NodeAgents | None,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._watches = watches
        self._admission = admission
        self._gateways = gateways
        self._node_agents = node_agents
        self._short = LastSaid(clock)
        self._claims = volume_claims.StorageClasses(api)
        self._now = now

    async def of(self, identity: Identity) -> WorkloadState:
        """Whether the pod can be worked with now."""
        pod = self._watches.get(PODS, identity.namespace, meta.child_name(identity.name))
        if pod is None or not is_owned(pod, identity) or (known := self._admission.ours(identity, pod)) is None:
            return state_of(None)
        if not terminating(pod):
            found = await self._with_claim(await self._running(identity, pod, known), identity)
            found = await self._with_node(found, pod)
            return found if known_endpoint(pod) is None else self._with_gateway(found, identity)
        asked = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
        patience = (asked - self._now()).total_seconds() + NODE_SUSPECTED_AFTER
        # The grace is the pod's own to use; only after it is the node asked for.
        lost = patience <= 0 and await self._is_lost(pod)
        # Nobody follows the nodes: what becomes of one is found out by asking.
        again = patience if patience > 0 else NODE_SUSPECTED_AFTER
        return replace(node_lost(pod, known.revision) if lost else state_of(pod, known.revision), again=again)

    def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""
        self._short.forget((namespace, name))

    async def _running(self, identity: Identity, pod: Object, known: Pod) -> WorkloadState:
        """The state of a pod, with what the kernel of its node has counted where an agent there tells it."""
        if self._node_agents is None:
            return state_of(pod, known.revision)
        await self._node_agents.look(identity.namespace, identity.name, pod)
        counted = self._node_agents.counted(identity.namespace, identity.name)
        short = self._short.said((identity.namespace, identity.name), agents_container(pod), pressure_in(pod, counted))
        return replace(state_of(pod, known.revision, short), cpu=cpu_use(pod, counted))

    def _with_gateway(self, state: WorkloadState, identity: Identity) -> WorkloadState:
        """The state of a pod that has a gateway for its only way out, with what that reports."""
        said = (read(text) for text in self._watches.reports(identity.namespace, identity.uid))
        heard = self._watches.hears(identity.namespace, MAX_AGE)
        state = replace(state, report=merged(one for one in said if one is not None), heard=heard)
        if state.status is not ConditionStatus.TRUE:
            return state
        if problem := self._gateways.problem(identity.namespace):
            return replace(state, status=ConditionStatus.FALSE, reason=Reason.GATEWAY_NOT_READY, message=problem)
        return replace(state, message=f"{state.message} Its way out is the gateway {meta.GATEWAY}.")

    async def _with_claim(self, state: WorkloadState, identity: Identity) -> WorkloadState:
        """The state; where no node takes the pod, with what its claim waits for."""
        if state.reason is not Reason.POD_UNSCHEDULABLE:
            return state
        of = identity.name, identity.workspace
        names = meta.workspace_name(*of), meta.home_name(*of)
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

    async def _is_lost(self, pod: Object) -> bool:
        """Whether nobody hears from the pod's node, or it is gone."""
        try:
            node = await self._node_of(pod)
        except ApiError as error:
            return error.is_not_found
        if node is None:
            return False
        conditions = node.get("status", {}).get("conditions") or ()
        # Unknown is what the node controller writes of one that it does not hear.
        return not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def _node_of(self, pod: Object) -> Object | None:
        """The pod's node; None where it has none yet. Raises ApiError."""
        name = pod.get("spec", {}).get("nodeName")
        return None if name is None else await self._api.get(NODES, name)
