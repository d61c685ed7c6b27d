"""A compromised key is used by nobody of its namespace, until another one is there."""

from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.base import KeyState
from claude_sandbox.controller.sandboxes.incidents.keys import CompromisedKeys
from claude_sandbox.controller.sandboxes.store import Sandboxes

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OLD, NEW = KeyState("7"), KeyState("8")
ANSWERED = {"lastAnswered": {"time": "2026-11-29T11:00:00Z", "generation": "7"}, "requests": 3, "inputTokens": 1,
            "outputTokens": 1, "cacheWriteTokens": 0, "cacheReadTokens": 0, "costUSD": "0.25", "denials": 0,
            "reportedAt": "2026-11-29T11:00:00Z"}  # fmt: skip


class Place:
    def __init__(self) -> None:
        self.sandboxes, self.woken, self.version = Sandboxes(), list[tuple[str, str]](), 0
        self.keys = CompromisedKeys(self.sandboxes, lambda *secret: self.woken.append(secret))

    def put(self, name: str, state: str | None = None, named: str = "key", **status: Any) -> Any:
        self.version += 1
        spec: dict[str, Any] = {"credentials": {"oauthTokenSecretRef": {"name": named}}}
        spec |= {} if state is None else {"incident": {"state": state}}
        metadata = {"namespace": "agents", "name": name, "uid": name, "resourceVersion": str(self.version)}
        raw = {"metadata": metadata, "spec": spec, "status": status}
        self.sandboxes.put(raw)
        return raw

    def compromised(self, key: KeyState = OLD, named: str = "key", namespace: str = "agents") -> bool:
        found = self.keys.judged(namespace, named, key)
        assert found.withdrawn == (found.problem is Reason.KEY_COMPROMISED)
        return found.withdrawn


def test_the_key_is_used_by_nobody_who_shares_the_secret_and_all_are_woken() -> None:
    place = Place()
    place.put("bob")
    assert not place.compromised()
    place.put("alice", "KeyCompromised")
    assert place.woken == [("agents", "key")]
    assert place.compromised()
    assert place.compromised(KeyState(None))
    assert not place.compromised(named="another")
    assert not place.compromised(namespace="others")


def test_another_generation_ends_it_and_the_status_says_when() -> None:
    place = Place()
    raw = place.put("alice", "KeyCompromised")
    told = place.keys.status(raw, "key", OLD, NOW)
    assert told is not None
    assert (told.generation, told.ended_at) == ("7", None)
    status = told.model_dump(mode="json", by_alias=True, exclude_none=True)
    raw = place.put("alice", "KeyCompromised", incident=status)
    assert place.compromised(OLD)
    assert not place.compromised(NEW)
    assert place.keys.status(raw, "key", OLD, NOW) == told
    over = place.keys.status(raw, "key", NEW, NOW)
    assert over is not None
    assert over.ended_at == NOW
    # The old key put back is the old key still.
    assert place.compromised(OLD)


def test_who_lifts_one_and_declares_the_next_before_a_pass_looks_means_the_key_that_is_there_then() -> None:
    place = Place()
    told = place.keys.status(place.put("alice", "KeyCompromised"), "key", OLD, NOW)
    assert told is not None
    over = place.keys.status(place.put("alice", "KeyCompromised", incident=_written(told)), "key", NEW, NOW)
    assert over is not None
    raw = place.put("alice", "KeyCompromised", incident=_written(over))
    assert not place.compromised(NEW)
    # Still the same one, whatever else is written.
    assert place.keys.status(raw, "key", NEW, NOW) == over
    place.put("alice", "None", incident=_written(over))
    raw = place.put("alice", "KeyCompromised", incident=_written(over))
    assert place.compromised(NEW)
    later = NOW.replace(hour=13)
    anew = place.keys.status(raw, "key", NEW, later)
    assert anew is not None
    assert (anew.since, anew.generation, anew.ended_at) == (later, "8", None)
    raw = place.put("alice", "KeyCompromised", incident=_written(anew))
    assert place.compromised(NEW)
    assert not place.compromised(OLD)
    assert place.keys.status(raw, "key", NEW, later) == anew
    assert place.keys._lifted == {}


def _written(status: Any) -> Any:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_the_status_says_who_used_it_when_and_how_much() -> None:
    place = Place()
    place.put("bob", usage=ANSWERED)
    place.put("carol", named="another")
    raw = place.put("alice", "KeyCompromised")
    told = place.keys.status(raw, "key", OLD, NOW)
    assert told is not None
    assert [(one.name, one.requests, one.cost_usd) for one in told.users or ()] == [
        ("alice", None, None),
        ("bob", 3, "0.25"),
    ]


def used(requests: int, cost: str, generation: str = "7") -> dict[str, Any]:
    answered = {"time": "2026-11-29T12:01:00Z", "generation": generation}
    return {**ANSWERED, "requests": requests, "costUSD": cost, "lastAnswered": answered}


def test_the_status_says_what_was_spent_with_the_old_key_after_the_mark_and_nothing_of_the_new_one() -> None:
    place = Place()
    for name in ("bob", "dave", "eve"):
        place.put(name, usage=ANSWERED)

    def told(key: KeyState, **status: Any) -> Any:
        found = place.keys.status(place.put("alice", "KeyCompromised", **status), "key", key, NOW)
        assert found is not None
        return found.model_dump(mode="json", by_alias=True, exclude_none=True)

    def since(said: Any) -> dict[str, tuple[Any, Any]]:
        return {one["name"]: (one.get("requestsSince"), one.get("costUSDSince")) for one in said["users"]}

    marked = told(OLD)
    assert set(since(marked).values()) == {(None, None)}
    # What was on its way is told afterwards.
    place.put("bob", usage=used(5, "0.75"))
    # One whose account has begun anew says nothing of what was before.
    place.put("eve", usage=used(1, "0.10"))
    later = told(OLD, incident=marked)
    assert since(later) == {"alice": (None, None), "bob": (2, "0.50"), "dave": (None, None), "eve": (None, None)}
    # What somebody wrote there as a status is no amount, and holds up nothing.
    for cost in ("no amount", "NaN"):
        place.put("dave", usage=used(4, cost))
        assert since(told(OLD, incident=later))["dave"] == (None, None)
    # Dave's last one came at the end; bob goes on with the new key, of which nothing is the old one's.
    place.put("bob", usage=used(9, "3.00", "8"))
    place.put("dave", usage=used(4, "0.30"))
    over = told(NEW, incident=later)
    assert over["endedAt"]
    assert since(over) == {"alice": (None, None), "bob": (2, "0.50"), "dave": (1, "0.05"), "eve": (None, None)}
    place.put("dave", usage=used(40, "no amount"))
    assert told(NEW, incident=over) == over


def test_lifted_or_gone_it_holds_no_longer() -> None:
    place = Place()
    place.put("alice", "KeyCompromised")
    place.put("alice", "None")
    assert not place.compromised()
    raw = place.put("alice", "KeyCompromised")
    assert place.compromised()
    place.sandboxes.lose(raw)
    assert not place.compromised()
    assert len(place.woken) == 4


def test_a_problem_that_there_is_already_stays_said() -> None:
    place = Place()
    place.put("alice", "KeyCompromised")
    missing = KeyState(problem=Reason.SECRET_NOT_FOUND, message="no")
    assert place.keys.judged("agents", "key", missing) == missing
