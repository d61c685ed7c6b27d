"""What an agent can do to its sandbox's status, and to the operator, by what its gateway reports of it.

It chooses names of destinations and models, as many as it likes, and how often it asks. A status made of these as they
come would have given who reads it escape sequences and advice of the agent's own; one written whenever they change, the
API server as many writes as the agent makes requests; an Event for each name would have used up what the sandbox's
Events are rationed by, so that nothing else is told of it. And it could claim to be another sandbox, or reach the page
that the reports are read from.

Closed by gateway/telemetry/denials.py (what is kept), report.py (LIMIT), reporting.py (EVERY, TURNS), the strict reader
backends/gateway_reports.py, and controller/sandboxes/denials.py (PAUSE). The page is on a listener that no sandbox can
reach. Written and read here are the programs' own.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from gatewaykit import KEY, PLACEHOLDER, answered, basic, document, provider, running

from claude_sandbox.api.status_fields.usage import MAX_DENIED, Usage
from claude_sandbox.backends.gateway_reports import Report, read_document
from claude_sandbox.controller.sandboxes.gateways.denials import PAUSE, DenialEvents
from claude_sandbox.controller.sandboxes.gateways.usage import usage_of
from claude_sandbox.controller.sandboxes.store import Key

HEADERS = {"x-api-key": PLACEHOLDER, "anthropic-version": "2023-06-01"}
ODD = (
    "claude-\x1b]0;pwned\x07", "claude-\u202egnp", "a\r\nspec: {}", "x" * 5000, "- '*.evil.example'", "<b>&", "",
    "sk-ant-api03-looks-like-a-key",
)  # fmt: skip
MADE_UP = 40


class Events:
    """Takes the Events of one sandbox."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def write_status(self, raw: Any, patch: Any) -> Any:
        raise NotImplementedError

    def tell(self, raw: Any, reason: str, message: str, *, warning: bool) -> None:
        self.notes.append(message)

    def observe(self, key: Any, status: Any, healed: Any) -> None:
        raise NotImplementedError


async def connect(proxy: str, target: str) -> None:
    host, port = proxy.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {basic()}\r\n\r\n".encode())
    await reader.read(200)
    writer.close()


async def reported(session: aiohttp.ClientSession, health: str) -> tuple[str, Report]:
    async with session.get(f"http://{health}/readyz?report") as answer:
        text = await answer.text()
    found = read_document(json.loads(text)["report"])
    assert found is not None
    return text, found


async def test_nothing_that_an_agent_makes_up_is_in_a_status_but_what_a_spec_could_have(tmp_path: Path) -> None:
    said = {
        "type": "error",
        "error": {"type": "authentication_error", "message": f"bad {KEY} \x1b[2J\u202e{'x' * 999}"},
    }
    async with provider() as upstream, aiohttp.ClientSession() as session:
        configuration = document(tmp_path, provider=upstream.url, models=["claude-sonnet-*"])
        with running(tmp_path, configuration) as gateway:

            async def ask(model: str, **headers: str) -> None:
                body = {"model": model, "max_tokens": 1, "messages": []}
                url = f"http://{gateway.broker}/v1/messages"
                async with session.post(url, json=body, headers={**HEADERS, **headers}) as answer:
                    await answer.read()

            for odd in ODD:
                await ask(odd)
                await connect(gateway.proxy, f"{odd[:300].encode('ascii', 'replace').decode()}.example.org:443")
            for number in range(MADE_UP):
                await ask(f"made-up-{number}")
                await connect(gateway.proxy, f"host-{number}.example.org:443")
            # It claims to be somebody else, and asks where reports are made.
            await ask("claude-sonnet-5-5", **{"x-api-key": "another", "x-claude-sandbox": "another"})
            for door in (gateway.broker, gateway.proxy):
                async with session.get(f"http://{door}/readyz?report") as answer:
                    assert answer.status in (400, 404, 407)
            upstream.answer = answered(401, said)
            await ask("claude-sonnet-5-5")
            await gateway.audited(2 * (len(ODD) + MADE_UP) + 3)
            text, found = await reported(session, gateway.health)

    assert len(text) <= 4096, "an engine cuts off what is longer"
    assert not [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in text]
    usage = usage_of(found, None, None, datetime.now(UTC))
    assert usage is not None
    shown = json.dumps(usage.model_dump(mode="json", by_alias=True, exclude_none=True), ensure_ascii=False)
    assert shown.isprintable()
    assert len(shown.encode()) < 4096
    assert usage.denied is not None
    assert len(usage.denied) <= MAX_DENIED
    for one in usage.denied:
        assert one.entry.isascii()
        assert not set(one.entry) & set(" '\"<>*{}[],\\")
    assert usage.last_answered is None, "a request that was refused is no proof of the key"
    assert usage.trouble is not None
    assert usage.denials is not None
    assert usage.denials > MADE_UP


def test_a_million_names_leave_room_for_other_events() -> None:
    now, told = [0.0], Events()
    events = DenialEvents(lambda: now[0])

    def denied(number: int) -> Usage:
        at = "2026-01-02T00:00:00Z"
        entries = [{"what": "Destination", "entry": f"n{number}-{part}.example", "count": 1, "first": at, "last": at}
                   for part in range(MAX_DENIED)]  # fmt: skip
        found = read_document({"at": at, "denials": number + 1, "denied": entries})
        usage = usage_of(found, None, None, datetime.now(UTC))
        assert usage is not None
        return usage

    for number in range(3600):
        events.tell(told, Key("agents", "alice"), {}, None, denied(number))
        now[0] += 1
    # A sandbox has 25 Events at once, and one more every five minutes.
    assert len(told.notes) <= 3600 / PAUSE + 1
