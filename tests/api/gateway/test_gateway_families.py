"""A sandbox whose pod has addresses of IPv4 and of IPv6 is known by each of them, at both doors."""

import asyncio
import json
import socket

import pytest
from gateway_place import BODY, Place, ready
from gatewaykit import provider, running

pytestmark = [
    pytest.mark.controlplane,
    pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6"),
]

FOUR, OTHER, STRANGER, SIX = "127.0.0.41", "127.0.0.42", "127.0.0.43", "::1"
# As it may be written, and is not by sockets.
LONG = "0:0:0:0:0:0:0:1"


async def status(address: str, port: int, request: str) -> str:
    """What a program at this address is answered."""
    host = SIX if address == SIX else "127.0.0.1"
    reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
    writer.write(request.encode())
    line = (await reader.readline()).decode()
    writer.transport.abort()
    return line.split(" ", 2)[1]


async def test_a_sandbox_is_known_by_its_addresses_of_either_family(here: Place) -> None:
    await here.make()
    await here.secret()
    async with provider() as api:
        for name, addresses in (("work", (FOUR, LONG)), ("second", (OTHER,))):
            pod = await here.sandbox(name, network={"egress": {"allowedDomains": [f"{name}.example.org"]}})
            await here.report(name, pod, *addresses)
        configuration = here.configuration(api.url)
        ports = {"broker": _free(), "proxy": _free()}
        configuration["listen"] = {door: {"host": "*", "port": port} for door, port in ports.items()}
        configuration["egress"]["hosts"] = {f"{name}.example.org": ["127.0.0.1"] for name in ("work", "second")}
        with running(here.directory, configuration) as gateway:
            await ready(gateway, sandboxesWithoutCredential=[], behindSeconds={})

            def connect(name: str) -> str:
                return f"CONNECT {name}.example.org:443 HTTP/1.1\r\nHost: {name}.example.org:443\r\n\r\n"

            for address in (FOUR, SIX):
                assert await status(address, ports["proxy"], connect("work")) == "502", "nothing listens there"
                assert await status(address, ports["proxy"], connect("second")) == "403", "it is another's"
            assert await status(OTHER, ports["proxy"], connect("second")) == "502"
            assert await status(STRANGER, ports["proxy"], connect("work")) == "407"

            body = json.dumps(BODY)
            token = await here.token("sandbox-work")
            asked = (
                f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {token}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            assert await status(FOUR, ports["broker"], asked + body) == "200"
            assert await status(SIX, ports["broker"], asked + body) == "200"
            assert await status(OTHER, ports["broker"], asked + body) == "401", "that of another sandbox"
            lines = await gateway.audited(9)
    assert [line["rule"] for line in lines].count("identity: Borrowed") == 1


def _free() -> int:
    """A port that is free on both families."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as one:
        return int(one.getsockname()[1])
