"""What a pod and its node tell of what it ran out of, or can't have."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from claude_sandbox.api.clip import clip
from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import Cloning
from claude_sandbox.backends.kubernetes.node_agents.counted import Counted, pressure_in
from claude_sandbox.backends.kubernetes.state import state_of, wants_users, without_users
from claude_sandbox.backends.pressure import Pressure, clauses, pressure_of
from claude_sandbox.procfs.counters import Counters

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def pod(ready: str, **container: Any) -> dict[str, Any]:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
    status["containerStatuses"] = [{"name": "agent", "state": {"running": {}}, **container}]
    return {"metadata": {"name": "sandbox-a", "uid": "u"}, "spec": {}, "status": status}


def test_a_container_that_was_ended_for_its_memory_is_told_though_it_runs_again() -> None:
    state = state_of(pod("True", lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}))
    assert state.reason is Reason.SANDBOX_READY
    assert "needed more memory than spec.resources.memory" in state.message
    assert state.pressure
    assert "memory" not in state_of(pod("True", lastState={"terminated": {"reason": "Error"}})).message
    assert state_of(pod("True")).pressure == ()


def test_what_the_kernel_of_its_node_shows_to_be_short_is_told_in_the_same_words_as_on_docker() -> None:
    short = pressure_of(Counters(killed=1, refused=3, periods=6000, throttled=4000))
    state = state_of(pod("True"), None, short)
    assert (state.reason, state.strained) == (Reason.SANDBOX_READY, Reason.OUT_OF_MEMORY)
    said = clauses(short, (), "512")
    assert [state.pressure[0], state.pressure[2]] == [said[0], said[2]]
    assert "podPidsLimit" in state.pressure[1]
    assert all(one in state.message for one in state.pressure)
    # Also where it can't be worked with: it may be for that.
    assert state_of(pod("False"), None, pressure_of(Counters(refused=1))).strained is Reason.PROCESS_LIMIT_REACHED
    assert state_of(pod("True"), None, pressure_of(Counters(periods=100, throttled=100))).strained is None


def test_the_limit_of_processes_is_the_pods_and_its_kernel_counts_there_or_in_the_container() -> None:
    running = pod("True", containerID="containerd://a")
    for counters in ({"a": Counters(refused=1)}, {"a": Counters(refused=0), "": Counters(refused=2)}):
        assert pressure_in(running, Counted(counters, NOW)).out_of_processes
    # Of a container that was there before, or of another one of the pod, nothing is said.
    for counters in ({"a": Counters()}, {"a": Counters(), "b": Counters(killed=1)}, {"b": Counters(refused=1)}):
        assert pressure_in(running, Counted(counters, NOW)) == Pressure()
    assert pressure_in(pod("True"), Counted({"": Counters(refused=1)}, NOW)) == Pressure()
    assert pressure_in(running, None) == Pressure()


@pytest.mark.parametrize(
    ("message", "reason", "remedy"),
    [
        ('Usage of EmptyDir volume "workspace" exceeds the limit "1Gi". ', Reason.NO_ROOM_LEFT, "ephemeralStorage"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 8Gi. ", Reason.NO_ROOM_LEFT, "size"),
        ("The node was low on resource: memory. Threshold quantity: 100Mi. ", Reason.OUT_OF_MEMORY, "administrator"),
        ("Preempted by a more important pod", None, ""),
    ],
)
def test_one_that_its_node_has_evicted_is_said_to_lack_what_it_did(
    message: str, reason: Reason | None, remedy: str
) -> None:
    evicted = pod("False")
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    state = state_of(evicted)
    assert (state.reason, state.strained) == (Reason.POD_FAILED, reason)
    assert remedy in " ".join(state.pressure)


def test_one_that_started_and_is_not_ready_is_not_said_to_be_starting() -> None:
    said = state_of(pod("False", started=True)).message
    # Nor that it has no key: a probe without an answer in time tells only that.
    assert "no room in its home" in said
    assert "spec.resources.cpu" in said
    assert "does not answer in it yet" in state_of(pod("False", started=False)).message


def _node(*supported: bool | None) -> dict[str, Any]:
    handlers = [{"name": "", "features": {"userNamespaces": one}} if one is not None else {} for one in supported]
    return {"status": {"runtimeHandlers": handlers}}


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (None, False),
        ({}, False),
        (_node(), False),
        (_node(False, True), False),
        (_node(False), True),
        (_node(None), True),
    ],
)
def test_only_a_node_that_tells_what_its_runtimes_can_do_is_said_to_lack_user_namespaces(node: Any, said: bool) -> None:
    pod = {"metadata": {"name": "sandbox-alice", "uid": "1"}, "spec": {"nodeName": "node-a", "hostUsers": False}}
    state = state_of(pod)
    assert wants_users(state, pod)
    assert not wants_users(state, {**pod, "spec": {"nodeName": "node-a"}})
    found = without_users(state, pod, node)
    assert (found.reason is Reason.CONTAINER_FAILING) == said
    assert ("node-a" in found.message) == said


_TOLD = json.dumps([{"path": "/workspace/a", "url": "https://git.example.org/a"}])


def cloning(state: dict[str, Any], before: dict[str, Any] | None = None, phase: str = "Pending") -> dict[str, Any]:
    env = [{"name": "CLAUDE_SANDBOX_REPOSITORIES", "value": _TOLD}]
    status = {
        "phase": phase,
        "initContainerStatuses": [
            {"name": "clone", "state": state, "lastState": {"terminated": before} if before else {}}
        ],
        "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}],
    }
    spec = {"initContainers": [{"name": "clone", "env": env}]}
    return {"metadata": {"name": "sandbox-a", "uid": "u"}, "spec": spec, "status": status}


_UNABLE_SAYS = "what clones them ended with exit code 128 (StartError): no file"
_UNABLE = {"exitCode": 128, "reason": "StartError", "message": "no file"}
_FAILED = {"exitCode": 1, "reason": "Error", "message": '["Failed remote: no"]'}


@pytest.mark.parametrize(
    ("state", "before", "expected"),
    [
        ({}, None, Cloning((("a", "https://git.example.org/a"),))),
        ({"running": {}}, None, Cloning((("a", "https://git.example.org/a"),))),
        ({"waiting": {"reason": "PodInitializing"}}, None, Cloning((("a", "https://git.example.org/a"),))),
        (
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, _FAILED,
            Cloning((("a", "https://git.example.org/a"),), ("Failed remote: no",)),
        ),
        ({"running": {}}, _FAILED, Cloning((("a", "https://git.example.org/a"),), ("Failed remote: no",))),
        (
            {"waiting": {"reason": "CrashLoopBackOff"}}, _UNABLE,
            Cloning((("a", "https://git.example.org/a"),), waits=_UNABLE_SAYS),
        ),
        (
            {"terminated": {"exitCode": 0, "message": '["Cloned abc"]'}}, _FAILED,
            Cloning((("a", "https://git.example.org/a"),), ("Cloned abc",), done=True),
        ),
    ],
)  # fmt: skip
def test_what_clones_repositories_is_read_from_the_pod(
    state: dict[str, Any], before: dict[str, Any] | None, expected: Cloning
) -> None:
    found = state_of(cloning(state, before))
    assert found.cloning == expected
    assert (found.reason is Reason.REPOSITORIES_NOT_READY) is not expected.done


def test_an_image_that_can_t_be_had_is_told_of_whoever_needs_it() -> None:
    found = state_of(cloning({"waiting": {"reason": "ErrImagePull", "message": "not there"}}))
    assert found.reason is Reason.IMAGE_PULL_FAILED


_NOT_FOUND = 'runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("waiting", "last", "said"),
    [
        ({"reason": "ImagePullBackOff", "message": "w" * 500}, None, ("spec.image", "pullSecretRefs")),
        (
            {"reason": "ErrImagePull", "message": f"{'failed to resolve: ' * 20}lookup r.example: no such host."}, None,
            ("…failed to resolve: ", "lookup r.example: no such host. See spec.image"),
        ),
        (
            {"reason": "CrashLoopBackOff"}, {"exitCode": 128, "reason": "StartError", "message": _NOT_FOUND},
            ('exec: "nope": executable file not found', "See spec.command"),
        ),
        (
            # The agent can write what a container leaves as its message.
            {"reason": "CrashLoopBackOff"}, {"exitCode": 1, "reason": "Error", "message": "container process: pay me"},
            ("exit code 1 (Error). `claude-sandbox logs --previous` shows",),
        ),
        (
            {"reason": "CrashLoopBackOff"}, {"exitCode": 137, "reason": "OOMKilled"},
            ("more memory than spec.resources.memory",),
        ),
    ],
)  # fmt: skip
def test_why_a_container_does_not_run_is_said_with_the_field_that_mends_it(
    waiting: dict[str, Any], last: dict[str, Any] | None, said: tuple[str, ...]
) -> None:
    found = pod("False")
    status: dict[str, Any] = {"name": "agent", "image": "ghcr.io/acme/x:1", "state": {"waiting": waiting}}
    found["status"]["containerStatuses"] = [status | ({"lastState": {"terminated": last}} if last else {})]
    told = state_of(found).message
    assert all(one in told for one in said), told
    assert "pay me" not in told
    # None of it is cut.
    assert clip(told, 384) == told


def test_where_no_node_has_room_it_says_what_to_ask_for_less_of() -> None:
    found = pod("False")
    why = "0/1 nodes are available: 1 Insufficient cpu."
    found["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": why}]
    assert "Ask for less in spec.resources" in state_of(found).message


def test_a_pod_without_repositories_has_none() -> None:
    assert state_of(pod("True")).cloning is None
