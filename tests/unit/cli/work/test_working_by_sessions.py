"""The commands in a sandbox on Docker, by the operator's port: the same as anywhere, and what only concerns the way."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from session_lab import SessionLab, session_lab

from claude_sandbox.cli.main import cli
from claude_sandbox.controller.sessions.admission import Refused


async def run(lab: SessionLab, *arguments: str, stdin: bytes = b"") -> Result:
    command = [arguments[0], "--kubeconfig", lab.kubeconfig, *arguments[1:]]
    return await asyncio.to_thread(CliRunner().invoke, cli, command, stdin)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's directory; paths in the sandbox begin in its own."""
    found = tmp_path / "here"
    found.mkdir()
    monkeypatch.chdir(found)
    return found


@pytest.fixture
async def lab(tmp_path: Path, here: Path) -> AsyncIterator[SessionLab]:
    inside = tmp_path / "inside"
    inside.mkdir()
    async with session_lab(inside, tmp_path) as found:
        found.add()
        yield found


async def test_a_tree_is_copied_in_and_out_and_each_session_is_over_afterwards(lab: SessionLab, here: Path) -> None:
    content = os.urandom(5_000_000)
    (here / "up/deep").mkdir(parents=True)
    (here / "up/deep/file").write_bytes(content)
    (here / "up/link").symlink_to("deep/file")
    found = await run(lab, "cp", "up", f"alice:{lab.directory}")
    assert (found.exit_code, found.output) == (0, "")
    assert (lab.directory / "up/link").read_bytes() == content
    found = await run(lab, "cp", f"agents/alice:{lab.directory}/up", "down")
    assert (found.exit_code, found.output) == (0, "")
    assert (here / "down/link").read_bytes() == content
    async with asyncio.timeout(10):
        while lab.sessions:  # noqa: ASYNC110 - it is deleted after the last byte
            await asyncio.sleep(0.01)
    assert [reason for reason, _ in lab.told] == ["SessionOpened"] * 2


async def test_a_log_is_read_with_what_was_asked_of_it(lab: SessionLab) -> None:
    found = await run(lab, "logs", "alice", "--tail", "3", "--since", "2026-01-31T12:00:00Z")
    assert (found.exit_code, found.output) == (0, "log 3 1769860800.0\n")
    found = await run(lab, "logs", "alice", "--previous")
    assert found.exit_code == 4
    assert "Leave --previous out" in found.output


async def test_what_is_run_and_the_secret_are_in_no_object(lab: SessionLab) -> None:
    await run(lab, "cp", f"alice:{lab.directory}/where-it-was-hidden", ".")
    ((_, opening),) = lab.openings
    assert lab.created
    assert opening.key not in str(lab.created)
    assert "where-it-was-hidden" not in str(lab.created) + str(lab.told)


async def test_a_replica_that_does_not_lead_is_passed_over(lab: SessionLab) -> None:
    lab.unavailable = 3
    assert (await run(lab, "logs", "alice")).exit_code == 0
    assert lab.unavailable == 0


async def test_where_no_replica_leads_it_is_told_and_nothing_is_left(
    lab: SessionLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_sandbox.kubernetes_api.operator_sessions._TRIES", 3)
    lab.leads = False
    found = await run(lab, "logs", "alice")
    assert found.exit_code == 4
    assert "can't be had" in found.output
    assert lab.sessions == {}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("services", "--role=claude-sandbox-sessions --user=YOU --namespace=operators"),
        ("claudesandboxsessions", "--clusterrole=claudesandbox-worker --user=YOU --namespace=agents"),
    ],
)
async def test_a_right_that_is_missing_is_told_with_who_has_it(lab: SessionLab, missing: str, said: str) -> None:
    lab.forbidden = missing
    found = await run(lab, "shell", "alice", "--", "true")
    assert found.exit_code == 125
    assert said in found.output
    # What could not be used is taken back.
    assert lab.sessions == {}


@pytest.mark.parametrize("size", [0, 1, 48 * 1024, 1_000_003])
async def test_a_copy_needs_no_way_that_can_end_an_input(lab: SessionLab, here: Path, size: int) -> None:
    lab.can_end_input = False
    content = os.urandom(size)
    (here / "up").mkdir()
    (here / "up/file").write_bytes(content)
    found = await run(lab, "cp", "up", f"alice:{lab.directory}/")
    assert found.exit_code == 0, found.output
    assert (lab.directory / "up/file").read_bytes() == content


async def test_what_can_not_end_an_input_says_so_of_a_command_that_needs_its_end(lab: SessionLab) -> None:
    lab.can_end_input = False
    found = await run(lab, "shell", "alice", "--", "cat")
    assert found.exit_code == 125
    assert "can't tell a command that its input has ended" in found.output


async def test_a_command_that_is_not_there_is_told_with_a_remedy(lab: SessionLab) -> None:
    found = await run(lab, "shell", "alice", "--", "no-such-command")
    assert found.exit_code == 125
    assert "executable file not found" in found.output
    assert "Remedy:" in found.output


async def test_what_the_operator_answers_is_made_plain(lab: SessionLab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Refused("\x1b[2Jgone", "\x1b]0;title\x07")

    monkeypatch.setattr(lab.server, "_run", refuse)
    found = await run(lab, "logs", "alice")
    assert found.exit_code == 4
    assert "\x1b" not in found.output
    assert "\\x1b[2Jgone" in found.output


async def test_an_engine_that_is_named_is_asked_itself(lab: SessionLab, tmp_path: Path) -> None:
    found = await run(lab, "logs", "alice", "--host", f"unix://{tmp_path}/no.sock")
    assert found.exit_code == 4
    assert lab.created == []
