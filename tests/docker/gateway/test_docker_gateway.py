"""A sandbox with a gateway, on a real engine: it works, and holds no key."""

import asyncio
import contextlib
import hashlib
import json
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from asking import asking
from brokeredkit import brokered, provider
from dockerkit import KEY, Sandbox, sandbox
from gatewaykit import authority, until
from key_search import Search, processes, told
from provider_process import ADDRESS, ProviderProcess, provider_on
from slow_provider import EVENTS, slow_provider_on

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.spec import BackendType
from claude_sandbox.backends.base import KeyState, Past
from claude_sandbox.backends.docker.gateway.settings import gateway_settings
from claude_sandbox.cli.audit import containers
from claude_sandbox.cli.audit.sandboxes import Audited
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.node.namespaces import enter

__all__ = ["provider"]

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

SERVICE = "issues.example.org"
BODY = '{"model":"claude-test-1","max_tokens":10,"messages":[{"role":"user","content":"ping"}]}'
# The smallest client: busybox' wget sends a header twice, which is refused.
ASK = f"""{{ printf 'POST /v1/messages HTTP/1.1\\r\\nHost: claude-sandbox-gateway:8080\\r\\nConnection: close\\r\\n'
printf 'x-api-key: %s\\r\\n' "$(cat /run/claude-sandbox/api-key/api-key)"
printf 'Content-Type: application/json\\r\\nContent-Length: {len(BODY)}\\r\\n\\r\\n%s' '{BODY}'
# Half a connection is none to the broker.
sleep 1
}} | nc -w 10 claude-sandbox-gateway 8080"""

STREAM_BODY = BODY.replace('"max_tokens"', '"stream":true,"max_tokens"')
STREAM = (
    ASK.replace(f"Content-Length: {len(BODY)}", f"Content-Length: {len(STREAM_BODY)}")
    .replace(BODY, STREAM_BODY)
    .replace("sleep 1", "sleep 8")
    .replace("nc -w 10", "nc -w 20")
)


@pytest.fixture
async def one(host: EngineDescription, provider: ProviderProcess) -> AsyncIterator[Sandbox]:
    settings = {"provider": {"baseURL": provider.url}, "egress": {"privateNetworks": ["10.0.0.0/8"]}}
    async with sandbox(host, gateways=settings, **brokered()) as made:
        yield made


async def test_it_works_with_a_placeholder_and_the_provider_gets_the_key(
    one: Sandbox, provider: ProviderProcess
) -> None:
    await one.made()
    state = await one.started()
    assert (state.status, state.key_generation) == (ConditionStatus.TRUE, "1"), state
    assert "pong" in one.sh(ASK)
    assert [found["key"] for found in provider.requests()] == [KEY.decode().strip()]
    assert one.key_in_place().startswith(b"csb-")
    assert KEY.decode().strip() not in one.everything()


async def test_a_steady_state_makes_no_call_that_writes_and_a_restarted_operator_adopts_it(
    one: Sandbox, host: EngineDescription
) -> None:
    await one.made()
    await one.started()
    again = await one.once()
    assert not again.wrote, again
    gateway = one.sdk.api.inspect_container(one.names.gateway)
    one.backend._observer._told.clear()
    async with asyncio.timeout(60):
        while one.sdk.api.inspect_container(one.names.gateway)["State"]["Health"]["Status"] == "starting":  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    again = await one.once()
    assert not again.wrote, again
    assert not again.key_sent, again
    assert one.sdk.api.inspect_container(one.names.gateway)["Id"] == gateway["Id"]


async def test_another_key_is_used_by_the_next_request(one: Sandbox, provider: ProviderProcess) -> None:
    await one.made()
    await one.started()
    assert "pong" in one.sh(ASK)
    placeholder = one.key_in_place()
    one.secrets.value, one.secrets.generation = b"the-second-key\n", "2"
    before = one.inspected["State"]["StartedAt"]
    await one.settled()
    assert one.inspected["State"]["StartedAt"] == before
    assert one.key_in_place() != placeholder
    assert "pong" in one.sh(ASK)
    # What still has the placeholder of before is let in for a while, with the key of now.
    assert "pong" in one.sh(ASK.replace("$(cat /run/claude-sandbox/api-key/api-key)", placeholder.decode().strip()))
    assert [found["key"] for found in provider.requests()] == [KEY.decode().strip(), *["the-second-key"] * 2]
    assert (await one.state()).key_generation == "2"


