"""Which sandbox an event concerns, and what a container's document says of its state."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from docker_world import CLUSTER, DIGEST, IDENTITY, recorded

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.docker import model
from claude_sandbox.backends.docker.apply import failure_of
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.events import exec_sessions
from claude_sandbox.backends.docker.events.watch import Registry, changed_sandboxes, sandboxes_of
from claude_sandbox.backends.docker.model import CLONER, RELAY, Step, Verb
from claude_sandbox.backends.docker.names import labels_of, names_of
from claude_sandbox.backends.docker.state import host_lost, state_of
from claude_sandbox.compliance.evidence.containers import ExecSession

NAMES = names_of(CLUSTER, IDENTITY)
ALICE = ("agents", "alice")
CONTAINER = "1" * 64
UNANSWERED = {"Health": {"Status": "unhealthy", "Log": [{"ExitCode": 1}, {"ExitCode": -1}]}}
REFUSED = {"Health": {"Status": "unhealthy", "Log": [{"ExitCode": -1}, {"ExitCode": 1}]}}


@pytest.fixture
def registry() -> Registry:
    known = Registry()
    known.put(ALICE, [NAMES.container, NAMES.network, *NAMES.volumes, CONTAINER])
    return known


_ACTIONS = {"container": "health_status: healthy", "network": "connect", "volume": "destroy"}


def event(kind: str, identifier: str, action: str = "", **attributes: str) -> dict[str, Any]:
    return {"Type": kind, "Action": action or _ACTIONS[kind], "Actor": {"ID": identifier, "Attributes": attributes}}


LABELS = labels_of(CLUSTER, IDENTITY, "agent")


@pytest.mark.parametrize(
    ("told", "woken"),
    [
        (event("container", "a" * 64, **LABELS), [ALICE]),
        (event("container", "a" * 64, **labels_of("another", IDENTITY, "agent")), []),
        (event("container", CONTAINER, name="elsewhere", oldName=f"/{NAMES.container}"), [ALICE]),
        (event("container", "a" * 64, name="a-stranger"), []),
        (event("network", "b" * 64, name=NAMES.network, container="c" * 64), [ALICE]),
        (event("network", "b" * 64, name="bridge", container=CONTAINER), [ALICE]),
        (event("network", "b" * 64, name="bridge", container="c" * 64), []),
        (event("volume", NAMES.workspace, driver="local"), [ALICE]),
        (event("volume", NAMES.workspace, "create", driver="local"), []),
        (event("container", CONTAINER, "exec_create: /bin/sh"), []),
        (event("network", "b" * 64, "create", name=NAMES.network), [ALICE]),
        ({"Type": "daemon"}, []),
    ],
)
def test_an_event_wakes_whom_it_concerns(registry: Registry, told: dict[str, Any], woken: list[Any]) -> None:
    assert list(sandboxes_of(told, CLUSTER, registry)) == woken


def test_who_is_forgotten_is_not_woken(registry: Registry) -> None:
    registry.forget(ALICE)
    assert list(sandboxes_of(event("volume", NAMES.workspace), CLUSTER, registry)) == []
    assert registry.all() == ()


@pytest.mark.parametrize(
    ("state", "status", "reason", "word"),
    [
        ({"Health": {"Status": "healthy"}}, "True", Reason.SANDBOX_READY, "Claude Code can run"),
        ({"Health": {"Status": "starting"}}, "False", Reason.POD_PENDING, "not answer in it yet"),
        (UNANSWERED, "False", Reason.POD_NOT_READY, "restarted when that lasts"),
        (REFUSED, "False", Reason.POD_NOT_READY, "has no key"),
        ({"Health": {"Status": "healthy"}, "Paused": True}, "False", Reason.POD_NOT_READY, "paused"),
        ({"Running": False, "Status": "exited", "ExitCode": 3}, "False", Reason.CONTAINER_FAILING, "exit code 3"),
        ({"Running": False, "Status": "exited", "ExitCode": 137}, "False", Reason.CONTAINER_FAILING, "was killed"),
        (
            {"Running": False, "Status": "exited", "ExitCode": 137, "OOMKilled": True},
            "False",
            Reason.CONTAINER_FAILING,
            "spec.resources.memory",
        ),
        ({"Running": False, "Status": "created"}, "False", Reason.POD_PENDING, "about to be started"),
        (
            {"Running": False, "Status": "created", "Error": "no such file"},
            "False",
            Reason.CONTAINER_FAILING,
            "no such file",
        ),
        ({"Running": False, "Status": "removing"}, "False", Reason.POD_TERMINATING, "removed"),
    ],
)
def test_a_state_is_said_with_what_to_do(state: dict[str, Any], status: str, reason: Reason, word: str) -> None:
    live = recorded("29")["container"]
    live["State"] |= state
    found = state_of(live, "host-1", "7", ())
    assert (found.status, found.reason) == (ConditionStatus(status), reason)
    assert word in found.message
    assert found.workload is not None
    assert (found.workload.host, found.workload.image) == ("host-1", f"example.org/claude@{DIGEST}")
    assert found.workload.started_at is not None
    assert found.key_generation == "7"


# As runc 1.3 and an engine of release 29 say it.
NOT_LOADED = (
    "failed to create task for container: OCI runtime create failed: runc create failed: unable to start container "
    "process: error during container init: unable to apply apparmor profile: apparmor failed to apply profile: write "
    "/proc/thread-self/attr/apparmor/exec: no such file or directory"
)


@pytest.mark.parametrize("status", ["created", "exited"])
def test_a_host_that_has_not_loaded_the_profile_is_named_with_what_to_do(status: str) -> None:
    live = recorded("29")["container"]
    live["State"] |= {"Running": False, "Status": status, "Error": NOT_LOADED}
    assert state_of(live, "host-1", "7", ()).reason is Reason.CONTAINER_FAILING, "it asks for none"
    live["HostConfig"]["SecurityOpt"].append("apparmor=ours")
    found = state_of(live, "host-1", "7", ())
    assert found.reason is Reason.PROFILE_MISSING
    for word in ("the AppArmor profile ours", "Have an administrator", NOT_LOADED):
        assert word in found.message
    live["State"]["Error"] = "no such file"
    assert state_of(live, "host-1", "7", ()).reason is Reason.CONTAINER_FAILING, "it is something else"


@pytest.mark.parametrize("answered", [400, 500])
@pytest.mark.parametrize("kind", [model.CONTAINER, CLONER])
def test_a_start_that_is_refused_for_the_profile_says_so_and_not_that_the_document_is_wrong(
    kind: str, answered: int
) -> None:
    """Engines answer 400 or 500 to the same, by what else is in the words of runc."""
    start = Step(Verb.START, Cause.UPDATE, kind, "sandbox-alice")
    found = failure_of(start, EngineError(answered, NOT_LOADED), "ours")
    assert (found.reason, found.permanent) == (Reason.PROFILE_MISSING, True)
    for word in ("the AppArmor profile ours", "Have an administrator", NOT_LOADED):
        assert word in found.message
    assert failure_of(start, EngineError(answered, NOT_LOADED)).reason is not Reason.PROFILE_MISSING, "it asks for none"
    relay = Step(Verb.START, Cause.UPDATE, RELAY, "sandbox-alice-relay")
    assert failure_of(relay, EngineError(answered, NOT_LOADED), "ours").reason is not Reason.PROFILE_MISSING


def test_what_cant_be_given_is_said_of_a_sandbox_that_is_ready() -> None:
    live = recorded("29")["container"]
    live["State"]["Health"] = {"Status": "healthy"}
    assert "nothing can be reached" in state_of(live, "host-1", "7", ("nothing can be reached",)).message


def test_of_a_lost_host_only_the_past_is_known() -> None:
    last = state_of(recorded("29")["container"], "host-1", "7", ())
    found = host_lost("host-1", "no route", last)
    assert (found.status, found.reason) == (ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED)
    assert found.workload == last.workload
    assert "nothing is made or removed" in found.message
    assert host_lost("host-1", "no route", None).workload is None


def test_the_engines_own_health_check_is_no_foreign_session() -> None:
    live = recorded("29")["container"]
    test = live["Config"]["Healthcheck"]["Test"]
    own = {"ID": "own", "ProcessConfig": {"entrypoint": test[1], "arguments": test[2:]}}
    other = {"ID": "other", "ProcessConfig": {"entrypoint": "/bin/sh", "arguments": ["-c", "id"]}}
    assert exec_sessions.session_of({**own, "Running": True}, live) is None
    assert exec_sessions.session_of({**other, "Running": True}, live) == ExecSession(privileged=False, user="")
    # The same words with more rights are somebody's.
    for more in ({"privileged": True}, {"user": "0"}):
        document = {"Running": True, "ProcessConfig": {**own["ProcessConfig"], **more}}  # type: ignore[dict-item]
        assert exec_sessions.session_of(document, live)


class Slow:
    """An engine whose events begin only when a test says so."""

    def __init__(self) -> None:
        self.asked, self.answers, self.ended = threading.Event(), threading.Event(), threading.Event()

    def stream_events(self, _filters: object, _silence: float) -> Any:
        self.asked.set()
        self.answers.wait(10)
        return SimpleNamespace(raw=SimpleNamespace(read1=self._read), close=self.ended.set)

    def _read(self, *_: object, **__: object) -> bytes:
        self.ended.wait(10)  # as an engine of which nothing is heard
        return b""


async def test_a_connection_that_is_given_up_while_it_opens_is_ended_when_it_has() -> None:
    engine = Slow()
    following = asyncio.create_task(anext(changed_sandboxes(engine, CLUSTER, Registry())))  # type: ignore[arg-type]
    assert await asyncio.to_thread(engine.asked.wait, 10)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    engine.answers.set()
    assert await asyncio.to_thread(engine.ended.wait, 5), "its thread and its connection are still there"
