"""mitmproxy: as a broker in reverse mode with the header replaced; as a proxy in regular mode, which opens TLS."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench.gateway.peers.running import Running, Wanted, free_port, process


@contextlib.asynccontextmanager
async def mitmproxy(program: Path, directory: Path, wanted: Wanted) -> AsyncIterator[Running]:
    """It, as both. Its CA is `mitmproxy-ca-cert.pem` in the directory. It takes names as the system's resolver does."""
    proxy, broker = free_port(), free_port()
    argv = (
        str(program), "--quiet", "--set", f"confdir={directory}", "--set", "stream_large_bodies=1", "--ssl-insecure",
        "--listen-host", "127.0.0.1", "--mode", f"regular@{proxy}",
        "--mode", f"reverse:http://127.0.0.1:{wanted.provider}@{broker}",
        "--modify-headers", f"/~q/x-api-key/{wanted.key}",
    )  # fmt: skip
    async with process(argv, directory, broker) as started:
        yield Running(started.pid, f"127.0.0.1:{proxy}", f"127.0.0.1:{broker}")
