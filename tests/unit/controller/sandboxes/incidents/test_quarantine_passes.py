"""What comes of spec.incident, pass by pass: a sandbox, and a backend that does as it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Workload
from claude_sandbox.api.status_fields.incident import KeptEvidence
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.containment import Containment
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.incidents.quarantine import HELD, MOST, Quarantines
from claude_sandbox.controller.sandboxes.interfaces import Backend
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.kubernetes_api.errors import ApiError

KEY = Key("agents", "alice")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CONTAINED = Containment(ConditionStatus.TRUE, "agent paused; on no network")
QUARANTINED = {"state": "Quarantined"}
KEPT = KeptEvidence(at=NOW, place="keeper:/evidence/1.tar", sha256="a" * 64, files=3, size=10)
GOOD = (ConditionStatus.TRUE, Reason.ALL_CONTROLS_PASS, "39/39 required controls pass")


@dataclass
class Place:
    """A sandbox, its backend and its reporter in one."""

    containment: Containment = CONTAINED
    keeps: KeptEvidence | Failure = KEPT
    releases: Failure | None = None
    calls: list[str] = field(default_factory=list)
    kept: list[Mapping[str, bytes]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    writes: int = 0
    now: datetime = NOW
    refuses: bool = False
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sandboxes = Sandboxes()
        self.restart()
        self.declare(None)

    def restart(self) -> None:
        self.loop = Reconciler(self.sandboxes, self, self, Site(Image("i", None, "Never")), now=lambda: self.now)

    @property
    def raw(self) -> Any:
        return self.sandboxes.get(KEY)

    def declare(self, incident: Mapping[str, Any] | None, **more: Any) -> None:
        before = self.raw or {"metadata": {"generation": 0, "resourceVersion": "0"}, "status": {}}
        spec = {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}, **more}
        spec |= {} if incident is None else {"incident": incident}
        self._put({**before, "spec": spec}, generation=before["metadata"]["generation"] + 1)

    def _put(self, raw: Any, **changed: Any) -> None:
        metadata = {
            **raw["metadata"], "namespace": "agents", "name": "alice", "uid": "0b0c7f1e-1111-2222-3333-444455556666",
            "creationTimestamp": "2026-11-29T11:00:00Z",
            "resourceVersion": str(int(raw["metadata"]["resourceVersion"]) + 1), **changed,
        }  # fmt: skip
        self.sandboxes.put({**raw, "kind": "ClaudeSandbox", "metadata": metadata})

    async def look(self) -> Result:
        for _ in range(8):
            result = await self.loop(KEY)
            if result.requeue_after != 0:
                return result
        raise AssertionError(f"never at rest: {result}")

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = {one["type"]: one for one in self.raw["status"]["conditions"]}
        return (found[kind]["status"], found[kind]["reason"], found[kind]["message"]) if kind in found else ("", "", "")

    @property
    def incident(self) -> Any:
        return self.raw["status"].get("incident")

    # The backend

    async def key(self, _identity: Any, secret: str, _key: str) -> KeyState:
        return KeyState(self.keys.get(secret, "7"))

    async def ensure(self, _blueprint: Blueprint, _key: Any, _spec: Any, _past: Past) -> Outcome:
        self.calls.append("ensure")
        return Outcome()

    async def state(self, *_: Any) -> WorkloadState:
        workload = Workload(name="sandbox-alice", uid="pod-1")
        return WorkloadState(ConditionStatus.TRUE, Reason.SANDBOX_READY, "It runs.", workload, "7")

    async def measure(self, *_: Any) -> Any:
        self.calls.append("measure")
        return None, GOOD, GOOD

    async def contain(self, *_: Any) -> Containment:
        self.calls.append("contain")
        return self.containment

    async def keep_evidence(self, _identity: Any, _since: datetime, more: Mapping[str, bytes]) -> Any:
        self.calls.append("keep")
        self.kept.append(more)
        return self.keeps

    async def release(self, *_: Any) -> Failure | None:
        self.calls.append("release")
        return self.releases

    async def forget(self, *_: Any, **__: Any) -> None: ...

    # Where reports go

    async def write_status(self, raw: Any, patch: Mapping[str, Any]) -> Any:
        if self.refuses:
            raise ApiError(500, "InternalError", "no")
        self.writes += 1
        self._put({**raw, "status": merged(raw["status"], patch)})
        return self.raw

    def tell(self, _raw: Any, reason: str, message: str, *, warning: bool) -> None:
        self.events.append((reason, message))

    def observe(self, *_: Any) -> None: ...


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return patch
    changed = {key: merged((target or {}).get(key), value) for key, value in patch.items() if value is not None}
    kept = {key: value for key, value in (target or {}).items() if key not in patch} if target else {}
    return {**kept, **changed}


async def test_it_is_contained_first_then_what_it_was_is_kept_and_nothing_else_is_done() -> None:
    place = Place()
    await place.look()
    place.calls.clear()
    place.declare(QUARANTINED)
    await place.look()
    assert place.calls == ["contain", "contain", "keep"]
    assert place.condition("Contained")[0] == "True"
    assert place.condition("Ready")[:2] == ("False", "Quarantined")
    assert "keeper:/evidence/1.tar" in place.condition("Ready")[2]
    assert place.condition("Compliant")[0] == "Unknown"
    assert place.incident["evidence"]["sha256"] == "a" * 64
    assert place.raw["status"]["workload"]["uid"] == "pod-1"
    assert {reason for reason, _ in place.events} >= {"Quarantined", "EvidenceKept"}
    assert b"Quarantined" in place.kept[0]["claudesandbox.json"]


async def test_at_rest_it_is_looked_at_and_nothing_is_written() -> None:
    place = Place()
    place.declare(QUARANTINED)
    await place.look()
    writes, events = place.writes, len(place.events)
    place.now += timedelta(minutes=5)
    place.restart()
    await place.look()
    assert place.calls[-1] == "contain"
    assert (place.writes, len(place.events)) == (writes, events)


async def test_a_sandbox_whose_spec_is_refused_is_contained_all_the_same() -> None:
    place = Place()
    place.declare(QUARANTINED, operatingMode="Sideways")
    await place.look()
    assert place.condition("Contained")[0] == "True"


async def test_what_is_found_before_is_in_the_evidence() -> None:
    place = Place(replace(CONTAINED, did=("froze it",), found={"before.json": b"[]"}))
    place.declare(QUARANTINED)
    await place.look()
    assert place.kept[0]["before.json"] == b"[]"
    assert ("Contained", "froze it.") in place.events


async def test_what_can_not_be_asked_is_unknown_and_never_contained() -> None:
    place = Place(Containment(ConditionStatus.UNKNOWN, "Docker host one could not be asked"))
    place.declare(QUARANTINED)
    result = await place.look()
    assert place.condition("Contained")[:2] == ("Unknown", "ObservationFailed")
    assert place.condition("Reconciling")[0] == "True"
    assert place.incident.get("containedAt") is None
    assert "keep" not in place.calls
    assert result.requeue_after is not None
    place.containment = CONTAINED
    await place.look()
    assert place.condition("Contained")[0] == "True"
    assert place.incident["containedWithin"].endswith("s")


async def test_evidence_that_could_not_be_kept_is_tried_again_and_told() -> None:
    place = Place(keeps=Failure(Reason.RETRYING, "the disk is full", permanent=False))
    place.declare(QUARANTINED)
    result = await place.look()
    assert result.retry or result.requeue_after
    assert place.condition("Contained")[0] == "True"
    assert "the disk is full" in place.condition("Reconciling")[2]
    place.keeps = KEPT
    await place.look()
    assert place.incident["evidence"]
    assert place.condition("Reconciling")[0] == "False"


async def test_lifted_what_was_frozen_goes_before_anything_is_made() -> None:
    place = Place()
    place.declare(QUARANTINED)
    await place.look()
    place.calls.clear()
    place.declare(None)
    await place.look()
    assert place.calls[:2] == ["release", "ensure"]
    assert place.calls.count("release") == 1
    assert place.incident is None
    assert place.condition("Contained")[0] == ""
    assert place.condition("Ready")[0] == "True"


async def test_lifted_before_anything_was_kept_it_is_kept_first() -> None:
    place = Place(keeps=Failure(Reason.RETRYING, "the disk is full", permanent=False))
    place.declare(QUARANTINED)
    await place.look()
    place.declare({"state": "None"})
    await place.look()
    assert "release" not in place.calls
    assert place.incident is not None
    place.keeps = KEPT
    place.calls.clear()
    await place.look()
    assert place.calls[:3] == ["keep", "release", "ensure"]


async def test_what_can_not_be_released_is_not_let_go_of() -> None:
    place = Place(releases=Failure(Reason.RETRYING, "no answer", permanent=False))
    place.declare(QUARANTINED)
    await place.look()
    place.declare(None)
    place.calls.clear()
    await place.look()
    assert "ensure" not in place.calls
    assert place.incident is not None
    assert place.condition("Ready")[0] != "Unknown"


async def test_a_compromised_key_is_over_when_another_is_in_its_own_secret_and_not_in_the_one_that_is_named_since() -> (
    None
):
    place = Place(keys={"another": "9"})
    place.declare({"state": "KeyCompromised"})
    await place.look()
    assert place.condition("Ready")[1] == "KeyCompromised"
    place.declare({"state": "KeyCompromised"}, credentials={"apiKeySecretRef": {"name": "another"}})
    await place.look()
    assert (place.incident["secret"], place.incident.get("endedAt")) == ("key", None)
    assert place.condition("Ready")[0] == "True"
    place.keys["key"] = "8"
    await place.look()
    assert place.incident["endedAt"]


async def test_who_may_declare_incidents_fills_no_disk() -> None:
    place = Place()
    for _ in range(MOST + 1):
        place.declare(QUARANTINED)
        await place.look()
        place.declare(None)
        await place.look()
    assert place.calls.count("keep") == MOST
    place.declare(QUARANTINED)
    await place.look()
    assert place.condition("Contained")[0] == "True"
    assert place.condition("Stalled")[0] == "True"
    place.now += timedelta(days=1)
    await place.look()
    assert place.incident["evidence"]


LOG = Containment(ConditionStatus.TRUE, "its containers have ended", found={"agent/log": b"x" * (1 << 20)})


def held(quarantines: Quarantines) -> int:
    return sum(len(content) for files in quarantines._found.values() for content in files.values())


async def test_what_is_in_the_evidence_is_not_held_any_more() -> None:
    """Where it is kept in the act of containing, as in a cluster: a log for each sandbox that is in quarantine."""
    place, quarantines = Place(containment=replace(LOG, kept=KEPT)), Quarantines(lambda: NOW)
    raw = {"metadata": {"name": "alice", "namespace": "agents"}, "spec": {}, "status": {}}
    for number in range(20):
        await quarantines.of(raw, Identity("agents", "alice", str(number)), cast(Backend, place))
    assert held(quarantines) == 0


async def test_what_waits_to_be_kept_has_a_bound_and_that_it_was_given_up_is_told() -> None:
    place = Place(containment=LOG, keeps=Failure(Reason.RETRYING, "not yet", permanent=False))
    quarantines = Quarantines(lambda: NOW)
    for number in range(60):
        raw = {"metadata": {"name": "alice", "namespace": f"n-{number}"}, "spec": {}, "status": {}}
        await quarantines.of(raw, Identity(f"n-{number}", "alice", str(number)), cast(Backend, place))
    assert (1 << 20) < held(quarantines) <= HELD + (1 << 16)
    assert list(quarantines._found["0"]) == ["LOST.txt"]
    assert list(quarantines._found["59"]) == ["agent/log"]
