"""What a live pod says about the sandbox: can it be worked with, and if not, why and what to do. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from claude_sandbox.api import meta
from claude_sandbox.api.clip import clip
from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import Cloning, WorkloadState
from claude_sandbox.backends.cloning import outcomes_of, wished
from claude_sandbox.backends.kubernetes.hardening import missing_profile
from claude_sandbox.backends.kubernetes.objects import CLONE_CONTAINER, CONTAINER
from claude_sandbox.backends.kubernetes.tools import has_tools
from claude_sandbox.backends.pressure import NOTHING_SHORT, Pressure, clauses
from claude_sandbox.blueprint.agent import WORKSPACE
from claude_sandbox.blueprint.repositories import REPOSITORIES_VARIABLE
from claude_sandbox.blueprint.tools import NO_SHELL, UNUSABLE
from claude_sandbox.kubernetes_api.unstructured import Object, annotations, terminating

WITHOUT_USERS_AGAIN = 60.0
"""Seconds after which a node is asked once more whether it can give pods users of their own."""
OUT_OF_MEMORY = (
    "its container was ended and started again, since it needed more memory than spec.resources.memory: raise that, or "
    "have less done at a time"
)
EVICTED_FOR_ROOM = (
    "its pod was evicted, since it or its node had no room for files left: have files removed, or raise"
    " spec.resources.ephemeralStorage, and spec.workspace.size of an EmptyDir"
)
EVICTED_FOR_MEMORY = "its pod was evicted, since its node had no memory left: have the node's administrator see to that"
_PROCESSES = "its node lets a pod have (podPidsLimit)"
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_IMAGE_REMEDY = "See spec.image, for a private registry with pullSecretRefs; without it the image is the operator's."
_WORDS = 170
"""Bytes of others' words in a message, so that the remedy behind them is not cut."""
_CONFIG_REASONS = frozenset({"CreateContainerConfigError"})
# What a node refuses a pod for that runs elsewhere (k8s.io/kubernetes, pkg/kubelet/lifecycle/predicate.go).
_REMEDIES = {
    "SupplementalGroupsPolicyNotSupported": " Give the node containerd 2.0, CRI-O 1.31 or newer, or start the operator "
    "with --supplemental-groups-policy=Merge, with which control PRIV-05 can't be sure of the groups.",
}
_CRASH_REASONS = frozenset({"CrashLoopBackOff", "RunContainerError", "CreateContainerError", "StartError"})


def state_of(pod: Object | None, revision: str | None = None, seen: Pressure = NOTHING_SHORT) -> WorkloadState:
    """The state of the sandbox's pod, None where there is none. `revision`: what is known of how it was made; `seen`:
    what the kernel of its node shows to be short."""
    if pod is None:
        return WorkloadState(ConditionStatus.FALSE, Reason.NO_WORKLOAD, "There is no pod.")
    status, reason, message = _readiness(pod)
    strained, pressure = _strained(pod, status, seen)
    return WorkloadState(
        status,
        reason,
        f"{message} But {'; '.join(pressure)}." if pressure and status is ConditionStatus.TRUE else message,
        pressure=pressure,
        strained=strained,
        cloning=_cloning(pod),
        workload=_workload(pod, revision),
        key_generation=annotations(pod).get(meta.ANNOTATION_KEY_GENERATION),
    )


def node_lost(pod: Object, revision: str | None = None) -> WorkloadState:
    """The state of a pod that can't end because nobody hears from its node."""
    node = pod["spec"]["nodeName"]
    message = (
        f"Node {node} is lost, and the pod may still run there: no second one is made, since both could write to one "
        f"workspace. Bring the node back, or make sure that it is off and delete it with `kubectl delete node {node}`."
    )
    return replace(state_of(pod, revision), status=ConditionStatus.UNKNOWN, reason=Reason.NODE_LOST, message=message)


def wants_users(state: WorkloadState, pod: Object) -> bool:
    """Whether the pod is on its way and asks for users of its own, so that it matters what its node can do."""
    return state.reason is Reason.POD_PENDING and pod.get("spec", {}).get("hostUsers") is False


def without_users(state: WorkloadState, pod: Object, node: Object | None) -> WorkloadState:
    """The state of a pod that asks for users of its own; where its node says that it can't give any, with that.

    The kubelet tries for ever, and tells in Events alone. What a node tells is NodeStatus.runtimeHandlers, which is
    empty where the runtime tells nothing (k8s.io/api/core/v1).
    """
    told = ((node or {}).get("status") or {}).get("runtimeHandlers") or ()
    if not told or any((one.get("features") or {}).get("userNamespaces") for one in told):
        return state
    message = (
        f"Node {pod['spec']['nodeName']} can't give pod {pod['metadata']['name']} users of its own: its kernel or its"
        " runtime does not support user namespaces. Have an administrator give it Linux 6.3 and containerd 2.0, CRI-O"
        " 1.25 or newer, or remove spec.security.userNamespace."
    )
    return replace(state, reason=Reason.CONTAINER_FAILING, message=message, again=WITHOUT_USERS_AGAIN)


