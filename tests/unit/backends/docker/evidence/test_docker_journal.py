"""What journald keeps, by the words of its programs; a real journald is asked in tests/docker."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.backends.docker.evidence import journal
from claude_sandbox.backends.docker.evidence.journal import journal_of, size_of
from claude_sandbox.compliance.evidence.containers import Journal
from claude_sandbox.compliance.evidence.readings import Reading, Unread

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTAINER: dict[str, Any] = {"Id": "c" * 64, "HostConfig": {"LogConfig": {"Type": "journald"}}}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that answer what the files beside them say, and a journal of two files."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    place = tmp_path / "journal" / Path("/etc/machine-id").read_text().strip()
    place.mkdir(parents=True)
    for name in ("system.journal", "system@1.journal"):
        (place / name).write_bytes(b"x" * 8192)
    monkeypatch.setattr(journal, "_PLACES", (("SystemMaxUse", tmp_path / "journal"),))
    _program(tmp_path / "journalctl", 'case "$*" in *CONTAINER*) cat own;; *driver*) cat usage;; esac')
    _program(tmp_path / "systemd-analyze", "cat settings")
    (tmp_path / "own").write_text('{"__CURSOR": "1"}\n')
    (tmp_path / "usage").write_text("")
    (tmp_path / "settings").write_text("# [Journal]\n[Journal]\n#SystemMaxUse=1G\nSystemMaxUse=1G\nSystemMaxUse=16M\n")
    return tmp_path


def _program(path: Path, script: str) -> None:
    path.write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\n{script}\n')
    path.chmod(0o755)


async def test_what_journald_said_counts_and_then_its_settings_of_which_the_last_does(machine: Path) -> None:
    found = await journal_of(CONTAINER, NOW)
    assert isinstance(found, Reading), found
    assert found.value == Journal(16 << 20, 16384)
    place = next((machine / "journal").iterdir())
    (machine / "usage").write_text(f'{{"JOURNAL_PATH": "{place}", "LIMIT": "4096"}}\n')
    assert await journal_of(CONTAINER, NOW) == Reading(Journal(4096, 16384), found.source, NOW)
    # What it said of another journal, as of the one in memory, says nothing of this one.
    (machine / "usage").write_text('{"JOURNAL_PATH": "/run/log/journal/1", "LIMIT": "4096"}\n')
    assert await journal_of(CONTAINER, NOW) == found


async def test_without_a_setting_it_is_a_tenth_of_the_file_system_and_no_more_than_4_gib(machine: Path) -> None:
    (machine / "settings").write_text("[Journal]\n#SystemMaxUse=\n")
    found = await journal_of(CONTAINER, NOW)
    assert isinstance(found, Reading), found
    assert 0 < found.value.most <= 4 << 30


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("own", "", "has a line of this container"),
        ("settings", "SystemMaxUse=much\n", "could not be found out"),
        ("usage", "no JSON\n", "could not be found out"),
    ],
)
async def test_what_is_not_there_or_not_understood_is_not_read(
    machine: Path, file: str, content: str, why: str
) -> None:
    (machine / file).write_text(content)
    found = await journal_of(CONTAINER, NOW)
    assert isinstance(found, Unread)
    assert why in found.reason
    assert "as root or as one of the group systemd-journal" in found.reason


async def test_where_there_is_no_journald_nobody_knows(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine / "journal"))
    found = await journal_of(CONTAINER, NOW)
    assert isinstance(found, Unread)
    assert "no journalctl here" in found.reason


async def test_of_another_driver_it_is_not_asked() -> None:
    assert await journal_of({"Id": "1", "HostConfig": {"LogConfig": {"Type": "local"}}}, NOW) is None


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("512", 512), ("16M", 16 << 20), ("4G", 4 << 30)])
def test_sizes_are_those_of_systemd(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "M", "16MB", "-1", "1.5G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        size_of(text)
