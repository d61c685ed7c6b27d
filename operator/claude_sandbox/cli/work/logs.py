"""`claude-sandbox logs`."""

import sys
from contextlib import aclosing
from datetime import datetime

import click

from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.values import since
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.options import place_of, sandbox_named, work
from claude_sandbox.cli.work.plain import Lines, plain_line
from claude_sandbox.cli.work.redacting import RedactedLines
from claude_sandbox.cli.work.ways.sessions import LogOptions


@click.command()
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@click.option("--follow", "-f", is_flag=True, help="Go on as more is written, until Ctrl-C or the container's end.")
@click.option("--since", "after", metavar="AGE", callback=since, help="From then on: 10m, 2h, 7d, or a time.")
@click.option("--tail", metavar="LINES", type=click.IntRange(0), help="The last lines only. [default: all]")
@click.option("--previous", "-p", is_flag=True, help="Of the container that ran before the last restart.")
@click.option("--timestamps", is_flag=True, help="Begin each line with when it was written.")
@click.option("--no-redact", is_flag=True, help="Credentials as well, which are taken out otherwise.")
@click.option("--raw", is_flag=True, help="Byte for byte, credentials too. Not for a terminal: it obeys what is in it.")
@where_options
def logs(
    sandbox: str,
    follow: bool,
    after: datetime | None,
    tail: int | None,
    previous: bool,
    timestamps: bool,
    no_redact: bool,
    raw: bool,
    where: Where,
) -> None:
    """What a sandbox's agent has written to its standard output and error.

    SANDBOX is NAME or NAMESPACE/NAME. A character that a terminal would obey is written as Python writes it (\\x1b),
    and a line of more than 64 KiB as several. What looks like a credential is shown as [redacted]: keys of Anthropic's
    and of others, tokens, passwords in headers, in URLs and by their names, private keys.

    \b
      claude-sandbox logs agents/alice --tail 20 --follow
      claude-sandbox logs alice -n agents --since 10m | grep error

    What it asked its gateway for is elsewhere: claude-sandbox audit.
    """
    found = sandbox_named(sandbox, where)
    options = LogOptions(follow, previous, after, tail, timestamps)
    lines = Lines() if no_redact else RedactedLines()
    work(lambda: _show(found, options, where, lines, raw=raw), failed=Exit.UNREADABLE)


async def _show(
    sandbox: tuple[str, str], options: LogOptions, where: Where, lines: Lines | RedactedLines, *, raw: bool
) -> int:
    output = sys.stdout
    async with place_of(sandbox, where) as (place, _), aclosing(place.log(options)) as parts:
        async for part in parts:
            if raw:
                output.buffer.write(part)
            else:
                output.writelines(f"{plain_line(line)}\n" for line in lines.take(part))
            # Each piece at once: somebody may be watching it.
            output.flush()
        output.writelines(f"{plain_line(line)}\n" for line in lines.end())
    return 0
