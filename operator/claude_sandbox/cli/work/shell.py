"""`claude-sandbox shell`."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work import terminal
from claude_sandbox.cli.work.activity import kept_active
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.options import place_of, sandbox_named, work
from claude_sandbox.cli.work.plain import Lines, plain_line
from claude_sandbox.cli.work.ways.sessions import NO_END, Session
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_exec import Channel

_SHELL = "TERM=$1; export TERM; if command -v bash >/dev/null; then exec bash; else exec sh; fi"
_PROGRAMS = "Name one that its image has, or a path. What a shell knows takes one: -- sh -c 'COMMAND'."


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARGUMENT]...]")
@where_options
def shell(sandbox: str, command: tuple[str, ...], where: Where) -> None:
    """A shell in a sandbox, or one command, as the agent's user, confined as the agent is.

    SANDBOX is NAME or NAMESPACE/NAME. With a terminal on both ends it gets one there; else its standard input, output
    and error are yours, and what it writes to a terminal is made plain first.

    \b
      claude-sandbox shell agents/alice
      claude-sandbox shell agents/alice -- git -C /workspace status
      echo hello | claude-sandbox shell agents/alice -- tee note.txt

    A terminal obeys what is shown on it, and the agent may write to yours while you are in its sandbox: titles,
    clipboard, answers that look as if you had typed them. Use a terminal in which that does no harm, or a command with
    its output in a pipe.
    """
    found = sandbox_named(sandbox, where)
    work(lambda: _run(found, command, where), failed=Exit.NO_SESSION)


async def _run(sandbox: tuple[str, str], command: Sequence[str], where: Where) -> int:
    tty = terminal.is_one()
    # What kind of terminal it is, only this end knows.
    wanted = command or ("sh", "-c", _SHELL, "sh", os.environ.get("TERM", "dumb"))
    async with place_of(sandbox, where) as (place, target), kept_active(target, where):
        session = await place.run(wanted, stdin=True, tty=tty)
        try:
            # It would wait for an end that nobody can tell it.
            if not tty and not session.can_end_input and not os.isatty(0):
                raise WorkError(*NO_END)
            if tty:
                click.echo(f"In {target}. Your terminal obeys what is written here; exit or Ctrl-D leaves.", err=True)
            return await attached(session, tty=tty)
        except ApiError as error:
            # A node's runtime says so in the place of the command's end; an engine ends it with 127 itself.
            if "executable file not found" not in error.message:
                raise
            click.echo(f"Error: There is no program {plain(wanted[0])} in {target}.\nRemedy: {_PROGRAMS}", err=True)
            return Exit.NO_PROGRAM
        finally:
            await session.close()


async def attached(session: Session, *, tty: bool) -> int:
    """Be its terminal, or its standard streams, until it ends: its exit code. Raises ApiError."""
    with ExitStack() as held:
        tasks = [asyncio.create_task(_give(session))]
        if tty:
            held.enter_context(terminal.raw())
            # Of many changes the size at the end is all that counts.
            resizes: asyncio.Queue[None] = asyncio.Queue(1)
            # The size at the beginning is told as a change.
            resizes.put_nowait(None)
            held.enter_context(terminal.resized(lambda: None if resizes.full() else resizes.put_nowait(None)))
            tasks.append(asyncio.create_task(_resize(session, resizes)))
        try:
            await _show(session, tty=tty)
        except BrokenPipeError:
            return 0  # who reads has enough, as of any command before `head`
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert session.exit_code is not None  # noqa: S101 - its output has ended
    return session.exit_code


async def _show(session: Session, *, tty: bool) -> None:
    shown = {Channel.STDOUT: 1, Channel.STDERR: 2}
    # What goes to a terminal that is not the program's own is no more than text.
    cleaned = {channel: Lines() for channel, descriptor in shown.items() if not tty and os.isatty(descriptor)}
    async for channel, data in session.output():
        text = _plain(cleaned[channel].take(data)) if channel in cleaned else data
        await terminal.show(shown[channel], text)
    for channel, lines in cleaned.items():
        await terminal.show(shown[channel], _plain(lines.end()))


def _plain(lines: list[bytes]) -> bytes:
    return "".join(f"{plain_line(line)}\n" for line in lines).encode()


async def _give(session: Session) -> None:
    try:
        async for part in terminal.typed():
            await session.write(part)
        await session.end_input()
    except (ApiError, WorkError):
        pass  # how it ended comes with its output


async def _resize(session: Session, wanted: "asyncio.Queue[None]") -> None:
    while True:
        await wanted.get()
        await session.resize(*terminal.size())
