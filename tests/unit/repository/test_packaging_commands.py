"""The commands that the pages name are there, with the options that are given to them; so are the targets of make."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from repository import ROOT

from claude_sandbox.cli.main import cli

PAGES = [ROOT / "README.md", ROOT / "tests/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_CODE = re.compile(r"^ *```\w*\n(.*?)^ *```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[\s/(])claude-sandbox (?=[a-z-])(?!-)")
_MAKE = re.compile(r"(?:^|\$ |# |&& )make ([a-z0-9-]+)")


def codes(page: Path) -> Iterator[str]:
    """The lines of the page's code, those that go on in one, and its code in sentences."""
    for block, inline in _CODE.findall(page.read_text()):
        for line in (inline or block.replace("\\\n", " ")).splitlines():
            # A comment of the shell; what is left of one at a line's beginning is the prompt of root.
            yield re.split(r"(?<=\S)\s+#\s", line.strip())[0]


def commands(page: Path) -> Iterator[list[str]]:
    """What is given to `claude-sandbox`, word by word, without what stands for a choice and for more."""
    for line in codes(page):
        for said in _COMMAND.split(line)[1:]:
            plain = re.split(r" \||\|\| | > | < | && |;|\)", re.sub(r"[\[\]…]", " ", said))[0]
            try:
                yield shlex.split(plain)
            except ValueError:
                # A quotation that goes on after what was cut off.
                yield plain.split()


def problem(words: list[str]) -> str:
    """Why this is no command; empty where it is one."""
    command: click.Command = cli
    context = click.Context(cli, info_name="claude-sandbox")
    known = {"--help", "--version"}
    words = list(words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return "" if command.invoke_without_command and command is not cli else f"no command {name}"
        command, context = found, click.Context(found, parent=context, info_name=name)
        known |= {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)}
    given = words[: words.index("--")] if "--" in words else words
    options = {word.partition("=")[0] for word in given if re.match("--?[a-z]", word, re.IGNORECASE)}
    if unknown := options - known:
        return ", ".join(f"no option {one} of {context.command_path}" for one in sorted(unknown))
    # What is given a name is meant to be run as it stands; without any it is a mention.
    needed = [one.opts for one in command.params if one.required and isinstance(one, click.Option)]
    whole = bool(given) and not given[0].startswith("-") and not isinstance(command, click.Group)
    return ", ".join(f"{context.command_path} lacks {one[0]}" for one in needed if whole and not options & set(one))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    assert [(shlex.join(words), wrong) for words in commands(page) if (wrong := problem(words))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for line in codes(page) for name in _MAKE.findall(line)} - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_has_run_is_there(page: Path) -> None:
    named = {name for line in codes(page) for name in re.findall(r"(?<![\w/.])tests/[\w/.-]+\w", line)}
    assert {name for name in named if not re.search("[A-Z]{3}", name) and not (ROOT / name).exists()} == set()


def test_what_is_no_command_is_found() -> None:
    assert problem(["check", "pod", "agents/alice", "--all-of-it"]) == "no option --all-of-it of claude-sandbox check"
    assert problem(["chekc"]) == "no command chekc"
    assert problem(["shell", "alice", "--", "ls", "--all-of-it"]) == ""
    assert problem(["backup", "alice"]) == "claude-sandbox backup lacks --secret"
    assert problem(["backup"]) == ""
    assert sum(len(list(commands(page))) for page in PAGES) > 100