def keeps_starting(before: Object, now: Object) -> bool:
    """Whether the pod is on its way as it was before: a node took it, or the kubelet got a step further."""
    return (
        all(_readiness(pod)[1] is Reason.POD_PENDING for pod in (before, now))
        and _without(before["metadata"], "resourceVersion", "generation")
        == _without(now["metadata"], "resourceVersion", "generation")
        and _without(before["spec"], "nodeName") == _without(now["spec"], "nodeName")
    )


def _without(fields: Object, *names: str) -> Object:
    return {name: value for name, value in fields.items() if name not in names}


def _readiness(pod: Object) -> tuple[ConditionStatus, Reason, str]:
    name = pod["metadata"]["name"]
    status = pod.get("status", {})
    if terminating(pod):
        message = f"Pod {name} is terminating; a new one is made when it is gone."
        return ConditionStatus.FALSE, Reason.POD_TERMINATING, message
    # Before what its containers say one by one: the first of them may be what clones.
    if missing := missing_profile(pod):
        return ConditionStatus.FALSE, Reason.PROFILE_MISSING, missing
    if status.get("phase") in ("Failed", "Succeeded"):
        why = str(status.get("message") or status.get("reason") or "its container ended").rstrip(".")
        remedy = _REMEDIES.get(status.get("reason"), "")
        return ConditionStatus.FALSE, Reason.POD_FAILED, f"Pod {name} ended: {why}.{remedy}"
    if (ready := _condition(pod, "Ready")) and ready.get("status") == "True":
        return ConditionStatus.TRUE, Reason.SANDBOX_READY, f"Claude Code can run in pod {name}."
    if (scheduled := _condition(pod, "PodScheduled")) and scheduled.get("status") == "False":
        why = scheduled.get("message") or scheduled.get("reason") or "no reason given"
        message = f"No node takes pod {name}: {clip(why.rstrip('.'), _WORDS)}."
        if "Insufficient" in why:
            message += " Ask for less in spec.resources, or have an administrator add a node with room."
        return ConditionStatus.FALSE, Reason.POD_UNSCHEDULABLE, message
    for problem in _waiting(pod):
        return ConditionStatus.FALSE, *problem
    if (cloning := _cloning(pod)) is not None and not cloning.done:
        message = f"Pod {name} waits for its repositories: see the condition RepositoriesReady."
        return ConditionStatus.FALSE, Reason.REPOSITORIES_NOT_READY, message
    if status.get("phase") == "Running":
        message = f"Pod {name} runs, but Claude Code does not answer in it yet."
        if _started(pod):
            message = (
                f"Pod {name} runs, but Claude Code can't work in it: it has no key, or no room in its home, /tmp or "
                "workspace (have files removed, or raise spec.resources.memory or spec.workspace.size), or too little "
                "CPU to tell in time (raise spec.resources.cpu). "
                "`kubectl describe pod` shows which, in the words of its readiness probe."
            )
        return ConditionStatus.FALSE, Reason.POD_NOT_READY, message
    return ConditionStatus.FALSE, Reason.POD_PENDING, f"Pod {name} is starting."


def _waiting(pod: Object) -> Iterator[tuple[Reason, str]]:
    status, brought = pod.get("status", {}), has_tools(pod)
    # The init container comes first, and what keeps it from its end keeps the agent's from its beginning.
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, why = waiting.get("reason"), waiting.get("message") or "no message given"
        if reason in _IMAGE_REASONS:
            image = container.get("image")
            message = f"The image {image} can't be had ({reason}): {_cause(why)}. {_IMAGE_REMEDY}"
            yield Reason.IMAGE_PULL_FAILED, message
        elif reason in _CONFIG_REASONS:
            yield Reason.CONTAINER_FAILING, f"The container can't be made: {why}"
        elif reason in _CRASH_REASONS and container.get("name") != CLONE_CONTAINER:
            last = container.get("lastState", {}).get("terminated") or {}
            if last.get("exitCode") == NO_SHELL and brought:
                yield Reason.IMAGE_NOT_USABLE, UNUSABLE.format(image=container.get("image"))
            ended = f" It ended with exit code {last['exitCode']} ({last.get('reason')})." if last else ""
            hint = _of_its_end(last, agents=container.get("name") == CONTAINER)
            told = f": {why}" if reason == "CreateContainerError" and waiting.get("message") else "."
            yield Reason.CONTAINER_FAILING, f"The container does not stay up ({reason}){told}{ended}{hint}"


