"""Ways past a proxy that allows one name: each succeeds against a proxy that lets everything through, in the same test.

The agent inside the sandbox writes the bytes. It wants to reach a server that was not allowed: on the same address as
the allowed one (as behind a shared front), at another port, or inside; or to have one request taken for two. What
closes them: one normalised name, judged in the request, in the resolver's answers and in the ClientHello
(`gateway/destinations/`, `gateway/proxy/client_hello.py`), and a request that is read strictly and ends where it ends
(`gateway/http/`).

The attacks are a table (tests/support/gateway_attacks). `python -m tests.bench.gateway.attacks` does the same to other
proxies, and writes docs/reference/gateway-attacks.md.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from egress_attacks import LET_THROUGH, attacks, connect, no_attacks, succeeds
from egress_place import ADDRESSES, ALLOWED, ALLOWED_NAMES, VICTIM, Place, place
from gatewaykit import Gateway, authority, basic, document, running
from plain_proxies import plain_proxy


@dataclass(frozen=True)
class Lab:
    place: Place
    gateway: Gateway
    plain: str


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    trust = authority(tmp_path, ALLOWED, VICTIM)
    async with place(trust) as servers, plain_proxy(ADDRESSES) as plain:
        allowed = [f"{name}:{port}" for name in ALLOWED_NAMES for port in servers.allowed_ports]
        configuration = document(tmp_path, allowedDomains=allowed)
        # The servers of these tests are on one loopback address, which alone is opened.
        configuration["egress"] = {
            "privateNetworks": ["127.0.0.1/32"],
            "hosts": {name: list(addresses) for name, addresses in ADDRESSES.items()},
        }
        with running(tmp_path, configuration) as gateway:
            yield Lab(servers, gateway, plain)


async def test_each_succeeds_against_a_plain_proxy_and_not_against_the_gateway(lab: Lab) -> None:
    for number, attack in enumerate(attacks()):
        assert await succeeds(attack, lab.place, lab.plain, 5), f"{attack.name}: as an attack it does not work"
        assert not await succeeds(attack, lab.place, lab.gateway.proxy, 15), attack.name
        line = (await lab.gateway.audited(number + 1))[number]
        if attack.refused == LET_THROUGH:
            assert line["verdict"] == "Allowed", attack.name
        else:
            assert (line["rule"], line["verdict"]) == (attack.refused, "Refused"), attack.name


async def test_the_same_client_gets_where_it_may(lab: Lab) -> None:
    """So that what is refused above is not refused for another reason."""
    for allowed in no_attacks():
        assert await succeeds(allowed, lab.place, lab.gateway.proxy, 15), allowed.name


async def test_a_second_client_hello_for_the_same_name_passes(lab: Lab) -> None:
    host, _, port = lab.gateway.proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    at = connect(ALLOWED, lab.place.ports["retry"])
    writer.write(at.replace(b"AUTH", f"Proxy-Authorization: {basic()}".encode()))
    await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(ssl.create_default_context(cafile=lab.place.trust.bundle), server_hostname=ALLOWED)
    writer.transport.abort()
    assert set(lab.place.reached) == {f"tls {ALLOWED}"}
