"""Ways to the key, to another model or past a budget, by the broker: each succeeds against thirty lines that replace
the header, in the same test.

The agent has the placeholder and may write any bytes to the broker. It wants the real key sent where it can read it, a
model that is not allowed, more than its budget, paths of the API beyond messages, or the identity of another sandbox.
What closes them: listed paths alone (`gateway/broker/provider.py`), a body that can be read in one way only
(`gateway/http/json_scan.py`), redirects that are not followed (`gateway/broker/broker.py`), and reservations
(`gateway/budget/ledger.py`).

The attacks are a table (tests/support/gateway_attacks). `python -m tests.bench.gateway.attacks` does the same to
another broker, and writes docs/reference/gateway-attacks.md.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from broker_attacks import GOOD, POST, Servers, answer_to, attacks, send
from gatewaykit import KEY, PLACEHOLDER, Gateway, answered, document, message, provider, running
from plain_proxies import plain_broker

BUDGETED = "placeholder-of-the-one-with-a-budget"


@dataclass(frozen=True)
class Lab:
    gateway: Gateway
    plain: str
    servers: Servers


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with provider() as api, provider() as attacker, plain_broker(api.url, KEY) as plain:
        configuration = document(tmp_path, provider=api.url, models=["claude-sonnet-*"])
        one = configuration["sandboxes"][0]
        configuration["sandboxes"].append(
            {**one, "uid": "uid-2", "identitySHA256": [hashlib.sha256(BUDGETED.encode()).hexdigest()], "models": [],
             "budget": {"maxCostUSD": "0.05"}}
        )  # fmt: skip
        with running(tmp_path, configuration) as gateway:
            yield Lab(gateway, plain, Servers(api, attacker))


async def test_each_succeeds_against_a_plain_broker_and_not_against_the_gateway(lab: Lab) -> None:
    for number, attack in enumerate(attacks()):
        await answer_to(attack, lab.servers, lab.plain)
        assert attack.gained(lab.servers), f"{attack.name}: as an attack it does not work"
        answer = await answer_to(attack, lab.servers, lab.gateway.broker)
        assert answer.startswith(f"HTTP/1.1 {attack.status} ".encode()), attack.name
        assert not attack.gained(lab.servers), attack.name
        assert PLACEHOLDER not in str(lab.servers.api.seen)
        if attack.status >= 400:
            assert lab.servers.api.seen == [], attack.name
            assert b'"type": "error"' in answer, attack.name
        line = (await lab.gateway.audited(number + 1))[number]
        assert (line["rule"], line["status"]) == (attack.rule, attack.status), attack.name


async def test_the_same_client_is_answered_as_it_should(lab: Lab) -> None:
    """So that what is refused above is not refused for another reason."""
    assert (await send(lab.gateway.broker, POST, GOOD)).startswith(b"HTTP/1.1 200 ")
    assert [one.header("x-api-key") for one in lab.servers.api.seen] == [[KEY]]


async def test_a_budget_is_not_passed_by_many_requests_at_once_or_cut_off(lab: Lab) -> None:
    body = json.dumps({"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": []}).encode()
    api = lab.servers.api
    api.answer = answered(body=message(1000))
    head = POST.replace(PLACEHOLDER, BUDGETED)
    await asyncio.gather(*(send(lab.plain, head, body) for _ in range(30)))
    assert len(api.seen) == 30, "as an attack it does not work"
    api.seen.clear()

    async def cut_off() -> None:
        """Ask, and go away when the answer begins: what was written was written all the same."""
        host, _, port = lab.gateway.broker.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"{head}\nhost: x\ncontent-length: {len(body)}\n\n".replace("\n", "\r\n").encode() + body
        writer.write(request)
        await reader.read(1)
        writer.transport.abort()

    await asyncio.gather(*(cut_off() for _ in range(15)), *(send(lab.gateway.broker, head, body) for _ in range(15)))
    # A request may cost 0.0223 USD by its bound, and costs 0.01: of 0.05 there is enough for four at most.
    assert 2 <= len(api.seen) <= 4
