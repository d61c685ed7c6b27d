"""Where what is fetched after an incident goes to."""

import asyncio
from pathlib import Path

import pytest

from claude_sandbox.cli.incident.files import Bounded, new_file, to_its_end
from claude_sandbox.cli.work.errors import WorkError


def test_a_file_is_its_owners_alone_and_nothing_that_was_there_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "found.tar"
    with new_file(path) as file:
        file.write(b"all of it")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"all of it", 0o600)
    with pytest.raises(WorkError, match="File exists"), new_file(path) as file:
        file.write(b"something else")
    assert path.read_bytes() == b"all of it"


def test_where_no_file_can_be_made_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"nowhere.*No such file or directory"), new_file(tmp_path / "nowhere" / "f"):
        raise AssertionError


def test_what_is_broken_off_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "found.tar"

    def broken_off() -> None:
        with new_file(path) as file:
            file.write(b"a part")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken_off()
    assert not path.exists()


def test_more_than_the_bound_is_written_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "found.tar"
    with new_file(path) as file:
        bounded = Bounded(file, 8)
        bounded.write(b"four")
        bounded.write(b"more")
    assert (path.read_bytes(), bounded.size) == (b"fourmore", 8)
    other = tmp_path / "other.tar"
    with pytest.raises(WorkError, match="more than 7 bytes") as found, new_file(other) as file:
        Bounded(file, 7).write(b"four" * 2)
    assert "--max-size" in found.value.remedy
    assert not other.exists()


async def test_what_has_to_be_over_is_over_before_who_waits_is_cancelled() -> None:
    goes, over = asyncio.Event(), []

    async def last() -> None:
        await goes.wait()
        over.append(True)

    waiting = asyncio.create_task(to_its_end(last()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    goes.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert over == [True]
