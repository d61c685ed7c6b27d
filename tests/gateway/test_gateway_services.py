"""Services that a sandbox declares, by the gateway as a program and servers with TLS: what goes and what comes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from aiohttp import ClientSession
from gatewaykit import client_environment, until
from service_lab import LARGE, TOKEN, ServiceLab, service_lab


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceLab]:
    async with service_lab(tmp_path) as made:
        yield made


async def curl(lab: ServiceLab, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "--max-time", "20", *arguments,
        env=client_environment(lab.gateway, lab.trust.bundle), stdout=-1, stderr=-2,
    )  # fmt: skip
    found, _ = await process.communicate()
    return found.decode()


async def test_the_credential_is_added_and_what_is_asked_is_written_down(lab: ServiceLab) -> None:
    said = await curl(lab, "http://issues.services/api/items?page=2", "-H", "X-Api-Key: mine", "-H", "Cookie: a=b")
    assert "200" in said.partition("\r\n")[0]
    seen = lab.seen[-1]
    assert seen.header("authorization") == [f"Bearer {TOKEN}"]
    assert seen.header("host") == [lab.at]
    assert seen.target == "/api/items?page=2"
    assert not seen.header("x-api-key")
    assert not seen.header("cookie")
    assert not seen.header("proxy-authorization")
    assert "set-cookie" not in said.lower()
    line = (await lab.gateway.audited(1))[0]
    expected = {"kind": "service", "service": "issues", "method": "GET", "path": "/api/items", "verdict": "Allowed",
                "status": 200, "rule": "allowed", "sandbox": "uid-1"}  # fmt: skip
    assert expected.items() <= line.items()
    assert TOKEN not in lab.gateway.output()


async def test_what_is_not_declared_is_refused_with_the_remedy(lab: ServiceLab) -> None:
    assert "is not among those of the service issues" in await curl(lab, "http://issues.services/admin")
    assert "takes GET, HEAD, POST" in await curl(lab, "-X", "DELETE", "http://issues.services/api/items")
    assert "add it to spec.services" in await curl(lab, "http://others.services/api/items")
    assert "405" in await curl(lab, "https://issues.services/api/items")
    assert lab.seen == []
    lines = await lab.gateway.audited(4)
    assert [one["rule"] for one in lines] == ["path", "method", "service", "tunnel"]
    async with ClientSession() as session, session.get(f"http://{lab.gateway.health}/usage") as answer:
        denied = (await answer.json())["sandboxes"][0]["denied"]
    said = {(one["what"], one["entry"]) for one in denied["entries"]}
    assert said == {("Service", one) for one in ("issues GET /admin", "issues DELETE /api/items",
                                                       "others GET /api/items")}  # fmt: skip


async def test_its_certificate_may_be_from_an_authority_that_the_provider_s_is_not_from(lab: ServiceLab) -> None:
    bundle = lab.document["provider"].pop("caFile")
    lab.gateway.configure(lab.document)
    await answered(lab, "502")
    lab.document["egress"]["caFile"] = bundle
    lab.gateway.configure(lab.document)
    await answered(lab, "200")


async def answered(lab: ServiceLab, status: str) -> None:
    """Wait until the gateway goes by what it was told last."""
    async with asyncio.timeout(10):
        while status not in (await curl(lab, "http://issues.services/api/items")).partition("\r\n")[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_redirect_stays_with_the_service_or_goes_without_the_credential(lab: ServiceLab) -> None:
    said = await curl(lab, "http://issues.services/api/moved")
    assert "location: http://issues.services/api/items" in said.lower()
    said = await curl(lab, "http://issues.services/api/elsewhere")
    assert "location: https://files.example.net/x?signature=1" in said.lower()


async def test_bodies_go_both_ways_and_events_come_as_they_are_sent(lab: ServiceLab, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * (5 << 20))
    said = await curl(lab, "-X", "POST", "--data-binary", f"@{body}", "http://issues.services/api/length")
    assert said.endswith(str(5 << 20))
    said = await curl(lab, "-X", "POST", "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{body}",
                      "http://issues.services/api/length")  # fmt: skip
    assert said.endswith(str(5 << 20))
    process = await asyncio.create_subprocess_exec(
        "curl", "-sSN", "http://issues.services/api/events",
        env=client_environment(lab.gateway, lab.trust.bundle), stdout=-1,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"data: 0\n"
    lab.go_on.set()
    assert b"data: 1\n" in await process.stdout.read()
    await process.wait()


async def test_a_slow_client_gets_all_of_a_large_answer(lab: ServiceLab, tmp_path: Path) -> None:
    """The service is long done, and its connection ended, before the client has read it."""
    there = tmp_path / "large"
    said = await curl(lab, "--limit-rate", "12M", "-o", str(there), "http://issues.services/api/large")
    assert there.read_bytes().endswith(bytes(range(256))), said
    assert there.stat().st_size > LARGE


async def test_another_credential_holds_for_the_next_request_and_none_for_none(lab: ServiceLab) -> None:
    await curl(lab, "http://issues.services/api/items")
    lab.credential.write_text("another\n")
    async with asyncio.timeout(5):
        while lab.seen[-1].header("authorization") != ["Bearer another"]:
            await curl(lab, "http://issues.services/api/items")
    lab.credential.unlink()
    async with asyncio.timeout(5):
        while "the credential of the service issues is not there" not in (
            said := await curl(lab, "http://issues.services/api/items")
        ):
            assert said


async def test_a_service_that_is_taken_away_ends_what_is_under_way(lab: ServiceLab) -> None:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sSN", "http://issues.services/api/events",
        env=client_environment(lab.gateway, lab.trust.bundle), stdout=-1, stderr=-1,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    lab.document["sandboxes"][0]["services"] = []
    lab.gateway.configure(lab.document)
    assert await process.wait() != 0
    await until(lambda: any(one.get("ended") == "no longer allowed" for one in lab.gateway.audit()))


async def test_no_more_requests_a_minute_than_declared(lab: ServiceLab) -> None:
    lab.document["sandboxes"][0]["services"][0]["requestsPerMinute"] = 2
    lab.gateway.configure(lab.document)
    async with asyncio.timeout(10):
        while "429" not in (said := await curl(lab, "http://issues.services/api/items")).partition("\r\n")[0]:
            assert said
    assert "retry-after" in said.lower()


async def test_a_server_that_is_not_the_one_gets_no_credential(lab: ServiceLab) -> None:
    said = await curl(lab, "http://impostor.services/api/items")
    assert "its certificate is not trusted" in said
    assert lab.seen == []
