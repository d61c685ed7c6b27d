"""Large clones and pushes by the program: its memory stays what it is, and a push is in the spool meanwhile."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from repository_place import Place, repository_place

from claude_sandbox.backends.docker.gateway.gateways import MEMORY, MOST_PUSHED
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering, configuration

MIB = 1024 * 1024
MOST = 160 * MIB
"""Of the program with nothing under way half of it is there; a push's commits and trees may have 24 MiB."""


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "token").write_text("not-for-the-agent\n")
    (tmp_path / "packs").mkdir()
    more = {"spoolDirectory": str(tmp_path / "packs")}
    async with repository_place(tmp_path, {"file": str(tmp_path / "token")}, more=more) as made:
        yield made
        assert list((tmp_path / "packs").iterdir()) == []


def _random(file: Path, size: int) -> None:
    made = random.Random(size)  # noqa: S311
    with file.open("wb") as out:
        for _ in range(size // MIB):
            out.write(made.randbytes(MIB))


def _most_memory(place: Place) -> int:
    """Bytes that the program has had at most."""
    for line in Path(f"/proc/{place.gateway.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


async def _commit(place: Place, at: Path, size: int) -> None:
    _random(at / "large", size)
    for arguments in (("config", "core.compression", "0"), ("add", "-A"), ("commit", "-qm", f"{size} bytes")):
        await place.lab.run(*arguments, at=at)


@pytest.mark.parametrize(
    "size", [32 * MIB, pytest.param(400 * MIB, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
async def test_a_push_is_in_the_spool_and_not_in_memory(place: Place, tmp_path: Path, size: int) -> None:
    clone = tmp_path / "clone"
    await place.git("clone", "-q", place.url, str(clone))
    await _commit(place, clone, size)
    said = await place.git("push", "-q", "origin", "HEAD:refs/heads/claude/large", at=clone)
    assert said.code == 0, said.text
    assert "refs/heads/claude/large" in await place.lab.refs()
    assert _most_memory(place) < MOST


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["on Kubernetes", "on Docker"])
async def test_a_push_of_60_mib_is_taken_as_gateways_are_given_room_for_pushes(tmp_path: Path, where: str) -> None:
    """As the operator configures them; the rest of what it writes is beside the matter."""
    (tmp_path / "token").write_text("not-for-the-agent\n")
    (tmp_path / "packs").mkdir()
    if where == "on Docker":
        more: dict[str, Any] = {"limits": {"pushBytes": MOST_PUSHED, "spoolBytes": MOST_PUSHED, "pushesAtOnce": 1}}
    else:
        given = json.loads(configuration(Brokering(), mounted=False))
        more = {"limits": given["limits"], "spoolDirectory": str(tmp_path / "packs")}
    async with repository_place(tmp_path, {"file": str(tmp_path / "token")}, more=more) as place:
        await place.git("clone", "-q", place.url, str(tmp_path / "clone"))
        await _commit(place, tmp_path / "clone", 60 * MIB)
        said = await place.git("push", "-q", "origin", "HEAD:refs/heads/claude/large", at=tmp_path / "clone")
        assert said.code == 0, said.text
        assert "refs/heads/claude/large" in await place.lab.refs()
        assert _most_memory(place) < (MEMORY if where == "on Docker" else MOST)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_gigabyte_is_fetched_with_no_more_memory(place: Place, tmp_path: Path) -> None:
    await _commit(place, tmp_path / "first", 1024 * MIB)
    await place.lab.run("push", "-q", str(place.lab.files / "team/project.git"), "main", at=tmp_path / "first")
    said = await place.git("clone", "-q", place.url, str(tmp_path / "clone"))
    assert said.code == 0, said.text
    assert (tmp_path / "clone/large").stat().st_size == 1024 * MIB
    assert _most_memory(place) < MOST
