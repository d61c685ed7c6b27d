"""What commands say by their exit codes: of one table, which the helps and the page are made of."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from reported_sandboxes import on_kubernetes
from repository import ROOT

from claude_sandbox.cli import exits
from claude_sandbox.cli.exits import Exit, codes_of
from claude_sandbox.cli.generate import commands
from claude_sandbox.cli.main import cli

MAIN = (sys.executable, "-m", "claude_sandbox.cli.main")
NO_CLUSTER = ("--kubeconfig", "no-such-file")
UNREADABLE: dict[str, tuple[str, ...]] = {
    "audit": ("no-such-file",),
    "audit of a sandbox": ("agents/alice", *NO_CLUSTER),
    "check": ("files", "no-such-file"),
    "check of a pod": ("pod", "agents/alice", *NO_CLUSTER),
    "diff": ("agents/alice", *NO_CLUSTER),
    "due": ("./no-such-file",),
    "due of a cluster": NO_CLUSTER,
    "incident kept list": ("agents/alice", *NO_CLUSTER),
    "logs": ("agents/alice", *NO_CLUSTER),
    "report": ("agents/alice", *NO_CLUSTER),
    "trail show": ("no-such-file",),
    "trail verify": ("no-such-directory", "--public-key", "00" * 32),
    "usage": ("agents/alice", *NO_CLUSTER),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_can_not_be_read_is_four_whatever_reads_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(cli, [*what.partition(" of ")[0].split(), *UNREADABLE[what]])
    assert found.exit_code == Exit.UNREADABLE, found.output
    assert "Error: " in found.stderr


def test_each_of_them_that_says_so_is_tried() -> None:
    says = {command for command in commands() if Exit.UNREADABLE in codes_of(command)}
    assert says == {what.partition(" of ")[0] for what in UNREADABLE}


def test_the_table_has_no_command_that_is_gone_and_each_helps_with_its_codes() -> None:
    found = tuple(commands())
    assert set(exits._CODES) <= set(found)
    for command in found:
        if command == "cluster kubectl":
            # Its help is kubectl's own.
            continue
        said = CliRunner().invoke(cli, [*command.split(), "--help"]).output
        _, _, codes = said.partition("Exit codes:\n")
        words = " ".join(codes.split())
        for code, meaning in codes_of(command).items():
            assert f"{code if isinstance(code, str) else int(code)} {meaning}" in words, (command, code)


@pytest.fixture
def sandboxes(tmp_path: Path) -> Path:
    """Of a report that nothing is wrong with, longer than a pipe holds."""
    path = tmp_path / "sandboxes.json"
    items = [on_kubernetes(name=f"s{number}") for number in range(40)]
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    return path


def test_output_that_can_not_be_written_is_no_result_of_what_was_read(sandboxes: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MAIN, "report", str(sandboxes)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == Exit.UNREADABLE
    assert done.stderr == (
        "Error: The output can't be written: No space left on device.\n"
        "Remedy: Make room there, or give this user the right to write there, and try again.\n"
    )


def test_a_reader_that_has_enough_is_no_result_either(sandboxes: Path) -> None:
    command = [*MAIN, "report", str(sandboxes), "-o", "json"]
    # Unbuffered, Python itself keeps quiet of a write that the reader cut.
    as_usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=as_usual) as writing:
        assert writing.stdout is not None
        writing.stdout.read(1)
        writing.stdout.close()
        assert writing.stderr is not None
        assert writing.stderr.read() == b""
    assert writing.returncode == Exit.PIPE_CLOSED


def test_ctrl_c_is_130_in_whatever_command(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [*MAIN, "due", str(fifo)]
    # Opened by both: it reads then, and nothing comes.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting, fifo.open("wb"):
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == Exit.INTERRUPTED
    assert said == "\nInterrupted.\n"


def test_no_command_ends_with_a_number_that_is_not_in_the_table() -> None:
    for path in (ROOT / "operator/claude_sandbox/cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "SystemExit", "ctx.exit"):
                numbers = [one for one in ast.walk(node) if isinstance(one, ast.Constant) and type(one.value) is int]
                assert numbers == [], f"{path}:{node.lineno}"
    assert issubclass(click.UsageError, click.ClickException)
    assert click.UsageError.exit_code == Exit.USAGE
