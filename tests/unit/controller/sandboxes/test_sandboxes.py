"""Which sandboxes there are, whatever order the news comes in."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.controller.sandboxes.store import Key, Sandboxes, overtaken
from claude_sandbox.controller.sandboxes.watch import take


def raw(name: str = "alice", uid: str = "u", version: int = 1, key: str = "key") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "agents", "name": name, "uid": uid, "resourceVersion": str(version)},
        "spec": {"credentials": {"apiKeySecretRef": {"name": key}}},
    }


ALICE = Key("agents", "alice")


@given(st.permutations([1, 2, 3, 4]))
def test_the_newest_version_wins_in_whatever_order_they_come(versions: list[int]) -> None:
    sandboxes = Sandboxes()
    for version in versions:
        sandboxes.put(raw(version=version))
    known = sandboxes.get(ALICE)
    assert known is not None
    assert known["metadata"]["resourceVersion"] == "4"


def test_the_echo_of_our_own_write_wakes_nobody() -> None:
    sandboxes, woken = Sandboxes(), []
    sandboxes.put(raw(version=5))
    take(sandboxes, woken.append, "MODIFIED", raw(version=5))
    assert woken == []
    take(sandboxes, woken.append, "MODIFIED", raw(version=6))
    assert woken == [ALICE]


async def test_the_echo_of_a_write_that_comes_before_its_answer_waits_for_it() -> None:
    sandboxes, told = Sandboxes(), []
    sandboxes.put(raw(version=5))

    async def hear(version: int) -> None:
        await sandboxes.written(raw())
        take(sandboxes, told.append, "MODIFIED", raw(version=version))

    with sandboxes.writing(raw()):
        heard = [asyncio.create_task(hear(version)) for version in (6, 7)]
        await asyncio.sleep(0)
        assert sandboxes.get(ALICE) == raw(version=5)
        sandboxes.learn(raw(version=6))
    await asyncio.gather(*heard)
    # The later one is somebody else's.
    assert told == [ALICE]
    assert sandboxes.get(ALICE) == raw(version=7)


@pytest.mark.parametrize(
    ("field", "value"),
    [("generation", 2), ("deletionTimestamp", "2026-01-01T00:00:00Z"), ("labels", {"claudesandbox.dev/a": "b"})],
)
def test_what_somebody_changed_before_our_write_is_noticed_by_its_answer(field: str, value: Any) -> None:
    before, written = raw(version=5), raw(version=7)
    assert not overtaken(before, written)
    written["metadata"][field] = value
    assert overtaken(before, written)


def test_a_late_deletion_does_not_hide_the_sandbox_that_was_made_again() -> None:
    sandboxes, woken = Sandboxes(), []
    sandboxes.put(raw(uid="new", version=9))
    take(sandboxes, woken.append, "DELETED", raw(uid="old", version=8))
    assert sandboxes.get(ALICE) is not None


def test_a_complete_list_tells_what_came_changed_and_went() -> None:
    sandboxes = Sandboxes()
    for name in ("same", "changed", "gone"):
        sandboxes.put(raw(name))
    changed = sandboxes.replace([raw("same"), raw("changed", version=2), raw("new")])
    assert changed == {Key("agents", name) for name in ("changed", "gone", "new")}
    assert set(sandboxes) == {Key("agents", name) for name in ("same", "changed", "new")}


def test_a_secret_concerns_those_who_name_it() -> None:
    sandboxes = Sandboxes()
    sandboxes.put(raw("alice", key="one"))
    sandboxes.put(raw("bob", key="two"))
    subscriber = raw("carol")
    subscriber["spec"]["credentials"] = {"oauthTokenSecretRef": {"name": "two"}}
    sandboxes.put(subscriber)
    assert sandboxes.using("agents", "two") == [Key("agents", "bob"), Key("agents", "carol")]


def test_who_waits_for_a_host_is_told_the_oldest_first() -> None:
    sandboxes = Sandboxes()

    def put(name: str, second: int, backend: str = "Docker", **status: Any) -> None:
        one = raw(name)
        one["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{second}Z"
        sandboxes.put(one | {"spec": {"backend": {"type": backend}}, "status": status})

    put("late", 3)
    put("early", 1)
    put("placed", 0, placement={"host": "one", "engineID": "e"})
    put("elsewhere", 0, backend="Kubernetes")
    put("between", 2)
    assert [key.name for key in sandboxes.unplaced()] == ["early", "between", "late"]


async def test_of_two_writes_to_a_sandbox_both_are_waited_for_whichever_ends_first() -> None:
    for first, second in ((0, 1), (1, 0)):
        sandboxes = Sandboxes()
        sandboxes.put(raw())
        writes = [sandboxes.writing(raw()), sandboxes.writing(raw())]
        for write in writes:
            write.__enter__()
        waiting = asyncio.ensure_future(sandboxes.written(raw()))
        await asyncio.sleep(0)
        writes[first].__exit__(None, None, None)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        writes[second].__exit__(None, None, None)
        await asyncio.wait_for(waiting, 1.0)
