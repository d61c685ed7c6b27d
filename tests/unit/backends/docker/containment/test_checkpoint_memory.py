"""What is said of a checkpoint, by what its helper and the engine tell."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from claude_sandbox.api.status_fields.incident import Checkpoint
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.docker.containment import memory
from claude_sandbox.backends.docker.containment.memory import Memory, Turns
from claude_sandbox.backends.docker.containment.quarantine import DockerQuarantine
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.blueprint.model import Identity, Image

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DONE = b'{"size": 3, "sha256": "abc"}\n'


class Told:
    """An engine that tells of a container's processes."""

    def __init__(self, parents: dict[int, int], first: int) -> None:
        self._parents, self._first = parents, first

    async def container(self, _name: str) -> dict[str, Any]:
        return {"State": {"Pid": self._first}}

    async def parents_in(self, _name: str) -> dict[int, int]:
        return self._parents


@pytest.mark.parametrize(
    ("parents", "sessions"),
    [
        ({10: 1, 11: 10, 12: 11}, 0),
        ({10: 1, 11: 10, 20: 2, 21: 20}, 2),
        ({10: 1, 20: 21, 21: 20}, 2),
        ({11: 1}, 1),
        ({}, 0),
    ],
    ids=["descendants", "a session with a child", "told in a circle", "the first is not told", "none"],
)
async def test_processes_that_no_checkpoint_has_are_counted(parents: dict[int, int], sessions: int) -> None:
    assert await memory._sessions(cast(Engine, Told(parents, 10)), "1") == sessions


@pytest.mark.parametrize(
    ("said", "sessions", "told"),
    [
        (DONE, 0, Memory(Checkpoint(place="p", sha256="abc", size=3, recipient="age1"), ())),
        (DONE, 2, "2 processes of sessions"),
        (b'{"problem": "disk is\\n full"}', 0, "agent/memory: disk is full"),
        (b"", 0, "ended with code 137"),
        (b"[]", 0, "ended with code 137"),
        (b'{"size": "many", "sha256": ""}', 0, "ended with code 137"),
        (b'{"size": 1e400, "sha256": "abc"}', 0, "ended with code 137"),
        (b'{"size": 9223372036854775808, "sha256": "abc"}', 0, "ended with code 137"),
        (b'{"problem": 7}', 0, "ended with code 137"),
        (b"[" * 100_000, 0, "ended with code 137"),
    ],
    ids=[
        *("kept", "kept, but for sessions", "a problem", "nothing", "no object", "no size"),
        *("without end", "too large", "no words", "deep"),
    ],
)
def test_only_what_the_helper_says_is_whole_is_kept(said: bytes, sessions: int, told: Memory | str) -> None:
    found = memory._told(said, 137, "p", "age1", sessions)
    if isinstance(told, Memory):
        assert found == told
    else:
        assert told in found.missing[0]
        assert (found.checkpoint is None) == (not sessions)


def test_a_turn_is_given_back_whatever_comes_of_it() -> None:
    turns = Turns(1)

    def take() -> None:
        with turns.one():
            assert turns.left == 0
            raise KeyError

    with pytest.raises(KeyError):
        take()
    assert turns.left == 1


class Slow:
    """An engine on which nothing of a sandbox is, and which takes its time; it counts who asks it at once."""

    def __init__(self) -> None:
        self.asking, self.most = 0, 0

    async def container(self, _name: str) -> None:
        self.asking += 1
        self.most = max(self.most, self.asking)
        await asyncio.sleep(0.01)
        self.asking -= 1
        raise EngineError(500, "no")


async def test_no_more_are_made_at_once_than_there_are_turns_although_each_begins_with_something_else() -> None:
    engine, helper = Slow(), Image("operator", None, "Never")
    of = DockerQuarantine(cast(Engine, engine), "c", "one", helper, 5.0, lambda: NOW, "age1")
    asked = [of.keep_evidence(Identity("agents", f"s-{number}", str(number)), NOW, {}) for number in range(10)]
    found = await asyncio.gather(*asked)
    assert engine.most == memory.TURNS.left == 4
    waits = [one for one in found if isinstance(one, Failure) and "after theirs" in one.message]
    assert len(waits) == 6
