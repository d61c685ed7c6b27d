"""What the help of each command teaches."""

import pytest
from click.testing import CliRunner

from claude_sandbox.cli.generate import commands
from claude_sandbox.cli.main import cli


def helped(*words: str) -> str:
    """The help, without its first line, which every command has."""
    return CliRunner().invoke(cli, [*words, "--help"]).output.partition("\n")[2]


@pytest.mark.parametrize("command", commands())
def test_each_command_shows_how_it_is_called_or_its_group_does(command: str) -> None:
    *group, _ = words = command.split()
    shown = helped(*words) + (helped(*group) if group else "")
    assert f"claude-sandbox {command}" in shown
