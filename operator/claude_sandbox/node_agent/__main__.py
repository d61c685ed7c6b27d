"""`python -m claude_sandbox.node_agent --certificates DIRECTORY [--cgroups DIRECTORY] …`"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from claude_sandbox.node_agent import PORT
from claude_sandbox.node_agent.server import Files, Server
from claude_sandbox.procfs.files import CGROUPS, PROC


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. The exit code: 0, 1 where it can't listen, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m claude_sandbox.node_agent",
        description="Tell, by mutual TLS, what the kernel says of the processes of a pod on this node.",
    )
    parser.add_argument(
        "--certificates", type=Path, required=True, metavar="DIRECTORY", help="tls.crt, tls.key, ca.crt"
    )
    parser.add_argument("--cgroups", type=Path, default=CGROUPS, metavar="DIRECTORY", help="the node's control groups")
    parser.add_argument("--proc", type=Path, default=PROC, metavar="DIRECTORY", help="the node's processes")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="the kubelet's files of pods' output")
    parser.add_argument("--address", default="0.0.0.0", help="to listen at (default %(default)s)")  # noqa: S104
    parser.add_argument("--port", type=int, default=PORT, help="default %(default)s")
    asked = parser.parse_args(arguments)
    server = Server(Files(asked.certificates), asked.address, asked.port, asked.proc, asked.cgroups, asked.logs)
    try:
        asyncio.run(_run(server))
    except OSError as error:
        print(f"node agent: can't listen: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(server: Server) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    running, stopping = asyncio.create_task(server.run()), asyncio.create_task(told.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
    running.cancel()


if __name__ == "__main__":
    sys.exit(main())
