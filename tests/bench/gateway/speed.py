"""What the gateway costs: against a direct connection, and against Envoy, mitmproxy and Smokescreen, in one run.

Client, servers and what is between share the machine, so the figures are good for comparing within the run. A request
is 2 KB of JSON both ways, a stream 200 events that the stand-in sends 2 ms apart, a tunnel one download over TLS.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewaykit import KEY, PLACEHOLDER, authority, document, provider, running
from tests.bench.gateway import load
from tests.bench.gateway.load import NAME, Column, Percentiles
from tests.bench.gateway.peers import bare, programs
from tests.bench.gateway.peers.envoy import envoy
from tests.bench.gateway.peers.mitmproxy import mitmproxy
from tests.bench.gateway.peers.running import Wanted
from tests.bench.gateway.peers.small_dns import small_dns
from tests.bench.gateway.peers.smokescreen import smokescreen

from claude_sandbox.localcluster.errors import LocalClusterError

OURS, DIRECT, ENVOY = "gateway", "direct", "Envoy"


@dataclass(frozen=True)
class Sizes:
    """How much is measured: requests of each kind, rounds of streams and downloads, MiB of a download, connections."""

    requests: int = 500
    rounds: int = 3
    megabytes: int = 512
    openings: int = 100


@dataclass(frozen=True)
class Measured:
    """By column. Milliseconds, a second, MB/s of downloads (over TLS, and without), MB; `cpu` is milliseconds of the
    process for one request."""

    requests: Mapping[str, Percentiles]
    rates: Mapping[str, float]
    events: Mapping[str, Percentiles]
    openings: Mapping[str, Percentiles]
    secure: Mapping[str, float]
    raw: Mapping[str, float]
    cpu: Mapping[str, float]
    memory: Mapping[str, float]
    not_tried: Mapping[str, str]


async def measure(directory: Path, sizes: Sizes, report: Callable[[str], None]) -> Measured:
    """Start everything, and measure."""
    trust = authority(directory, NAME)
    not_tried: dict[str, str] = {}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(provider())
        api.answer = load.answer
        ports = []
        for security in (trust.server(), None):
            server = await asyncio.start_server(load.download(sizes.megabytes), "127.0.0.1", 0, ssl=security)
            await stack.enter_async_context(server)
            ports.append(server.sockets[0].getsockname()[1])
        client = ssl.create_default_context(cafile=trust.bundle)
        columns = [Column(DIRECT, client, api.url, direct=True)]
        configuration = document(directory, provider=api.url, allowedDomains=[
            f"{NAME}:{ports[0]}", {"domain": f"{NAME}:{ports[1]}", "protocol": "Any"},
        ])  # fmt: skip
        configuration["egress"]["hosts"] = {NAME: ["127.0.0.1"]}
        configuration["limits"] = {"requestsPerMinutePerSandbox": 1_000_000}
        ours = stack.enter_context(running(directory, configuration))
        columns.append(Column(OURS, client, f"http://{ours.broker}", ours.proxy, ours.process.pid))
        dns = await stack.enter_async_context(small_dns({NAME: ("127.0.0.1",)}))
        upstream = int(api.url.rpartition(":")[2])
        wanted = Wanted((NAME,), ports, {NAME: ("127.0.0.1",)}, dns, upstream, KEY, PLACEHOLDER)
        for name, fetch, start in PEERS:
            try:
                columns.append(await stack.enter_async_context(_peer(name, fetch, start, directory, wanted, client)))
            except LocalClusterError as error:
                not_tried[name] = error.message.splitlines()[0]
        return await _all(columns, ports, sizes, report, not_tried)


PEERS: tuple[tuple[str, Callable[[Callable[[str], None]], Any], Any], ...] = (
    (ENVOY, programs.envoy, envoy),
    ("aiohttp alone", bare.here, bare.bare),
    ("mitmproxy", programs.mitmdump, mitmproxy),
    ("Smokescreen", programs.smokescreen, smokescreen),
)


@contextlib.asynccontextmanager
async def _peer(
    name: str,
    fetch: Callable[[Callable[[str], None]], Any],
    start: Any,
    parent: Path,
    wanted: Wanted,
    client: ssl.SSLContext,
) -> AsyncIterator[Column]:
    directory = parent / name
    directory.mkdir()
    program = await asyncio.to_thread(fetch, print)
    async with start(program, directory, wanted) as peer:
        trust, host = client, NAME
        if name == "mitmproxy":
            # It shows a certificate of its own, and knows no names but the system's.
            trust, host = ssl.create_default_context(cafile=directory / "mitmproxy-ca-cert.pem"), "127.0.0.1"
        url = f"http://{peer.broker}" if peer.broker else None
        yield Column(name, trust, url, peer.proxy, peer.pid, host)


async def _all(
    columns: Sequence[Column],
    ports: Sequence[int],
    sizes: Sizes,
    report: Callable[[str], None],
    not_tried: Mapping[str, str],
) -> Measured:
    brokers = [one for one in columns if one.url]
    tunnels = [one for one in columns if one.direct or one.proxy]
    running_ones = {one.name: one.pid for one in columns if one.pid}
    before = {name: load.cpu(pid) for name, pid in running_ones.items()}
    report("Requests.")
    requests, rates = await load.requests(brokers, sizes.requests)
    each = sizes.requests * 3 + 10
    cpu = {one.name: (load.cpu(one.pid) - before[one.name]) * 1000 / each for one in brokers if one.pid}
    report("Events.")
    events = await load.events(brokers, sizes.rounds)
    report("Connections and downloads.")
    openings = await load.openings(tunnels, ports[0], sizes.openings)
    secure = await load.downloads(tunnels, ports[0], sizes.megabytes, sizes.rounds, tls=True)
    raw = await load.downloads(tunnels, ports[1], sizes.megabytes, sizes.rounds, tls=False)
    report(f"{load.IDLE} idle streams.")
    memory = {}
    for one in brokers:
        if one.pid:
            async with load.idle_streams(one):
                memory[one.name] = load.memory(one.pid)
    return Measured(requests, rates, events, openings, secure, raw, cpu, memory, not_tried)