async def test_a_compromised_key_is_taken_from_the_gateway_and_work_waits_until_another_is_there(
    one: Sandbox, provider: ProviderProcess
) -> None:
    await one.made()
    await one.started()
    assert "pong" in one.sh(ASK)
    before, sent = one.inspected["State"]["StartedAt"], len(one.secrets.handed_out)
    one.secrets.problem = KeyState("1", Reason.KEY_COMPROMISED, "it was seen in a log", withdrawn=True)
    await one.settled()
    refused = one.sh(ASK)
    assert "503" in refused
    assert "no credential" in refused
    # Nothing of it has ended, and nothing is done about it meanwhile.
    assert one.inspected["State"]["StartedAt"] == before
    told = len(one.secrets.handed_out)
    assert told > sent
    assert not (await one.once()).wrote
    assert len(one.secrets.handed_out) == told
    # A gateway that ended is made again, and has no key either.
    one.sdk.containers.get(one.names.gateway).kill()
    await one.settled()
    assert "no credential" in one.sh(ASK)
    one.secrets.problem, one.secrets.value, one.secrets.generation = None, b"the-second-key\n", "2"
    await one.settled()
    assert "pong" in one.sh(ASK)
    assert one.inspected["State"]["StartedAt"] == before
    assert [found["key"] for found in provider.requests()] == [KEY.decode().strip(), "the-second-key"]


