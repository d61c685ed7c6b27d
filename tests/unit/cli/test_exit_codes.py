"""What commands say by their exit codes: of one table, which the helps and the page are made of."""

import ast
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from repository import ROOT

from claude_sandbox.cli import exits
from claude_sandbox.cli.exits import Exit, codes_of
from claude_sandbox.cli.generate import commands
from claude_sandbox.cli.main import cli

NO_CLUSTER = ("--kubeconfig", "no-such-file")
UNREADABLE: dict[str, tuple[str, ...]] = {
    "audit": ("no-such-file",),
    "audit of a sandbox": ("agents/alice", *NO_CLUSTER),
    "check": ("files", "no-such-file"),
    "check of a pod": ("pod", "agents/alice", *NO_CLUSTER),
    "diff": ("agents/alice", *NO_CLUSTER),
    "due": ("no-such-file",),
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


def test_no_command_ends_with_a_number_that_is_not_in_the_table() -> None:
    for path in (ROOT / "operator/claude_sandbox/cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "SystemExit", "ctx.exit"):
                numbers = [one for one in ast.walk(node) if isinstance(one, ast.Constant) and type(one.value) is int]
                assert numbers == [], f"{path}:{node.lineno}"
    assert issubclass(click.UsageError, click.ClickException)
    assert click.UsageError.exit_code == Exit.USAGE
