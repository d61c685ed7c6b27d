"""No way in or out, and nothing goes on: a pod in quarantine is ended, once what can be had of it was kept.

Theory of operation. Kubernetes can't freeze a pod, and NetworkPolicies add up: whatever denies, a policy of a tenant's
that allows everything to every pod of the namespace lets it through. So nothing but the pod's end contains it. First
its own policy is made to deny everything, which ends what the spec allowed; at the same time its log is read, and the
agent on its node is asked for its processes and connections, where there is one. All have LOG_TIME seconds at most.
What was read is kept (`keeping.py`). Then the pod is deleted with a second's grace: with none the API server would
forget it while its processes may go on, and nobody could tell. One that was being deleted already, with more grace, is
left no more than that. It is contained when its kubelet says that all its containers have ended, or that the pod is
gone; a node that is silent makes that Unknown.

The workspace is a claim of its own, and stays. Nothing is held. A crash before the pod's deletion has it begin anew; a
crash after that may leave an archive of which no status tells.
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.containment import Containment, Evidence, as_file
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.node_agents.answers import MisunderstoodError
from claude_sandbox.backends.kubernetes.node_agents.asking import AskingError
from claude_sandbox.backends.kubernetes.node_agents.told_evidence import PROCESSES
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_logs import log_parts
from claude_sandbox.kubernetes_api.resources import NETWORK_POLICIES, PODS
from claude_sandbox.kubernetes_api.unstructured import Object, terminating

LOG_TIME = 1.0
"""Seconds that the log and the agent may take: the pod goes on meanwhile."""
LARGEST_LOGS = 8 << 20
"""Bytes of a pod's logs, of each container's the last."""
_LINES = 20000
GRACE = 1
"""Seconds that processes get to end by themselves; a second is the least with which the kubelet has the last word."""
SILENT_AFTER = 30.0
"""Seconds after which a pod that is still there is no longer waited for: its node is silent."""
_OF_THE_NODE = "only a pod's node knows of them"
_TOLD = "what the agent on its node tells"
logger = logging.getLogger(__name__)


@dataclass
class Found:
    """What was there before anything was done, and what was done."""

    evidence: Evidence = field(default_factory=Evidence)
    did: list[str] = field(default_factory=list)


def live_pod(watches: Watches, identity: Identity) -> Object | None:
    """The sandbox's pod as last seen."""
    pod = watches.get(PODS, identity.namespace, meta.child_name(identity.name))
    return pod if pod is not None and is_owned(pod, identity) else None


def not_had(files: Collection[str]) -> str:
    """What nobody could tell of a pod whose evidence has these files."""
    if PROCESSES in files:
        return f"changed files, memory: {_OF_THE_NODE}"
    return f"processes, open connections, counters, changed files, memory: {_OF_THE_NODE}"


async def before_the_end(
    api: Api, watches: Watches, node_agents: NodeAgents | None, identity: Identity, pod: Object, most: int
) -> Found:
    """Deny everything, and read what goes with the pod, no more than so many bytes of its logs and of what its node
    tells; with 0 nothing is to be read. What failed is said, and not raised."""
    found = Found()
    of_kernel = most // 4 if node_agents is not None else 0
    reading: dict[str, Awaitable[None]] = {}
    if most:
        reading["logs"] = _logs(api, identity, pod, found.evidence, most - of_kernel)
        reading["pod.json"] = _whole(api, identity, pod, found.evidence)
        if node_agents is not None:
            reading[_TOLD] = _kernel(node_agents, pod, found.evidence, of_kernel)
    guarded = (_or_missing(what, one, found.evidence) for what, one in reading.items())
    await asyncio.gather(_deny(api, watches, identity, found), *guarded)
    found.evidence.missing.insert(0, not_had(found.evidence.files))
    return found


async def _or_missing(what: str, reading: Awaitable[None], evidence: Evidence) -> None:
    """Read it. Whatever goes wrong is told with the evidence: the pod is ended all the same."""
    try:
        await reading
    except Exception as error:
        logger.warning("evidence could not be read", exc_info=True)
        evidence.missing.append(f"{what}: {mishap(error)}")


async def end(api: Api, watches: Watches, identity: Identity, pod: Object) -> None:
    """Delete the pod. Raises ApiError."""
    metadata = pod["metadata"]
    try:
        # This very pod, of which was kept what could be had.
        left = await api.delete(PODS, metadata["name"], identity.namespace, uid=metadata["uid"], grace_seconds=GRACE)
    except ApiError as error:
        if not error.is_not_found:
            raise
        return
    if (left.get("metadata") or {}).get("deletionTimestamp"):
        # Or what is judged next would be a pod that nobody told to end.
        watches.learn(PODS, left)


def ends_soon(pod: Object) -> bool:
    """Whether it was told to end, with no more grace than an incident leaves it."""
    return terminating(pod) and int(pod["metadata"].get("deletionGracePeriodSeconds") or 0) <= GRACE


