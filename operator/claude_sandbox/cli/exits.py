"""What each command says by its exit code. One table: the helps and docs/reference/exit-codes.md are made of it. Pure.

A command that reads tells apart what it read and is wrong (1) from what it could not read (4): a pipeline may go on
after neither, and a person has to look in two places.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

import click


class Exit(IntEnum):
    """The codes that mean the same in every command that has them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNDECIDED = 3
    UNREADABLE = 4
    NO_SESSION = 125
    """No command's own, as with `docker exec`."""
    NO_PROGRAM = 127
    """As a shell has it."""
    INTERRUPTED = 130
    """By a signal, as a shell has it."""
    PIPE_CLOSED = 141
    """By SIGPIPE, as a shell has it of other commands before `head`."""


MEANINGS: Mapping[int, str] = {
    Exit.DONE: "it was done, and nothing that was looked for is wrong",
    Exit.FAILED: "it could not be done (the message says why and what to do), or what was read is wrong",
    Exit.USAGE: "the command line is wrong",
    Exit.UNDECIDED: "nothing is wrong that could be told, and not all could be; of a drill: something got out",
    Exit.UNREADABLE: "what was asked for could not be read, or what came out not be written",
    Exit.INTERRUPTED: "it was interrupted by Ctrl-C",
    Exit.PIPE_CLOSED: "who read its output had enough, as `head`",
}
_DONE: Mapping[int | str, str] = {Exit.DONE: "it was done", Exit.FAILED: "it could not be done"}
_IN_TIME: Mapping[int | str, str] = {Exit.DONE: "it was done", Exit.FAILED: "it could not be done, or not in time"}
_READ: Mapping[int | str, str] = {Exit.DONE: "it was read", Exit.UNREADABLE: "it could not be read"}
_UNVERIFIED = "none fails, but at least one required control can't be verified (--allow-unknown makes that 0)"
_CODES: Mapping[str, Mapping[int | str, str]] = {
    "check": {
        Exit.DONE: "every required control passes or does not apply",
        Exit.FAILED: "at least one required control fails",
        Exit.UNDECIDED: _UNVERIFIED,
        Exit.UNREADABLE: "the target could not be read, or a part of it",
    },
    "report": {
        Exit.DONE: "of every sandbox, every required control passes or does not apply",
        Exit.FAILED: "at least one required control fails",
        Exit.UNDECIDED: f"there is no sandbox, or {_UNVERIFIED}",
        Exit.UNREADABLE: "what was asked for could not be read, or the report not be written",
    },
    "due": {
        Exit.DONE: "nothing is due now",
        Exit.FAILED: "something is",
        Exit.UNREADABLE: "the sandboxes could not be read",
    },
    "usage": _READ,
    "audit": {Exit.DONE: "it was read", Exit.UNREADABLE: "it could not be read, or held no line of an audit"},
    "trail show": {Exit.DONE: "it was read", Exit.UNREADABLE: "it could not be read, or held no line of a trail"},
    "trail verify": {
        Exit.DONE: "nothing is wrong",
        Exit.FAILED: "something is",
        Exit.UNREADABLE: "it could not be read",
    },
    "logs": _READ,
    "diff": {Exit.DONE: "it was computed", Exit.UNREADABLE: "it could not be"},
    "incident kept list": _READ,
    "shell": {
        "the command's own": "it ran",
        Exit.NO_SESSION: "no session could be had, or it broke",
        Exit.NO_PROGRAM: "the sandbox has no such program",
    },
    "cp": {
        Exit.DONE: "it was copied",
        Exit.FAILED: "it was not, or a file changed while it was read",
        Exit.INTERRUPTED: "it was interrupted",
    },
    "resume": {Exit.DONE: "it is to run", Exit.FAILED: "it can't be had to"},
    "backup": {Exit.DONE: "stored and verified", Exit.FAILED: "not"},
    "restore": {Exit.DONE: "restored", Exit.FAILED: "not"},
    "incident quarantine": _IN_TIME,
    "incident key-compromised": _IN_TIME,
    "incident lift": _IN_TIME,
    "incident collect": _IN_TIME,
    "incident host": _IN_TIME,
    "incident drill": {
        Exit.DONE: "nothing went on after it was said to be contained",
        Exit.FAILED: "it could not be done, or not in time",
        Exit.UNDECIDED: "something went on, or got out",
    },
    "machine status": {Exit.DONE: "all is well", Exit.FAILED: "something is not"},
    "cluster status": {Exit.DONE: "it runs", Exit.FAILED: "it does not"},
    "engine status": {Exit.DONE: "it runs", Exit.FAILED: "it does not"},
    "cluster kubectl": {"kubectl's own": "it ran"},
}


def codes_of(command: str) -> Mapping[int | str, str]:
    """By the words that come after `claude-sandbox`, the codes in their order."""
    codes = _CODES.get(command, _DONE)
    return dict(sorted({**codes, Exit.USAGE: MEANINGS[Exit.USAGE]}.items(), key=_order))


def described(command: click.Command, name: str) -> click.Command:
    """The command, and all below it, with the exit codes at the end of their help."""
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            described(one, f"{name} {below}")
    else:
        width = max(len(str(code)) for code in map(_written, codes_of(name)))
        lines = (f"  {_written(code):<{width}}  {meaning}" for code, meaning in codes_of(name).items())
        command.epilog = "\b\nExit codes:\n" + "\n".join(lines)
    return command


def to_markdown(commands: Iterable[str]) -> str:
    """The page for people."""
    return "\n".join(_page(commands))


def _page(commands: Iterable[str]) -> Iterator[str]:
    yield "# Exit codes\n"
    yield "<!-- Written by `python -m claude_sandbox.cli.generate`. Change cli/exits.py, not this file. -->\n"
    yield "What `claude-sandbox` and `kubectl claude` say to a script. In every command that has them:\n"
    yield "| exit code | meaning |\n|---|---|"
    yield from (f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())
    yield "\nOf each command by itself, in which 2 is always a command line that is wrong:\n"
    yield "| command | exit codes |\n|---|---|"
    for command in commands:
        told = (f"{_written(code)}: {meaning}" for code, meaning in codes_of(command).items() if code != Exit.USAGE)
        yield f"| `{command}` | {'; '.join(told)} |"
    yield ""


def _written(code: int | str) -> str:
    return code if isinstance(code, str) else str(int(code))


def _order(code: tuple[int | str, str]) -> tuple[bool, int]:
    return not isinstance(code[0], str), 0 if isinstance(code[0], str) else int(code[0])