async def test_a_new_key_is_used_by_the_next_request_and_none_under_way_fails(
    host: EngineDescription, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def digest(key: bytes) -> str:
        return hashlib.sha256(key.strip()).hexdigest()

    with slow_provider_on(host, tmp_path) as url:
        async with sandbox(host, gateways={"provider": {"baseURL": url}}, **brokered()) as one:
            await one.made()
            await one.started()
            streamed = asyncio.create_task(asyncio.to_thread(one.sh, STREAM))
            with asking(one) as found:
                await asyncio.sleep(1)
                one.secrets.value, one.secrets.generation = b"the-second-key\n", "2"
                changed = time.monotonic()
                # The pass that the Secret's change wakes.
                assert (await one.once()).key_sent
                told = time.monotonic()
                await asyncio.sleep(1)
            assert (await streamed).count('"n":') == EVENTS
    assert {each.status for each in found} == {200}
    # In chunks, as it comes.
    keys = [(each, each.body.split('"id": "')[1][:64]) for each in found]
    assert {key for each, key in keys if each.answered < changed} == {digest(KEY)}
    # From when the gateway was told, if not sooner, no request is sent with the key of before.
    assert {key for each, key in keys if each.sent > told} == {digest(b"the-second-key")}
    first = next(each for each, key in keys if key == digest(b"the-second-key"))
    print(f"\n{len(found)} requests; the new key was used {first.answered - changed:.2f} s after its Secret had it")
    record_property("seconds", first.answered - changed)


async def test_a_provider_with_a_company_s_certificate_is_reached_by_the_bundle_that_is_given(
    host: EngineDescription, tmp_path: Path
) -> None:
    trust = authority(tmp_path, ADDRESS, SERVICE)
    with provider_on(host, tmp_path, (trust.certificate, trust.key)) as provider:
        egress = {"hosts": {SERVICE: [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"]}
        given = {"provider": {"baseURL": provider.url, "caFile": str(trust.bundle)}, "egress": egress}
        settings = gateway_settings(json.dumps(given), lambda name: Path(name).read_text())
        async with sandbox(host, gateways=settings, **brokered()) as one:
            await one.made()
            await one.started()
            assert "pong" in one.sh(ASK)
            await uses_a_service(one, provider)
            # In the gateway's memory, and in no document of the engine's.
            certificate = settings["provider"]["caBundle"].splitlines()[1]
            assert certificate not in one.everything()
        async with sandbox(host, gateways={"provider": {"baseURL": provider.url}}, **brokered()) as one:
            await one.made()
            await one.started()
            assert "502 Bad Gateway" in one.sh(ASK)


async def uses_a_service(one: Sandbox, provider: ProviderProcess) -> None:
    """By the variables of every program; with the credential of now; and it is told without another container."""
    ask = "wget -q -O - http://issues.services/v1/models 2>&1"
    gateway = one.sdk.api.inspect_container(one.names.gateway)["Id"]
    header = {"prefix": "Bearer ", "valueFrom": {"secretKeyRef": {"name": "issues"}}}
    at = provider.url.replace(f"https://{ADDRESS}", SERVICE)
    service = {"name": "issues", "host": at, "header": header, "paths": ["/v1/models"]}
    one.spec = brokered(services=[service])
    await one.settled()
    assert "503" in one.sh(ask)
    for token in ("the-first-token", "the-second-token"):
        one.secrets.of_services["issues/token"] = f"{token}\n".encode()
        await one.settled()
        assert "pong" in one.sh(ask)
        # What it was asked is written down a little later.
        await until(lambda token=token: provider.requests()[-1]["token"] == token)  # type: ignore[misc]
        assert token not in one.everything()
    assert "403" in one.sh(ask.replace("/v1/models", "/v1/messages"))
    assert one.sdk.api.inspect_container(one.names.gateway)["Id"] == gateway
    one.secrets.of_services.clear()
    await one.settled()
    assert "503" in one.sh(ask)


async def test_what_the_spec_allows_reaches_the_gateway_without_another_container(one: Sandbox) -> None:
    await one.made()
    await one.started()
    asked = "wget -q -O - http://pypi.example.org/ 2>&1"
    assert "403" in one.sh(asked)
    container, gateway = one.inspected["Id"], one.sdk.api.inspect_container(one.names.gateway)["Id"]
    one.spec = brokered(network={"egress": {"allowedDomains": ["pypi.example.org:80"]}})
    await one.settled()
    # Allowed now, and asked for; there is no such name.
    assert "502" in one.sh(asked)
    assert one.inspected["Id"] == container
    assert one.sdk.api.inspect_container(one.names.gateway)["Id"] == gateway


async def test_of_a_name_with_an_address_of_ipv6_alone_it_says_that_it_has_no_way_there(
    host: EngineDescription,
) -> None:
    egress = {"hosts": {"six.example.org": ["2606:4700::1111"]}}
    network = {"egress": {"allowedDomains": ["six.example.org:80"]}}
    async with sandbox(host, gateways={"egress": egress}, **brokered(network=network)) as one:
        await one.made()
        await one.started()
        ask = """printf 'GET http://six.example.org/ HTTP/1.1\\r\\nHost: six.example.org\\r\\n\\r\\n'; sleep 1"""
        answer = one.sh(f"{{ {ask}; }} | nc -w 10 claude-sandbox-gateway 3128")
        assert "the gateway has no way to its addresses, which are of IPv6" in answer


@pytest.mark.parametrize(
    "how",
    ["killed", "removed", "loosened", "off its network", pytest.param("on another network", marks=pytest.mark.slow)],
)
async def test_whatever_becomes_of_a_gateway_is_mended(one: Sandbox, how: str, provider: ProviderProcess) -> None:
    await one.made()
    await one.started()
    api = one.sdk.api
    match how:
        case "killed":
            api.kill(one.names.gateway)
        case "removed":
            api.remove_container(one.names.gateway, force=True)
        case "loosened":
            api.update_container(one.names.gateway, mem_limit="1g", memswap_limit="1g")
        case "off its network":
            api.disconnect_container_from_network(one.names.gateway, one.names.network)
        case "on another network":
            api.connect_container_to_network(one.names.gateway, "bridge")
    healed = [heal for outcome in await one.settled() for heal in outcome.healed]
    assert [heal.kind for heal in healed] == ["Gateway"], healed
    assert (await one.started()).status is ConditionStatus.TRUE
    assert "pong" in one.sh(ASK)


async def test_the_audit_is_followed_over_gateways_that_are_made_anew(one: Sandbox, host: EngineDescription) -> None:
    await one.made()
    await one.started()
    found: queue.Queue[str] = queue.Queue()
    where = EngineAddress(host.socket, parse(host.socket))
    audited = Audited(one.identity.namespace, one.identity.name, one.identity.uid, BackendType.DOCKER)

    def follow() -> None:
        with contextlib.suppress(UnreadableError):
            for line in containers.lines(where, audited, None, follow=True):
                found.put(f"{line.text('verdict')} {line.text('host')}")

    threading.Thread(target=follow, daemon=True).start()
    one.sh("wget -q -O - http://first.example.org/ 2>&1")
    assert await asyncio.to_thread(found.get, timeout=20) == "Refused first.example.org"
    one.sdk.api.kill(one.names.gateway)
    await one.settled()
    one.sh("wget -q -O - http://second.example.org/ 2>&1")
    assert await asyncio.to_thread(found.get, timeout=20) == "Refused second.example.org"
    # What is read to its end is what is there now.
    now = await asyncio.to_thread(list, containers.lines(where, audited, None, follow=False))
    assert [line.text("host") for line in now] == ["second.example.org"]
    other = replace(audited, uid="another")
    with pytest.raises(UnreadableError, match="no gateway of ClaudeSandbox"):
        await asyncio.to_thread(list, containers.lines(where, other, None, follow=False))


async def test_without_its_gateway_a_sandbox_is_not_ready(one: Sandbox) -> None:
    await one.made()
    await one.started()
    one.sdk.api.kill(one.names.gateway)
    seen = one.backend._last.get(one.identity)
    assert seen is not None
    desired = await one.once(Past(provisioned=True, ran=True, settled=True))
    assert desired.healed
    one.sdk.api.kill(one.names.gateway)
    # The second time at once it has to wait.
    paced = await one.once()
    assert paced.paced
    state = await one.state()
    assert (state.status, state.reason) == (ConditionStatus.FALSE, Reason.GATEWAY_NOT_READY), state


async def test_a_sandbox_that_is_suspended_or_gone_leaves_no_gateway(one: Sandbox) -> None:
    await one.made()
    one.spec = brokered(operatingMode="Suspended")
    await one.settled()
    named = [one.names.gateway]
    assert one.sdk.api.containers(all=True, filters={"name": named}) == []
    assert one.sdk.api.networks(names=named) == []
    one.spec = brokered()
    await one.settled()
    assert one.sdk.api.inspect_container(one.names.gateway)["State"]["Running"]
    assert (await one.backend.remove(one.identity, retain=False)).done
    assert one.sdk.api.networks(names=named) == []


@pytest.mark.slow
async def test_a_sandbox_that_gets_a_gateway_loses_its_key(host: EngineDescription, provider: ProviderProcess) -> None:
    settings = {"provider": {"baseURL": provider.url}}
    async with sandbox(host, gateways=settings) as one:
        await one.made()
        assert one.key_in_place() == KEY
        first = one.inspected["Id"]
        one.spec = brokered()
        await one.settled(Past(provisioned=True, ran=True, settled=False))
        # Told of as drifted, and left to whoever works in it; but for the key.
        assert one.inspected["Id"] == first
        assert one.key_in_place().startswith(b"csb-")
        one.spec = brokered(updateStrategy={"type": "Recreate"})
        await one.settled(Past(provisioned=True, ran=True, settled=False))
        await one.started()
        assert one.key_in_place().startswith(b"csb-")
        assert "pong" in one.sh(ASK)
        one.spec = {"updateStrategy": {"type": "Recreate"}}
        await one.settled(Past(provisioned=True, ran=True, settled=False))
        assert one.key_in_place() == KEY
        assert one.sdk.api.containers(all=True, filters={"name": [one.names.gateway]}) == []


async def test_the_key_is_in_the_gateways_memory_and_nowhere_else(one: Sandbox, host: EngineDescription) -> None:
    one.secrets.value = b"sk-ant-the-key-that-is-looked-for-4f1c9a7be2d0\n"
    one.secrets.of_services["issues/token"] = b"the-token-of-a-service-that-is-looked-for-81b3c0d5\n"
    header = {"valueFrom": {"secretKeyRef": {"name": "issues"}}}
    one.spec = brokered(services=[{"name": "issues", "host": SERVICE, "header": header, "paths": ["/*"]}])
    await one.made()
    await one.started()
    assert "pong" in one.sh(ASK)
    for value in (one.secrets.value, one.secrets.of_services["issues/token"]):
        search = Search(value.decode().strip())
        found = [hit for where, document in told(host, one.sdk) for hit in search.in_document(where, document)]
        found += [hit for where, content in processes(host) for hit in search.in_bytes(where, content)]
        found += search.in_files(host.places.root)
        found += search.in_files(host.places.root, Path("/run"), within=enter(host.names))
        assert found == []
        for name, holds in ((one.names.container, False), (one.names.gateway, True)):
            pids = [int(line[1]) for line in one.sdk.api.top(name)["Processes"]]
            assert any(search.in_bytes("memory", memory_of(pid)) for pid in pids) is holds, name


def memory_of(pid: int) -> bytes:
    """All that a process has in memory and could write to."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in where.split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)
