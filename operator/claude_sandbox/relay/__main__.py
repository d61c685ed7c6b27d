"""`python -m claude_sandbox.relay [--listen-on ADDRESS] PORT=HOST:PORT …`"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from claude_sandbox.relay.forward import Limits, Target
from claude_sandbox.relay.server import Relay, outside_address

VERSION = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. The exit code: 0, 1 where it can't listen, 2 for arguments that make no sense."""
    asked = _parser().parse_args(arguments)
    limits = Limits(connections=asked.connections, idle=asked.idle)
    try:
        asyncio.run(_run(asked.listen_on, dict(asked.forwards), limits))
    except OSError as error:
        print(f"relay: can't listen: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(listen_on: str | None, targets: dict[int, Target], limits: Limits) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    relay = Relay(listen_on or outside_address(), targets, limits)
    try:
        await relay.start()
        await told.wait()
    finally:
        await relay.close()


def _parser() -> argparse.ArgumentParser:
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m claude_sandbox.relay",
        description="Forward TCP connections that come in on one address to others, and nothing the other way.",
    )
    parser.add_argument("forwards", nargs="+", type=_forward, metavar="PORT=HOST:PORT", help="a port, and its target")
    parser.add_argument("--listen-on", metavar="ADDRESS", help="default: the address on the default route's side")
    parser.add_argument(
        "--connections", type=_positive, default=limits.connections, metavar="N", help="at a time (default %(default)s)"
    )
    parser.add_argument(
        "--idle", type=_seconds, default=limits.idle, metavar="SECONDS",
        help="after which a connection on which nothing moves is ended (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return parser


def _forward(text: str) -> tuple[int, Target]:
    port, _, target = text.partition("=")
    host, separator, number = target.rpartition(":")
    if not separator or not host:
        raise argparse.ArgumentTypeError("write PORT=HOST:PORT, for example 8080=10.1.2.3:8080")
    return _port(port), Target(host.strip("[]"), _port(number))


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no TCP port: write a number from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("write a number above 0")
    return int(text)


def _seconds(text: str) -> float:
    found = float(text)
    if not found > 0:
        raise argparse.ArgumentTypeError("write a number of seconds above 0")
    return found


if __name__ == "__main__":
    sys.exit(main())
