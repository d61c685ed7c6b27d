"""Writes the page of exit codes, or with --check compares it: `python -m claude_sandbox.cli.generate`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from claude_sandbox import generated
from claude_sandbox.cli import exits
from claude_sandbox.cli.main import COMMANDS

PATH = Path("docs/reference/exit-codes.md")


def commands() -> Iterator[str]:
    """Each command that does something, by the words that come after `claude-sandbox`."""
    for name, entry in sorted(COMMANDS.items()):
        yield from _below(entry.load(), name)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    files = {PATH: exits.to_markdown(tuple(commands()))}
    return generated.run(files, "claude_sandbox.cli.generate", "cli/exits.py", arguments)


def _below(command: click.Command, name: str) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield name
        return
    for below, one in sorted(command.commands.items()):
        yield from _below(one, f"{name} {below}")


if __name__ == "__main__":
    sys.exit(main())