def _cause(why: str) -> str:
    """The end of a runtime's words, which go from what was to be done to what was in the way."""
    why = why.rstrip(".")
    if len(why) <= _WORDS:
        return why
    end = why[-_WORDS:]
    return f"…{end.partition(': ')[2] or end}"


def _of_its_end(last: Object, *, agents: bool) -> str:
    """Why a container ended, as far as that tells, and what to do where it is the agent's."""
    if last.get("reason") == "OOMKilled":
        return " It needed more memory than spec.resources.memory."
    if not agents:
        return ""
    if last.get("reason") == "StartError":
        # The runtime's words, of which the last say it; whatever else ends a container leaves the agent's.
        why = clip(str(last.get("message") or "").rpartition("container process: ")[2], _WORDS)
        return f" It could not be started: {why}. See spec.command and spec.args."
    return " `claude-sandbox logs --previous` shows what it wrote." if last else ""


def _cloning(pod: Object) -> Cloning | None:
    """What its init container did, or is at; None of a pod without repositories."""
    spec = next((one for one in pod["spec"].get("initContainers") or () if one.get("name") == CLONE_CONTAINER), None)
    if spec is None:
        return None
    told = next((one.get("value") for one in spec.get("env") or () if one.get("name") == REPOSITORIES_VARIABLE), "")
    statuses: list[Object] = pod.get("status", {}).get("initContainerStatuses") or []
    status: Object = next((one for one in statuses if one.get("name") == CLONE_CONTAINER), {})
    state, before = status.get("state") or {}, (status.get("lastState") or {}).get("terminated") or {}
    ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    outcomes = outcomes_of(str((ended or before).get("message") or ""))
    waits = ""
    if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating", "CrashLoopBackOff"):
        waits = f"{waiting['reason']}: {waiting.get('message') or 'no message given'}"
    elif outcomes is None and (ended or before).get("exitCode"):
        # Ended by something else than itself, or unable to start: it leaves no words, or not its own.
        last = ended or before
        waits = f"what clones them ended with exit code {last['exitCode']} ({last.get('reason')})"
        waits += f": {last['message']}" if last.get("message") else ""
    return Cloning(wished(told, WORKSPACE), outcomes, ended.get("exitCode") == 0, waits)


def _started(pod: Object) -> bool:
    """Whether the agent's container has passed its startup probe."""
    statuses: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    return any(one.get("name") == CONTAINER and one.get("started") for one in statuses)


def _strained(pod: Object, status: ConditionStatus, seen: Pressure) -> tuple[Reason | None, tuple[str, ...]]:
    """What the pod ran out of, as far as the kubelet and its node's kernel tell, each as a clause with its remedy."""
    short = clauses(seen, (), _PROCESSES)
    if status is ConditionStatus.TRUE and _out_of_memory(pod):
        return Reason.OUT_OF_MEMORY, (OUT_OF_MEMORY, *short)
    if seen.reason is not None:
        return seen.reason, short
    told = pod.get("status", {})
    # The words are the kubelet's (pkg/kubelet/eviction): of a limit of the pod's own, or of its node.
    if told.get("phase") == "Failed" and told.get("reason") == "Evicted":
        why = str(told.get("message") or "")
        if any(word in why for word in ("ephemeral", "emptyDir", "EmptyDir", "DiskPressure")):
            return Reason.NO_ROOM_LEFT, (EVICTED_FOR_ROOM,)
        if "memory" in why:
            return Reason.OUT_OF_MEMORY, (EVICTED_FOR_MEMORY,)
    return None, ()


def _out_of_memory(pod: Object) -> bool:
    """Whether the agent's container was ended for needing more memory, and runs again."""
    statuses: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    last = [(one.get("lastState") or {}).get("terminated") or {} for one in statuses if one.get("name") == CONTAINER]
    return any(one.get("reason") == "OOMKilled" for one in last)


def _condition(pod: Object, kind: str) -> Object | None:
    conditions: list[Object] = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), None)


def _workload(pod: Object, revision: str | None) -> Workload:
    statuses: list[Object] = pod.get("status", {}).get("containerStatuses") or []
    agent: Object = next((status for status in statuses if status["name"] == CONTAINER), {})
    started = agent.get("state", {}).get("running", {}).get("startedAt")
    return Workload(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        revision=revision,
        node=pod.get("spec", {}).get("nodeName"),
        image=agent.get("imageID") or None,
        started_at=datetime.fromisoformat(started) if started else None,
        addresses=_addresses(pod),
    )


def _addresses(pod: Object) -> list[str] | None:
    """Of a pod whose gateway knows it by them."""
    if meta.ANNOTATION_GATEWAY_AUTHORITY not in annotations(pod):
        return None
    found = (pod.get("status") or {}).get("podIPs") or ()
    return [str(one["ip"]) for one in found if one.get("ip")][:4] or None
