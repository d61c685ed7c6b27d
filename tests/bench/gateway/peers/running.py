"""A peer as a program, from when it listens to its end."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError


@dataclass(frozen=True)
class Running:
    """`proxy` and `broker`: `127.0.0.1:PORT`, None where it is none. `pid`: of the process that does the work."""

    pid: int
    proxy: str | None = None
    broker: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What a peer has to do: lead to `names` at `ports`, whose addresses a name server at the port `dns` knows, `hosts`
    being the same as a file; and put `key` into requests that have `placeholder`, to the provider at `provider`."""

    names: Sequence[str]
    ports: Sequence[int]
    addresses: Mapping[str, Sequence[str]]
    dns: int
    provider: int
    key: str
    placeholder: str


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def process(
    argv: Sequence[str], directory: Path, port: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The program while it runs, once it listens at the port. Raises LocalClusterError with what it said."""
    log = directory / f"{Path(argv[0]).name}.log"
    with log.open("wb") as output:
        started = subprocess.Popen(  # noqa: ASYNC220  # as for all programs of the tests
            argv, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=directory
        )
    try:
        await _listens(started, port, log)
        yield started
    finally:
        started.terminate()
        try:
            await asyncio.to_thread(started.wait, 10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


async def _listens(started: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if started.poll() is not None:
            break
        await asyncio.sleep(0.05)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])  # noqa: ASYNC240
    raise LocalClusterError(f"{log.stem} does not listen:\n{last}", "Look at its configuration.")
