"""When containers' own files are looked at: nobody waits for it, and nothing is written while nothing changes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from claude_sandbox.backends.docker.evidence.file_looks import INTERVAL, FileLooks, look_at
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.image_files import ImageFiles
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.procfs.limits import Limits

ALICE = Identity("agents", "alice", "u-1")
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS = Process("", "", "", Limits(), mounts=())


def container(identifier: str = "c", started: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"Id": identifier, "State": {"Pid": 1, "StartedAt": started}}


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.files: ImageFiles | None = ImageFiles()
        self.looks = 0
        self.woken: list[tuple[str, str]] = []
        self.date = STARTED + timedelta(seconds=1)
        self.known = FileLooks(lambda *key: self.woken.append(key), lambda: self.now, self._look, lambda: self.date)

    def _look(self, _container: Any, _process: Process) -> ImageFiles | None:
        self.looks += 1
        return self.files

    async def ask(self, of: dict[str, Any] | None = None) -> ImageFiles | None:
        return await self.known.known(ALICE, of or container(), PROCESS)

    async def done(self, of: dict[str, Any] | None = None) -> ImageFiles | None:
        """Ask, and wait until nothing is looked at any more."""
        await self.ask(of)
        await asyncio.gather(*(one.looking for one in self.known._of.values() if one.looking is not None))
        return await self.ask(of)


@pytest.mark.asyncio
async def test_nobody_waits_for_a_look_and_what_it_found_wakes_once() -> None:
    world = World()
    assert await world.ask() is None
    assert await world.done() == ImageFiles()
    assert (world.looks, world.woken) == (1, [("agents", "alice")])
    for _ in range(5):
        await world.done()
    assert (world.looks, len(world.woken)) == (1, 1)


@pytest.mark.asyncio
async def test_of_what_was_ready_a_moment_after_its_start_the_first_look_is_waited_for() -> None:
    world = World()
    ready = container()
    ready["State"] |= {"Running": True, "Health": {"Status": "healthy"}}
    assert await world.ask(ready) == ImageFiles()
    assert (world.looks, world.woken) == (1, [])


@pytest.mark.asyncio
async def test_of_what_has_run_for_a_while_the_first_look_is_waited_for_and_wakes_nobody() -> None:
    world = World()
    world.date = STARTED + timedelta(hours=1)
    assert await world.ask() == ImageFiles()
    assert (world.looks, world.woken) == (1, [])
    # A later look is not.
    world.now += INTERVAL * 1.3
    world.files = replace(ImageFiles(), devices=("/x (b 8:0)",), device_count=1)
    assert await world.ask() == ImageFiles()
    assert await world.done() == world.files
    assert len(world.woken) == 1


@pytest.mark.asyncio
async def test_after_a_while_it_looks_again_and_wakes_only_for_what_is_other() -> None:
    world = World()
    await world.done()
    world.now += INTERVAL * 1.3
    await world.done()
    assert (world.looks, len(world.woken)) == (2, 1)
    # A setuid program that appeared after the look.
    world.files = replace(ImageFiles(), privileged=("/x (set-user-ID)",), privileged_count=1)
    assert (await world.done()) == ImageFiles()
    world.now += INTERVAL * 1.3
    assert await world.done() == world.files
    assert (world.looks, len(world.woken)) == (3, 2)


@pytest.mark.parametrize("other", [container("d"), container(started="2026-01-02T00:00:00Z")])
@pytest.mark.asyncio
async def test_another_container_or_start_is_another_look(other: dict[str, Any]) -> None:
    world = World()
    await world.done()
    assert await world.ask(other) is None
    await world.done(other)
    assert world.looks == 2


@pytest.mark.asyncio
async def test_where_nothing_may_be_looked_at_nothing_is_known_and_nobody_woken() -> None:
    world = World()
    world.files = None
    assert await world.done() is None
    assert (world.looks, world.woken) == (1, [])
    world.known.forget(ALICE)
    await world.known.close()


def test_of_a_process_that_is_another_s_nothing_is_said() -> None:
    # The first process of this machine is in no container's group.
    document = {"Id": "f" * 64, "State": {"Pid": 1}, "HostConfig": {"Runtime": "runc"}}
    assert look_at(document, PROCESS) is None
    assert look_at({**document, "State": {"Pid": 0}}, PROCESS) is None
    assert look_at(document, replace(PROCESS, mounts=None)) is None
