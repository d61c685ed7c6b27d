"""The agent at work on the private repository, and what came of it, as the git server and the command say it."""

import json
import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any

from claude_sandbox.api.clip import plain
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Cluster, Place
from claude_sandbox.demo.work import task
from claude_sandbox.demo.work.repository import GitServer
from claude_sandbox.install.errors import SetupError

_WHERE = task.DIRECTORY.rpartition("/")[2]
_TOOLS = ("--allowedTools", "Read,Edit,Bash")
_PATIENCE = 300
"""Seconds for the task; a model takes its time."""
_COST = ("--max-budget-usd", "1")
_LONGEST = 300
"""Characters of what the agent says at once."""


class Mode(Enum):
    """Who says what Claude Code does."""

    SCRIPTED = "the stand-in"
    MODEL = "the model"
    UNANSWERED = "nobody"


def show(place: Place, cluster: Cluster, sandbox: str, server: GitServer, mode: Mode, narrator: Narrator) -> bool:
    """Whether a push to `main` was tried and refused. Raises SetupError where `main` was changed."""
    narrator.step("A private repository: cloned, worked on and pushed to, with a token that the sandbox doesn't have")
    before, branch = server.branches(), task.SCRIPTED_BRANCH if mode is Mode.SCRIPTED else task.BRANCH
    _run(place, narrator, "git", "-C", _WHERE, "log", "--oneline", "main")
    if branch in before:
        narrator.show(f"The branch {branch} of an earlier run is there, so nothing is asked for.")
    elif mode is Mode.UNANSWERED:
        narrator.show("Nobody answers Claude Code, so it is asked for nothing.")
    else:
        _ask(place, branch, mode, narrator)
    refused = _run(place, narrator, "git", "-C", _WHERE, "push", "origin", "HEAD:main") != 0
    command, listed = server.listing()
    narrator.show(f"$ {command}     # the git server itself, from outside")
    narrator.show(_lines(listed))
    after = server.branches()
    if after.get("main") != before.get("main"):
        raise SetupError(
            "The branch main was pushed to, and spec.repositories allows claude/* alone.",
            "See what the gateway made of it: claude-sandbox audit. This must not happen: please report it.",
        )
    if branch not in after:
        narrator.show(f"There is no branch {branch}: the work was not done.")
    narrator.show(f"$ claude-sandbox diff {sandbox}     # what the agent changed, computed out of its reach")
    narrator.show(_lines(cluster.run("diff", sandbox)) or "(nothing)")
    return refused


def _ask(place: Place, branch: str, mode: Mode, narrator: Narrator) -> None:
    # Where an earlier run has left another branch, the mistake is mended there.
    place.run("git", "-C", task.DIRECTORY, "checkout", "--quiet", "main")
    if mode is Mode.SCRIPTED:
        narrator.show("Claude Code is the real one; what it is told to do is a script of the stand-in's.")
    prompt, more = task.prompt(branch), _COST if mode is Mode.MODEL else ()
    claude = ("claude", "-p", prompt, *_TOOLS, *more)
    narrator.show(f"$ {place.command} env -C {_WHERE} claude -p '{prompt}' {' '.join((*_TOOLS, *more))}")
    code, said = place.run(
        "env", "-C", task.DIRECTORY, "timeout", str(_PATIENCE), *claude, "--output-format", "stream-json", "--verbose"
    )
    for line in told(said):
        narrator.show(line)
    if code != 0:
        narrator.show(f"(exit code {code})")


def told(output: str) -> Iterator[str]:
    """What Claude Code did and said, a line each, of its stream of JSON, which an agent may have written."""
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            # Why it did not begin, for example.
            yield from [_short(line)] if line.strip() else []
            continue
        if isinstance(event, dict) and isinstance(event.get("message"), dict):
            content = event["message"].get("content")
            for block in content if isinstance(content, list) else ():
                yield from _block(str(event.get("type")), block)


def _block(who: str, block: dict[str, Any]) -> Iterator[str]:
    match who, block.get("type"):
        case "assistant", "tool_use":
            given = block.get("input") or {}
            what = given.get("command") or given.get("file_path") or next(iter(given.values()), "")
            yield _short(f"  {block.get('name')}: {str(what).removeprefix(f'{task.DIRECTORY}/')}", "  ")
        case "user", "tool_result" if block.get("is_error"):
            yield _short(f"    which failed: {block.get('content')}", "    ")
        case "assistant", "text" if str(block.get("text")).strip():
            yield _short(str(block.get("text")))


def _short(text: str, indent: str = "") -> str:
    return indent + textwrap.shorten(plain(" ".join(text.split())), _LONGEST)


def _run(place: Place, narrator: Narrator, *argv: str) -> int:
    narrator.show(f"$ {place.command} {' '.join(argv)}")
    code, said = place.run(*argv)
    narrator.show(_lines(said) or f"(nothing, exit code {code})")
    return code


def _lines(text: str) -> str:
    """Of what an agent may have written; git tells of its progress with carriage returns."""
    return "\n".join(plain(line.rstrip()) for line in text.replace("\r", "\n").split("\n")).strip("\n")
