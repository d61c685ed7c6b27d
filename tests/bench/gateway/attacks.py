"""`python -m tests.bench.gateway.attacks`: every attack of the tables, done to a proxy that lets everything through, to
the gateway, and to Envoy, Squid and Smokescreen, in one run; writes docs/reference/gateway-attacks.md.

The peers are fetched into the cache the first time; one that is not to be had is left out, and the page says so.
Everything is on loopback.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import broker_attacks
import egress_attacks
from egress_place import ADDRESSES, ALLOWED, ALLOWED_NAMES, VICTIM, Place, place
from gatewaykit import KEY, PLACEHOLDER, authority, document, provider, running
from plain_proxies import plain_broker, plain_proxy
from tests.bench.gateway.attacks_page import PAGE, Column, page
from tests.bench.gateway.peers import programs
from tests.bench.gateway.peers.envoy import envoy
from tests.bench.gateway.peers.running import Running, Wanted
from tests.bench.gateway.peers.small_dns import small_dns
from tests.bench.gateway.peers.smokescreen import smokescreen
from tests.bench.gateway.peers.squid import squid

from claude_sandbox.localcluster.errors import LocalClusterError

_SECONDS = 1.0
"""For an attack to succeed; those that do take some hundredths."""

Peer = Callable[[Any, Path, Wanted], AbstractAsyncContextManager[Running]]
PEERS: tuple[tuple[str, str, Callable[[programs.Report], Any], Peer], ...] = (
    ("Envoy", programs.ENVOY, programs.envoy, envoy),
    ("Squid", "", programs.squid, squid),
    ("Smokescreen", programs.SMOKESCREEN, programs.smokescreen, smokescreen),
)


def main() -> int:
    """Measure, and write the page; 1 where something of ours is not as it has to be."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        columns = asyncio.run(_columns(Path(directory)))
    PAGE.write_text(page(columns), encoding="utf-8")
    plain, gateway = columns[:2]
    wrong = [f"not an attack: {name}" for name, through in plain.found.items() if not through]
    wrong += [f"what is allowed does not pass by {one.name}" for one in columns if not one.works]
    wrong += [f"through the gateway: {name}" for name, through in gateway.found.items() if through]
    print("\n".join([*wrong, f"Written: {PAGE}"]), file=sys.stderr)
    return 1 if wrong else 0


async def _columns(directory: Path) -> list[Column]:
    trust = authority(directory, ALLOWED, VICTIM)
    async with contextlib.AsyncExitStack() as stack:
        servers = await stack.enter_async_context(place(trust))
        provided = broker_attacks.Servers(
            await stack.enter_async_context(provider()), await stack.enter_async_context(provider())
        )
        dns = await stack.enter_async_context(small_dns(ADDRESSES))
        port = int(provided.api.url.rpartition(":")[2])
        wanted = Wanted(ALLOWED_NAMES, servers.allowed_ports, ADDRESSES, dns, port, KEY, PLACEHOLDER)
        columns = []
        async with plain_proxy(ADDRESSES) as proxy, plain_broker(provided.api.url, KEY) as broker:
            plain = Running(os.getpid(), proxy, broker)
            columns.append(await _column("a plain proxy", "", plain, servers, provided))
        async with _gateway(directory, servers, provided) as ours:
            columns.append(await _column("the gateway", "", ours, servers, provided))
        for name, pinned, fetch, start in PEERS:
            version = pinned
            place_of_its_own = directory / name
            place_of_its_own.mkdir()
            try:
                program = await asyncio.to_thread(fetch, _report)
                version = version or programs.squid_version(program)
                async with start(program, place_of_its_own, wanted) as peer:
                    columns.append(await _column(name, version, peer, servers, provided))
            except LocalClusterError as error:
                _report(f"{name} is not tried: {error.message}")
                columns.append(Column(name, version, {}, why_not=error.message.splitlines()[0]))
        return columns


@contextlib.asynccontextmanager
async def _gateway(directory: Path, servers: Place, provided: broker_attacks.Servers) -> AsyncIterator[Running]:
    allowed = [f"{name}:{port}" for name in ALLOWED_NAMES for port in servers.allowed_ports]
    configuration = document(directory, provider=provided.api.url, models=["claude-sonnet-*"], allowedDomains=allowed)
    configuration["egress"] = {
        "privateNetworks": ["127.0.0.1/32"],
        "hosts": {name: list(addresses) for name, addresses in ADDRESSES.items()},
    }
    with running(directory, configuration) as gateway:
        yield Running(gateway.process.pid, gateway.proxy, gateway.broker)


async def _column(name: str, version: str, peer: Running, servers: Place, provided: broker_attacks.Servers) -> Column:
    _report(f"{name} {version}".strip())
    found: dict[str, bool] = {}
    for attack in egress_attacks.attacks():
        assert peer.proxy is not None
        found[f"{attack.kind}/{attack.name}"] = await egress_attacks.succeeds(attack, servers, peer.proxy, _SECONDS)
    for one in broker_attacks.attacks() if peer.broker else ():
        assert peer.broker is not None
        await broker_attacks.answer_to(one, provided, peer.broker)
        found[f"{one.kind}/{one.name}"] = one.gained(provided)
    return Column(name, version, found, works=await _works(peer, servers))


async def _works(peer: Running, servers: Place) -> bool:
    """Whether what is allowed passes."""
    assert peer.proxy is not None
    for allowed in egress_attacks.no_attacks():
        if not await egress_attacks.succeeds(allowed, servers, peer.proxy, 5):
            return False
    good = await broker_attacks.send(peer.broker, broker_attacks.POST, broker_attacks.GOOD) if peer.broker else b""
    return peer.broker is None or good.startswith(b"HTTP/1.1 200 ")


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
