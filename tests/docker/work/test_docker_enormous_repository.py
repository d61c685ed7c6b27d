"""Repositories without an end on a real engine: they are told of, nothing beside them is harmed, and what is mended at
the server is cloned."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerkit import LATER, Sandbox, sandbox
from enormous import Bare, many, multiplied
from git_process import TOKEN, GitProcess, git_server_for

from claude_sandbox.api.conditions import Reason
from claude_sandbox.controller.sandboxes.reporting.repositories import condition
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns, pytest.mark.slow, pytest.mark.timeout(900)]

HOST = "git.example.org"
FILES = 200_000


@pytest.fixture
def server(host: EngineDescription, tmp_path: Path) -> Iterator[tuple[GitProcess, dict[str, Any]]]:
    with git_server_for(host, tmp_path, HOST) as found:
        yield found


@pytest.fixture
async def one(
    host: EngineDescription, image: dict[str, str], server: tuple[GitProcess, dict[str, Any]]
) -> AsyncIterator[Sandbox]:
    git, settings = server
    url = f"https://{HOST}:{git.port}/team"
    declared = [
        {"path": name, "url": f"{url}/{name}", "credentialsSecretRef": {"name": "git"}} for name in ("bomb", "many")
    ]
    async with sandbox(
        host,
        gateways=settings,
        credentials={"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"},
        resources={"cpu": "1", "memory": "512Mi", "ephemeralStorage": "1Gi"},
        workspace={"type": "EmptyDir", "size": "64Mi"},
        repositories=declared,
    ) as made:
        made.image = f"{image['repository']}:{image['tag']}"
        made.secrets.of_git["git"] = {"host": f"{HOST}:{git.port}".encode(), "token": TOKEN.encode()}
        yield made


async def told(one: Sandbox, reason: Reason, words: str = "") -> str:
    """What RepositoriesReady says, as soon as it has this reason and these words."""
    assert one.blueprint.git is not None
    seen = ("", "")
    async with asyncio.timeout(400):
        while seen[0] != reason or words not in seen[1]:
            await asyncio.sleep(0.5)
            await one.settled(LATER)
            _, *seen = condition(one.blueprint.git.clones, await one.state())  # type: ignore[assignment]
    return seen[1]


async def test_they_are_told_of_harm_nothing_beside_them_and_are_cloned_when_they_are_mended(
    one: Sandbox, host: EngineDescription, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    files = server[0].files / "team"
    bomb, lots = Bare(files / "bomb.git"), Bare(files / "many.git")
    bomb.commit(multiplied(bomb, 10))
    lots.commit(many(lots, FILES))
    async with sandbox(host, "bob") as neighbour:
        await neighbour.made()
        started = neighbour.inspected["State"]["StartedAt"]

        said = await told(one, Reason.CLONE_FAILED, "bomb can't be cloned")
        assert "memory" in said
        assert "many can't either: " in said
        bomb.commit(bomb.tree([]))
        said = await told(one, Reason.CLONE_FAILED, "many can't be cloned")
        assert "no space is left in the workspace" in said
        lots.commit(many(lots, 10))
        await told(one, Reason.CLONED)

        assert neighbour.inspected["State"]["StartedAt"] == started
        assert neighbour.sh("echo here") == "here\n"
