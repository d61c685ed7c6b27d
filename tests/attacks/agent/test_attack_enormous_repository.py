"""A repository that is small at its server and has no end where it is cloned.

Its trees are deeper than a path can be, or than a program that goes down into itself can follow; it has itself as a
submodule, twice; a dozen objects of it say that there are ten thousand million files. Or an earlier agent left such a
tree where clones are made.

Before, a clone that failed after 1,500 levels ended what clones with an error of Python's, at each further try as well,
so that the sandbox never came to be and no condition said why; a repository that is its own submodule was cloned into
itself until disk or memory was full; and one that had git killed was told of as "Cloning into …". Closed by
`images/sandbox/clone-repositories`: submodules are counted, level by level, before they are asked for; what is removed
is removed whatever its depth; and how git ended is said.

Each is tried with the program that clones. That memory and disk bound it, and that nothing beside it is harmed, is
tried on a real engine: tests/docker/work/test_docker_enormous_repository.py.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import repository
from aiohttp import web
from enormous import Bare, deep, multiplied, with_submodules
from http_backend import http_backend

from claude_sandbox.backends.cloning import outcomes_of

PROGRAM = repository.ROOT / "images/sandbox/clone-repositories"
DEEP = 1500
"""Levels: a path of them is one that git can write, and deeper than Python goes down by itself."""


@dataclass
class Place:
    """A server with an empty repository, and a workspace to clone it into."""

    directory: Path
    url: str
    bare: Bare

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"

    async def cloned(self, *limits: str) -> str:
        """What the program says of it. `limits`: what each of its processes may have at most, in prlimit's words."""
        wish = {"path": str(self.workspace / "cloned"), "url": self.url, "submodules": True}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "CLAUDE_SANDBOX_REPOSITORIES": json.dumps([wish]),
            "CLAUDE_SANDBOX_WORKSPACE": str(self.workspace),
        }
        process = await asyncio.create_subprocess_exec(
            "prlimit", *limits, sys.executable, "-I", str(PROGRAM), env=environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await process.communicate())[0].decode(errors="replace")
        outcomes = outcomes_of(said.splitlines()[-1] if said else "")
        assert outcomes is not None, said[-2000:]
        return outcomes[0]

    def left(self) -> list[str]:
        return [one.name for one in self.workspace.iterdir()]


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "workspace").mkdir()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", http_backend(tmp_path / "server"))
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/it.git"
    yield Place(tmp_path, url, Bare(tmp_path / "server/it.git"))
    await runner.cleanup()
    # Deeper than what tidies up after tests can follow.
    await (await asyncio.create_subprocess_exec("rm", "-rf", str(tmp_path / "workspace"))).wait()


@pytest.mark.slow
async def test_one_that_fails_after_many_levels_is_told_of_and_leaves_nothing(place: Place) -> None:
    refused = with_submodules(place.bare, ("a", "http://127.0.0.1:1/nothing.git"))
    place.bare.commit(deep(place.bare, DEEP, *refused))
    assert "Failed to connect" in await place.cloned()
    assert place.left() == []


async def test_a_path_that_is_too_long_is_told_of_and_leaves_nothing(place: Place) -> None:
    place.bare.commit(deep(place.bare, 2500))
    # Git itself cuts off what the system says of it.
    assert "cannot create directory at" in await place.cloned()
    assert place.left() == []


async def test_trees_that_git_can_not_go_down_into_are_told_of(place: Place) -> None:
    # Of the usual 8 MiB it takes some ten thousands.
    place.bare.commit(deep(place.bare, 1900))
    assert "git crashed" in await place.cloned(f"--stack={256 << 10}")
    assert place.left() == []


@pytest.mark.parametrize(("times", "told"), [(1, "16 levels deep"), (40, "more than 1000 submodules")])
async def test_one_that_is_its_own_submodule_has_an_end(place: Place, times: int, told: str) -> None:
    # Each of its commits has the one before it as a submodule, so that none is missing.
    commit = place.bare.commit(place.bare.tree([]))
    for _ in range(20):
        submodules = [(f"s{number:02d}", "./../it.git") for number in range(times)]
        commit = place.bare.commit(place.bare.tree(with_submodules(place.bare, *submodules, commit=commit)))
    assert told in await place.cloned()
    assert place.left() == []


async def test_more_files_than_memory_can_list_are_told_of(place: Place) -> None:
    place.bare.commit(multiplied(place.bare, 10))
    assert "emory" in await place.cloned(f"--as={256 << 20}")
    assert place.left() == []


async def test_what_an_earlier_agent_left_where_clones_are_made_holds_up_nothing(place: Place) -> None:
    place.bare.commit(place.bare.tree([]))
    at = os.open(place.workspace, os.O_RDONLY)
    for name in (".claude-sandbox-clones", "clone", *("a" for _ in range(DEEP))):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.fchmod(at, 0)
    os.close(at)
    (place.workspace / ".claude-sandbox-clones/clone").chmod(0)
    assert (await place.cloned()).startswith("Cloned ")
    assert place.left() == ["cloned"]


async def test_submodules_of_submodules_are_cloned(place: Place) -> None:
    commit = place.bare.commit(place.bare.tree([]))
    for _ in range(3):
        commit = place.bare.commit(place.bare.tree(with_submodules(place.bare, ("s", "./../it.git"), commit=commit)))
    assert await place.cloned() == f"Cloned {commit}"
    assert (place.workspace / "cloned/s/s/s/.git").is_file()
