"""`python -m claude_sandbox.gateway --config FILE`, or with `-` for what comes on standard input."""

import argparse
import asyncio
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from claude_sandbox.gateway.audit import AuditError
from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.config.follow import Follower, Follows
from claude_sandbox.gateway.server import Gateway, by_input, follower, with_cluster

_STANDARD_INPUT = Path("-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. The exit code: 0, 1 where it can't listen or can't write its audit, 2 for a wrong
    configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m claude_sandbox.gateway",
        description="The only way out of sandboxes: a broker for the model's API, and a proxy for allowed names.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE",
        help="the configuration, a JSON document; - follows messages on standard input",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and end")
    asked = parser.parse_args(arguments)
    try:
        files = by_input() if asked.config == _STANDARD_INPUT else follower(asked.config)
    except ConfigError as error:
        print(f"gateway: {asked.config}: {error}", file=sys.stderr)
        return 2
    if asked.check:
        return 0
    try:
        followed = with_cluster(files) if isinstance(files, Follower) else files
    except ConfigError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(followed))
    except AuditError as error:
        print(f"gateway: its audit can't be written: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"gateway: can't listen: {error}", file=sys.stderr)
        return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, else the standard library's."""
    try:
        found: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return found


async def _run(followed: Follows) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await Gateway(followed).run(told)


if __name__ == "__main__":
    sys.exit(main())