def _has_ended(pod: Object) -> bool:
    """Whether its kubelet says that nothing of it runs, and, by its phase, that nothing of it will.

    Of a pod that is being deleted the phase is written after the last container's end (KEP-3329). What follows, until
    the pod is gone, are its volumes and its control group.
    """
    status = pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    told = [one for kind in kinds for one in status.get(kind) or ()]
    # Also those beside the agent, and what somebody attached to it.
    going = [one for one in told if "running" in (one.get("state") or {})]
    return status.get("phase") in ("Succeeded", "Failed") and bool(told) and not going


def judged(pod: Object | None, now: datetime, did: tuple[str, ...] = ()) -> Containment:
    """Whether it is contained, by what is seen of its pod."""
    if pod is None:
        return Containment(ConditionStatus.TRUE, "it has no pod", did)
    if not terminating(pod):
        return Containment(ConditionStatus.FALSE, "its pod has not been told to end", did)
    if _has_ended(pod):
        return Containment(ConditionStatus.TRUE, "its containers have ended, as its node's kubelet says", did)
    asked = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
    # The deletion's time is that at which the grace has run out.
    if (now - asked).total_seconds() > SILENT_AFTER:
        node = (pod.get("spec") or {}).get("nodeName")
        message = f"node {node} does not say that its pod has ended: cut the node off, or switch it off"
        return Containment(ConditionStatus.UNKNOWN, message, did)
    return Containment(ConditionStatus.FALSE, "its pod is being killed", did)


def _why(error: Exception) -> str:
    # That time has run out has no words.
    return str(error) or "no answer in time"


async def _deny(api: Api, watches: Watches, identity: Identity, found: Found) -> None:
    name = meta.child_name(identity.name)
    live = watches.get(NETWORK_POLICIES, identity.namespace, name)
    if live is None or not is_owned(live, identity):
        # What denies everything is the namespace's own policy.
        return
    found.evidence.files["policy.json"] = as_file(live)
    spec = {"policyTypes": ["Ingress", "Egress"], "ingress": None, "egress": None}
    # A merge patch, not an apply: what others added to the rules goes as well.
    patch = {"metadata": {"uid": live["metadata"]["uid"]}, "spec": spec}
    try:
        async with asyncio.timeout(LOG_TIME):
            watches.learn(NETWORK_POLICIES, await api.patch(NETWORK_POLICIES, name, identity.namespace, patch))
        found.did.append(f"NetworkPolicy {name} denies everything")
    except (ApiError, TimeoutError) as error:
        found.did.append(f"NetworkPolicy {name} could not be made to deny everything: {_why(error)}")


async def _kernel(node_agents: NodeAgents, pod: Object, evidence: Evidence, most: int) -> None:
    """What the agent on its node tells, if it does in time: the pod ends whether it does or not."""
    try:
        async with asyncio.timeout(LOG_TIME):
            told = await node_agents.evidence(pod, most)
    except (AskingError, ApiError, MisunderstoodError, TimeoutError) as error:
        evidence.missing.append(f"{_TOLD}: {_why(error)}")
        return
    evidence.files |= told.files
    evidence.missing += told.missing


async def _whole(api: Api, identity: Identity, pod: Object, evidence: Evidence) -> None:
    """The pod with all that the server knows of it; what is kept of it in here is less."""
    try:
        async with asyncio.timeout(LOG_TIME):
            pod = await api.get(PODS, str(pod["metadata"]["name"]), identity.namespace)
    except (ApiError, TimeoutError) as error:
        evidence.missing.append(f"parts of pod.json: {_why(error)}")
    evidence.files["pod.json"] = as_file(pod)


async def _logs(api: Api, identity: Identity, pod: Object, evidence: Evidence, most: int) -> None:
    spec = pod.get("spec") or {}
    names = [str(one["name"]) for kind in ("initContainers", "containers") for one in spec.get(kind) or ()]
    each, of = most // max(1, len(names)), str(pod["metadata"]["name"])
    await asyncio.gather(*(_log(api, identity, of, name, evidence, each) for name in names))


async def _log(api: Api, identity: Identity, pod: str, container: str, evidence: Evidence, most: int) -> None:
    path, parts = f"{container}/log", bytearray()
    try:
        async with asyncio.timeout(LOG_TIME):
            log = log_parts(api, identity.namespace, pod, container, tail=_LINES, timestamps=True)
            async with aclosing(log):
                async for part in log:
                    parts += part
                    # As it comes: a log may be longer than the operator's memory.
                    # The end is kept, which is nearest to what happened.
                    del parts[: max(0, len(parts) - most)]
    except ApiError as error:
        evidence.missing.append(f"{path}: {error}")
    except TimeoutError:
        evidence.missing.append(f"{path}: what was not read within {LOG_TIME:.0f} s")
    if parts:
        evidence.files[path] = bytes(parts)
