"""The attack: what a sandbox chooses (the name of its first process, of any bytes) makes measuring it raise.

What it gained: the pass ended before anything was reported, every time, so that `Compliant` stayed True for ever,
whatever became of the sandbox and its spec. What closes it: bytes are read tolerantly, and only as the kernel ends its
lines; a reader or a judge that raises makes Unknown what rests on it; a pass that raises says so in the status at once;
and what no pass comes to its end for lapses.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.meta import FINALIZER
from claude_sandbox.api.status import Workload
from claude_sandbox.backends.base import KeyState, Outcome, WorkloadState
from claude_sandbox.backends.docker.evidence.proc import read_process
from claude_sandbox.blueprint.model import Image, Site
from claude_sandbox.controller.metrics.sandboxes import SandboxCollector
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.kubernetes_api.errors import ApiError

KEY = Key("agents", "alice")
NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]), 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""
# Of 15 bytes at most. The second and the third would be lines of their own for whoever ends lines as Unicode does.
NAMES = (
    *(b"\xff\xfe", b"\x0cSeccomp:\t2", b"\x1eCapEff:\t0", b"x\x85Groups:\t9"),
    *(b"\xe2\x80\xaeevil", b"a\nCapBnd:\t0", b"\\", b"\x1b[2J"),
)


@contextmanager
def named(name: bytes) -> Iterator[int]:
    """A process that calls itself so."""
    with subprocess.Popen(
        [sys.executable, "-c", NAMED, name.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        try:
            yield running.pid
        finally:
            running.kill()


def container_of(pid: int) -> dict[str, Any]:
    """The document of a container with that process: what stands for its identifier is in the process's own group."""
    group = Path("/proc", str(pid), "cgroup").read_text().splitlines()[0]
    return {"Id": group, "State": {"Pid": pid}, "HostConfig": {"Runtime": "runc"}}


@pytest.mark.parametrize("name", NAMES)
def test_a_process_may_call_itself_anything_and_is_measured_all_the_same(name: bytes) -> None:
    with named(name) as pid, named(b"honest") as other:
        found, honest = read_process(container_of(pid)), read_process(container_of(other))
        assert found is not None
        assert honest is not None
        judged = [one for one in honest.fields if one.startswith(("Cap", "Uid", "Gid", "Groups", "NoNew", "Seccomp"))]
        assert {one: found.fields[one] for one in judged} == {one: honest.fields[one] for one in judged}
        assert found.fields.keys() == honest.fields.keys()


class Engine:
    """A backend whose sandbox runs, and of which `broken` says what raises."""

    def __init__(self) -> None:
        self.broken = ""

    def _may(self, name: str) -> None:
        if name == self.broken:
            raise UnicodeDecodeError("utf-8", b"\xff\x1b[31m", 0, 1, "invalid start byte")

    async def key(self, *_: Any) -> KeyState:
        self._may("key")
        return KeyState("7")

    async def ensure(self, *_: Any) -> Outcome:
        self._may("ensure")
        return Outcome()

    async def state(self, *_: Any) -> WorkloadState:
        self._may("state")
        workload = Workload(name="csb-agents-alice", uid="u")
        return WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "It runs.", workload, "7")

    async def measure(self, *_: Any) -> Any:
        self._may("measure")
        good = (ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, "39/39 required controls pass")
        return None, good, good

    async def forget(self, *_: Any, **__: Any) -> None:
        pass


