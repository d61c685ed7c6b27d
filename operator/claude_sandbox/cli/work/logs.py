"""`claude-sandbox logs`."""

import sys
from contextlib import aclosing
from datetime import UTC, datetime

import click

from claude_sandbox.cli.audit.lines import since as age
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.options import place_of, sandbox_named, work
from claude_sandbox.cli.work.plain import Lines, plain_line
from claude_sandbox.cli.work.sessions import LogOptions


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else age(value, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter("write an age such as 10m, 2h or 7d, or a time such as 2026-01-31T12:00:00Z") from None


@click.command(epilog="\b\nExit codes: 0 it was read, 1 it could not be read, 2 the command line is wrong.")
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@click.option("--follow", "-f", is_flag=True, help="Go on as more is written, until Ctrl-C or the container's end.")
@click.option("--since", "after", metavar="AGE", callback=_since, help="From then on: 10m, 2h, 7d, or a time.")
@click.option("--tail", metavar="LINES", type=click.IntRange(0), help="The last lines only. [default: all]")
@click.option("--previous", "-p", is_flag=True, help="Of the container that ran before the last restart.")
@click.option("--timestamps", is_flag=True, help="Begin each line with when it was written.")
@click.option("--raw", is_flag=True, help="Byte for byte. Not for a terminal: it obeys what the agent wrote.")
@where_options
def logs(
    sandbox: str,
    follow: bool,
    after: datetime | None,
    tail: int | None,
    previous: bool,
    timestamps: bool,
    raw: bool,
    where: Where,
) -> None:
    """What a sandbox's agent has written to its standard output and error.

    SANDBOX is NAME or NAMESPACE/NAME. A character that a terminal would obey is written as Python writes it (\\x1b),
    and a line of more than 64 KiB as several.

    \b
      claude-sandbox logs agents/alice --tail 20 --follow
      claude-sandbox logs alice -n agents --since 10m | grep error

    What it asked its gateway for is elsewhere: claude-sandbox audit.
    """
    found = sandbox_named(sandbox, where)
    options = LogOptions(follow, previous, after, tail, timestamps)
    work(lambda: _show(found, options, where, raw=raw))


async def _show(sandbox: tuple[str, str], options: LogOptions, where: Where, *, raw: bool) -> int:
    lines, output = Lines(), sys.stdout
    async with place_of(sandbox, where) as (place, _), aclosing(place.log(options)) as parts:
        async for part in parts:
            if raw:
                output.buffer.write(part)
            else:
                output.writelines(f"{plain_line(line)}\n" for line in lines.take(part))
            output.flush()
        output.writelines(f"{plain_line(line)}\n" for line in lines.end())
    return 0
