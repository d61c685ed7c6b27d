"""What an agent can do to those who look at its gateway, by what it asks for: to a terminal, Prometheus, a status.

It chooses names, models and sessions, as many and as odd as it likes. Before, nobody could look at all; a tool that
printed the audit as it is, or had a label for each model, would have given a terminal escape sequences, Prometheus as
many series as the agent likes, and advice to allow what must not be allowed. And a provider (or a company's gateway
before it) that quotes the key in its error would have it written into what the status is made of.

Closed by gateway/audit.py (`plain`), cli/audit/lines.py, cli/audit/summary.py (`remedy`), gateway/telemetry/metrics.py
(`reason`, entries of the price table) and gateway/broker/recent.py (`hide`).
"""

import asyncio
import json
from pathlib import Path

import aiohttp
from click.testing import CliRunner
from gatewaykit import KEY, PLACEHOLDER, answered, basic, document, provider, running

from claude_sandbox.cli.audit.command import audit

ODD = "claude-sonnet-\x1b]0;pwned\x07\u202e\r\n\x00"
HEADERS = {"x-api-key": PLACEHOLDER, "anthropic-version": "2023-06-01"}
MADE_UP = 60


async def connect(proxy: str, target: str) -> None:
    host, port = proxy.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {basic()}\r\n\r\n".encode())
    await reader.read(100)
    writer.close()


async def text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        return await answer.text()


async def test_who_looks_at_the_gateway_sees_nothing_that_the_agent_made_up_as_something_else(tmp_path: Path) -> None:
    said = {"error": {"type": "authentication_error", "message": f"invalid x-api-key {KEY}, or {KEY[8:30]}\x1b[2J"}}
    async with provider() as upstream, aiohttp.ClientSession() as session:
        with running(tmp_path, document(tmp_path, provider=upstream.url, name="work", namespace="team-a")) as gateway:

            async def ask(model: str) -> None:
                body = {"model": model, "max_tokens": 1, "messages": []}
                async with session.post(f"http://{gateway.broker}/v1/messages", json=body, headers=HEADERS) as answer:
                    await answer.read()

            await ask("claude-sonnet-5-5")
            await gateway.audited(1)
            before = len((await text(session, f"http://{gateway.health}/metrics")).splitlines())
            for number in range(MADE_UP):
                await ask(f"model-{number}")
                await connect(gateway.proxy, f"host-{number}.example.org:443")
            await connect(gateway.proxy, "kubernetes.default.svc:443")
            await ask(ODD)
            upstream.answer = answered(401, said)
            await ask("claude-sonnet-5-5")
            await gateway.audited(2 * MADE_UP + 4)
            page = await text(session, f"http://{gateway.health}/metrics")
            usage = await text(session, f"http://{gateway.health}/usage")

        lines = (tmp_path / "audit").read_text()
        shown = CliRunner().invoke(audit, [str(tmp_path / "audit")])
        summed = CliRunner().invoke(audit, [str(tmp_path / "audit"), "--summary", "--top", "1000"])

    assert len(page.splitlines()) - before < 40
    assert "host-1" not in page
    assert "model-1" not in page
    for printed in (lines, shown.output, summed.output, usage):
        assert not set(printed) - {"\n"} - set(map(chr, range(0x20, 0x7F)))
    assert (shown.exit_code, summed.exit_code, shown.stderr) == (0, 0, "")
    assert 'allowedDomains: ["host-1.example.org"]' in summed.output
    assert 'allowedDomains: ["kubernetes.default.svc"]' not in summed.output
    assert "nothing: names of a cluster" in summed.output
    (one,) = json.loads(usage)["sandboxes"]
    assert one["lastError"]["status"] == 401
    assert "invalid x-api-key" in one["lastError"]["message"]
    assert not [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in usage]
