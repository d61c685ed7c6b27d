"""How many sandboxes try a newer image at once, and what the others make of it where it did not work."""

from datetime import UTC, datetime, timedelta
from typing import Any

from claude_sandbox.controller.images.waves import Waves
from claude_sandbox.controller.sandboxes.store import Key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMED, NEW = "registry.test/a:1", "sha256:" + "b" * 64


def sandbox(name: str, *, reason: str = "SandboxReady", **image: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True", "reason": reason}]
    status = {"image": {"named": NAMED, "digest": "sha256:" + "a" * 64, **image}, "conditions": conditions}
    return {"metadata": {"namespace": "agents", "name": name}, "status": status}


def trying(name: str, **more: Any) -> dict[str, Any]:
    return sandbox(name, rolling={"to": NEW, "startedAt": "2026-06-01T00:00:00Z"}, **more)


class Namespace:
    """Waves over the sandboxes of one namespace."""

    def __init__(self, *sandboxes: dict[str, Any]) -> None:
        self.sandboxes = list(sandboxes)
        self.waves = Waves(lambda namespace: self.sandboxes if namespace == "agents" else [])

    def waits(self, name: str, most: int = 1, now: datetime = NOW, namespace: str = "agents") -> str:
        return self.waves.waits_for(Key(namespace, name), NAMED, NEW, most, now)


def test_so_many_try_it_at_a_time() -> None:
    place = Namespace(sandbox("alice"), trying("bob"), trying("carol"))
    assert "lets 2 sandboxes try it at a time, and 2 do" in place.waits("alice", 2)
    assert not place.waits("alice", 3)


def test_no_two_take_the_last_turn_before_either_is_written_down() -> None:
    place = Namespace(sandbox("alice"), sandbox("bob"))
    assert not place.waits("alice")
    place.waves.began(Key("agents", "alice"), NAMED, NOW)
    assert place.waits("bob")
    # Its own turn keeps it from nothing.
    assert not place.waits("alice")
    # It is counted once when its status says so, and not for ever where that never came.
    place.sandboxes[0] = trying("alice")
    assert not place.waits("bob", 2)
    place.sandboxes[0] = sandbox("alice")
    assert place.waits("bob")
    assert not place.waits("bob", now=NOW + timedelta(minutes=5))


def test_whose_next_pass_has_come_is_known_by_its_status() -> None:
    place = Namespace(sandbox("alice"), sandbox("bob"))
    place.waves.began(Key("agents", "alice"), NAMED, NOW)
    assert place.waits("bob")
    place.waves.passed(Key("agents", "alice"))
    assert not place.waits("bob")


def test_who_is_gone_or_suspended_keeps_nobody_waiting() -> None:
    place = Namespace(sandbox("alice"), trying("bob", reason="Suspended"))
    place.waves.began(Key("agents", "carol"), NAMED, NOW)
    assert not place.waits("alice")


def test_what_did_not_work_for_one_is_left_alone_by_the_others_of_its_tag_and_namespace() -> None:
    place = Namespace(sandbox("alice"), sandbox("bob", failed=[NEW]))
    assert "did not work for sandbox bob" in place.waits("alice", 100)
    assert not place.waits("alice", 100, namespace="theirs")
    place.sandboxes[1]["status"]["image"]["named"] = "registry.test/a:2"
    assert not place.waits("alice", 100)
