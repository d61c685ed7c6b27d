"""`kubectl claude`: the same commands as a plugin of kubectl, which finds programs called `kubectl-claude`.

kubectl hands the rest of the command line on as it is (kubernetes.io, "Extend kubectl with plugins"). For completion it
runs `kubectl_complete-claude` with the words so far and reads a suggestion a line, and at last what to do with them
(spf13/cobra, ShellCompDirective).
"""

import sys

import click
from click.shell_completion import CompletionItem, ShellComplete

from claude_sandbox.cli.main import cli, run

_NO_FILES, _DEFAULT = 4, 0


def main() -> None:
    """The entry point of `kubectl-claude`."""
    run("kubectl claude")


def complete() -> None:
    """The entry point of `kubectl_complete-claude`."""
    found = suggestions(sys.argv[1:])
    for item in found:
        if item.type == "plain":
            print(f"{item.value}\t{item.help}" if item.help else item.value)
    # What is no name is a file's, which the shell knows better.
    files = not found or any(item.type != "plain" for item in found)
    print(f":{_DEFAULT if files else _NO_FILES}")


def suggestions(words: list[str]) -> list[CompletionItem]:
    """What may stand for the last of the words."""
    *before, last = words or [""]
    try:
        return ShellComplete(cli, {}, "kubectl claude", "").get_completions(before, last)
    except click.ClickException:
        return []