class World:
    """One sandbox and the loop, without a cluster. Time passes as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sandboxes = Sandboxes()
        self.engine = Engine()
        self.written = 0
        self.refused = ""
        self.problem: Exception = ApiError(422, "Invalid", "the status is refused")
        self.change({})
        self.loop = Reconciler(
            self.sandboxes, self.engine, self, Site(Image("i", None, "Never")), clock=lambda: self.now
        )

    def change(self, spec: Mapping[str, Any]) -> None:
        """Another generation of the spec."""
        before = self.sandboxes.get(KEY) or {"metadata": {"generation": 0, "resourceVersion": "0"}, "status": {}}
        version = int(before["metadata"]["resourceVersion"]) + 1
        metadata = {"namespace": "agents", "name": "alice", "uid": "0b0c7f1e-1111-2222-3333-444455556666"}
        metadata |= {"generation": before["metadata"]["generation"] + 1, "resourceVersion": str(version)}
        metadata["creationTimestamp"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        body = {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}, **spec}
        kind = {"apiVersion": "claudesandbox.dev/v1alpha1", "kind": "ClaudeSandbox"}
        self.sandboxes.put({**kind, "metadata": metadata, "spec": body, "status": before["status"]})

    async def write_status(self, raw: Mapping[str, Any], patch: Mapping[str, Any]) -> Mapping[str, Any]:
        if raw["metadata"]["name"] == self.refused:
            raise self.problem
        self.written += 1
        version = str(int(raw["metadata"]["resourceVersion"]) + 1)
        status = _merged(raw.get("status", {}), patch)
        return {**raw, "metadata": {**raw["metadata"], "resourceVersion": version}, "status": status}

    def tell(self, *_: Any, **__: Any) -> None:
        pass

    def observe(self, *_: Any) -> None:
        pass

    def conditions(self) -> dict[str, Mapping[str, Any]]:
        raw = self.sandboxes.get(KEY)
        assert raw is not None
        return {one["type"]: one for one in raw["status"]["conditions"]}


@pytest.mark.parametrize("what", ["measure", "ensure", "state", "key"])
async def test_whatever_raises_is_written_at_once_as_unknown(what: str) -> None:
    world = World()
    await world.loop(KEY)
    assert world.conditions()["Compliant"]["status"] == "True"
    world.engine.broken = what
    world.change({"resources": {"cpu": "2", "memory": "1Gi", "ephemeralStorage": "1Gi"}})
    if what == "measure":
        assert (await world.loop(KEY)).retry
        # What is known is said all the same.
        assert world.conditions()["Ready"]["status"] == "True"
    else:
        with pytest.raises(UnicodeDecodeError):
            await world.loop(KEY)
        assert world.conditions()["Ready"]["status"] == "Unknown"
    compliant = world.conditions()["Compliant"]
    assert (compliant["status"], compliant["reason"]) == ("Unknown", "EvaluationFailed")
    assert compliant["observedGeneration"] == 2
    assert "UnicodeDecodeError" in compliant["message"]
    assert not [one for one in ("31m", "xff", "start byte") if one in json.dumps(compliant)]
    # That it lasts is no news, and not a write; that it is over is.
    written = world.written
    if what == "measure":
        await world.loop(KEY)
    else:
        with pytest.raises(UnicodeDecodeError):
            await world.loop(KEY)
    assert world.written == written
    world.engine.broken = ""
    await world.loop(KEY)
    assert world.conditions()["Compliant"]["status"] == "True"


async def test_what_no_pass_comes_to_its_end_for_lapses() -> None:
    world = World()
    await world.loop(KEY)
    world.now = 900.0
    assert await world.loop.evaluations.mark_overdue(900.0) == []
    world.now = 901.0
    assert await world.loop.evaluations.mark_overdue(900.0) == [KEY]
    conditions = world.conditions()
    assert conditions["Compliant"]["reason"] == conditions["IsolationVerified"]["reason"] == "EvaluationOverdue"
    assert (conditions["Compliant"]["status"], conditions["Ready"]["status"]) == ("Unknown", "True")
    # Once.
    assert await world.loop.evaluations.mark_overdue(900.0) == []
    await world.loop(KEY)
    assert world.conditions()["Compliant"]["status"] == "True"
    assert await world.loop.evaluations.mark_overdue(900.0) == []


@pytest.mark.parametrize("problem", [ApiError(422, "Invalid", "the status is refused"), KeyError("conditions")])
async def test_that_one_status_can_not_be_written_keeps_no_other_as_it_was(problem: Exception) -> None:
    world = World()
    world.problem = problem
    await world.loop(KEY)
    alice = world.sandboxes.get(KEY)
    assert alice is not None
    world.sandboxes.put({**alice, "metadata": {**alice["metadata"], "name": "bob", "uid": "another"}})
    await world.loop.evaluations.mark_overdue(900.0)
    world.now, world.refused = 901.0, "alice"
    assert await world.loop.evaluations.mark_overdue(900.0) == [Key("agents", "bob")]
    bob = world.sandboxes.get(Key("agents", "bob"))
    assert bob is not None
    assert "EvaluationOverdue" in {one["reason"] for one in bob["status"]["conditions"]}


def _merged(old: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """As the API server merges (RFC 7396)."""
    made = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        made[key] = _merged(made.get(key), value) if isinstance(value, Mapping) else value
    return {key: value for key, value in made.items() if value is not None}


def test_nor_does_a_metric_count_it_as_compliant() -> None:
    now = 0.0
    collector = SandboxCollector(900.0, clock=lambda: now)
    status = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Compliant", "status": "True"}]}
    collector.put("agents", "alice", status)

    def compliant() -> set[str]:
        (found,) = (one for one in collector.collect() if one.name == "claudesandbox_sandboxes")
        assert isinstance(found, GaugeMetricFamily)
        return {sample.labels["compliant"] for sample in found.samples}

    assert compliant() == {"True"}
    now = 901.0
    assert compliant() == {"Unknown"}


async def test_what_keeps_a_deletion_from_its_end_is_told() -> None:
    world = World()
    told: list[tuple[str, str]] = []

    class Docker:
        """The part that looks after Docker hosts, which can't make sense of what is there."""

        def waits(self, *_: Any) -> bool:
            return False

        async def finish(self, *_: Any) -> Any:
            raise KeyError("\x1b[31m")

    raw = world.sandboxes.get(KEY)
    assert raw is not None
    metadata = {**raw["metadata"], "resourceVersion": "99", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    world.sandboxes.put({**raw, "metadata": {**metadata, "finalizers": [FINALIZER]}})
    world.loop._hosted = Docker()  # type: ignore[assignment]
    world.tell = lambda _raw, reason, message, *, warning: told.append((reason, message))  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        await world.loop(KEY)
    ((reason, message),) = told
    assert reason == "Failed"
    assert "KeyError" in message
    assert "\x1b" not in message
