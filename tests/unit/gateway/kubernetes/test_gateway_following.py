"""What the gateway makes of an API server that pages, expires, lies, changes its keys, or is away."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gatewaykit import until
from tokenkit import AUDIENCE, DISCOVERY, Signer, claims, elliptic, stop_clock

from claude_sandbox.gateway.identity import IdentityError
from claude_sandbox.gateway.kubernetes import api_server, identities, sandboxes
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError
from claude_sandbox.gateway.kubernetes.declared import Pod, read_sandbox
from claude_sandbox.gateway.kubernetes.identities import ClusterKeys, TokenIdentities
from claude_sandbox.gateway.kubernetes.pods import Pods
from claude_sandbox.gateway.kubernetes.sandboxes import Sandboxes
from claude_sandbox.localcluster.pki.certificates import new_ca

NOW = time.time()


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_clock(monkeypatch, NOW)


def sandbox(name: str, version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "resourceVersion": str(version)},
        "spec": spec, "status": {"workload": {"name": f"sandbox-{name}", "uid": f"pod-uid-{name}"}},
    }  # fmt: skip


@dataclass
class Server:
    """Answers with what a test puts here. `events`: the lines of each watch, in turn; the last stays open."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    events: list[list[bytes]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    status: int = 200

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.tokens.append(request.headers["authorization"])
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(DISCOVERY)
        if request.path == "/openid/v1/jwks":
            await asyncio.sleep(0.05)
            return web.json_response({"keys": self.keys})
        if request.query.get("watch"):
            return await self._watch(request)
        begin, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        metadata = {"resourceVersion": "100"}
        if len(self.items) > begin + limit:
            metadata["continue"] = str(begin + limit)
        return web.json_response({"metadata": metadata, "items": self.items[begin : begin + limit]})

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        lines = self.events.pop(0) if self.events else None
        for line in lines or ():
            await response.write(line)
        if lines is None:
            await asyncio.sleep(60)
        return response

    def lists(self) -> int:
        return sum("watch" not in one and "limit" in one and "continue" not in one for one in self.asked)


def event(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


GONE = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    found = Server()
    runner = web.ServerRunner(web.Server(found.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield found, "http://127.0.0.1:%d" % runner.addresses[0][1]  # noqa: UP031
    await runner.cleanup()


@pytest.fixture
async def api(server: tuple[Server, str], tmp_path: Path) -> AsyncIterator[ApiServer]:
    (tmp_path / "token").write_text("first")
    (tmp_path / "namespace").write_text("team-a\n")
    (tmp_path / "ca.crt").write_bytes(new_ca("one", datetime.now(UTC)).certificate)
    found = ApiServer(tmp_path, server[1])
    yield found
    await found.close()


@contextlib.asynccontextmanager
async def following(api: ApiServer) -> AsyncIterator[Sandboxes]:
    found = Sandboxes(api, "team-a", lambda: None)
    task = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        task.cancel()


async def test_all_pages_are_read_and_a_strange_sandbox_is_refused_alone(
    server: tuple[Server, str], api: ApiServer
) -> None:
    server[0].items = [sandbox(f"s{number}") for number in range(45)] + [sandbox("strange", budget="20")]
    async with following(api) as found:
        await until(lambda: found.synced)
        assert set(found.declared) == {f"s{number}" for number in range(45)}
        assert found.refused == {"strange": "spec.budget: write a JSON object, {…}"}
        assert sum("continue" in one for one in server[0].asked) == 2
        await until(lambda: found.contact.behind() is None)


async def test_a_watch_goes_on_where_it_ended_and_after_410_everything_is_listed_again(
    server: tuple[Server, str], api: ApiServer
) -> None:
    server[0].items = [sandbox("one"), sandbox("two")]
    server[0].events = [
        [event("ADDED", sandbox("three", 101)), event("MODIFIED", sandbox("one", 102, budget=[])),
         event("DELETED", sandbox("two", 103)), event("BOOKMARK", {"metadata": {"resourceVersion": "150"}})],
        [GONE],
    ]  # fmt: skip
    async with following(api) as found:
        await until(lambda: set(found.declared) == {"three"} and set(found.refused) == {"one"})
        await until(lambda: found.declared.keys() == {"one", "two"} and not found.refused)
    watched = [one for one in server[0].asked if "watch" in one]
    assert ["resourceVersion=150" in one for one in watched][:2] == [False, True]
    assert server[0].lists() == 2


LIES = {
    "no JSON": b"not json\n",
    "no object": b'{"type":"ADDED","object":[]}\n',
    "no name": event("ADDED", {"metadata": {"resourceVersion": "1"}}),
    "no version": event("ADDED", {"metadata": {"name": "a"}}),
    "too long a line": b"x" * 5000,
    "too deep": b"[" * 3000 + b"\n",
}


@pytest.mark.parametrize("line", LIES.values(), ids=LIES)
async def test_after_an_event_that_can_not_be_read_everything_is_listed_again(
    server: tuple[Server, str], api: ApiServer, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(api_server, "MAX_LINE", 4000)
    server[0].items, server[0].events = [sandbox("one")], [[line]]
    async with following(api) as found:
        await until(lambda: server[0].lists() == 2)
        assert set(found.declared) == {"one"}


async def test_while_nothing_answers_what_is_known_stays_and_is_said_to_be_old(
    server: tuple[Server, str], api: ApiServer
) -> None:
    server[0].items, server[0].events = [sandbox("one")], [[]]
    async with following(api) as found:
        await until(lambda: found.synced)
        server[0].status = 503
        await until(lambda: found.contact.failures > 1)
        assert set(found.declared) == {"one"}
        assert found.contact.behind() is not None
        assert "503" in found.contact.why
        server[0].status = 200
        await until(lambda: found.contact.behind() is None)


async def test_token_and_ca_are_read_anew_and_documents_are_bounded(
    server: tuple[Server, str], api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.get("/.well-known/openid-configuration")
    (tmp_path / "token").write_text("second\n")
    await api.get("/.well-known/openid-configuration")
    assert server[0].tokens == ["Bearer first", "Bearer second"]
    (tmp_path / "ca.crt").write_text("none")
    with pytest.raises(ApiServerError, match=r"ca\.crt has no certificate"):
        await api.get("/.well-known/openid-configuration")
    (tmp_path / "token").unlink()
    with pytest.raises(ApiServerError, match="token can't be read"):
        await api.get("/.well-known/openid-configuration")
    monkeypatch.setattr(api_server, "MAX_DOCUMENT", 10)
    (tmp_path / "token").write_text("third")
    (tmp_path / "ca.crt").write_bytes(new_ca("two", datetime.now(UTC)).certificate)
    with pytest.raises(ApiServerError, match="more than 10 bytes"):
        await api.get("/.well-known/openid-configuration")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def _identities(api: ApiServer, pace: Clock, clock: Callable[[], float]) -> tuple[ClusterKeys, TokenIdentities]:
    keys = ClusterKeys(api, lambda: None, pace)
    found = TokenIdentities(keys, AUDIENCE, "team-a", clock, pace)
    declared = read_sandbox(sandbox("work"))
    assert declared is not None
    found.follow([declared])
    return keys, found


async def _reason(found: TokenIdentities, token: str, sender: str = "10.0.0.1") -> str:
    try:
        return (await found(token, sender)).name
    except IdentityError as error:
        return error.reason


async def test_keys_are_fetched_for_a_token_of_an_unknown_one_once_and_at_a_bounded_pace(
    server: tuple[Server, str], api: ApiServer
) -> None:
    first, second = Signer(), elliptic("key-2")
    server[0].keys = [first.jwk()]
    pace = Clock()
    _, found = _identities(api, pace, lambda: NOW)
    mine = claims(NOW, uid="pod-uid-work")
    assert await _reason(found, first.token(mine)) == "work"
    server[0].keys.append(second.jwk())
    # Within the pace of the last look nobody brings about another.
    assert await _reason(found, second.token(mine)) == "UnknownKey"
    assert server[0].asked.count("/openid/v1/jwks") == 1
    pace.now += identities.UNKNOWN_PACE
    tokens = [second.token({**mine, "jti": str(number)}) for number in range(50)]
    assert set(await asyncio.gather(*(_reason(found, token) for token in tokens))) == {"work"}
    assert server[0].asked.count("/openid/v1/jwks") == 2


async def test_a_verified_token_is_believed_until_it_ends_its_key_goes_or_its_pod_is_nobodys(
    server: tuple[Server, str], api: ApiServer
) -> None:
    first, second = Signer(), elliptic("key-2")
    server[0].keys = [first.jwk(), second.jwk()]
    pace, clock = Clock(), Clock(NOW)
    keys, found = _identities(api, pace, clock)
    one, two = (signer.token(claims(NOW, uid="pod-uid-work")) for signer in (first, second))
    assert [await _reason(found, token) for token in (one, two, one)] == ["work"] * 3
    server[0].keys = [second.jwk()]
    pace.now += identities.UNKNOWN_PACE
    await keys.look_again()
    assert [await _reason(found, token) for token in (one, two)] == ["UnknownKey", "work"]
    clock.now = int(NOW) + 3600
    assert await _reason(found, two) == "Expired"
    clock.now = NOW
    assert await _reason(found, two) == "work"
    found.follow([])
    assert await _reason(found, two) == "NoSandboxsPod"


async def test_one_address_can_have_so_many_tokens_verified_in_vain_and_no_more(
    server: tuple[Server, str], api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that the cluster did not sign. Those that were known before, and other addresses, are as before."""
    signer, pace, verified = Signer(), Clock(), list[str]()
    server[0].keys = [signer.jwk()]
    _, found = _identities(api, pace, lambda: NOW)
    mine = claims(NOW, uid="pod-uid-work")
    known = signer.token(mine)
    assert await _reason(found, known) == "work"
    verify = identities.verify
    monkeypatch.setattr(identities, "verify", lambda *given: verified.append(given[0]) or verify(*given))
    forged = [f"{signer.token({**mine, 'jti': str(number)})[:-8]}AAAAAAAA" for number in range(300)]
    reasons = [await _reason(found, token) for token in forged]
    assert reasons == ["Signature"] * identities.WRONG_A_MINUTE + ["TooMany"] * (300 - identities.WRONG_A_MINUTE)
    assert len(verified) == identities.WRONG_A_MINUTE
    new = signer.token({**mine, "jti": "new"})
    assert [await _reason(found, token) for token in (known, new)] == ["work", "TooMany"]
    assert await _reason(found, new, "10.0.0.2") == "work"
    pace.now += 60
    assert await _reason(found, signer.token({**mine, "jti": "newer"})) == "work"


async def test_tokens_that_are_right_are_not_counted(server: tuple[Server, str], api: ApiServer) -> None:
    """As when a gateway has begun anew, and all that are behind one address present theirs."""
    signer = Signer()
    server[0].keys = [signer.jwk()]
    _, found = _identities(api, Clock(), lambda: NOW)
    tokens = [signer.token({**claims(NOW, uid="pod-uid-work"), "jti": str(number)}) for number in range(300)]
    assert {await _reason(found, token) for token in tokens} == {"work"}


async def test_before_the_keys_are_known_nobody_is(server: tuple[Server, str], api: ApiServer) -> None:
    server[0].status = 403
    _, found = _identities(api, Clock(), lambda: NOW)
    assert await _reason(found, Signer().token(claims(NOW, uid="pod-uid-work"))) == "NoKeys"


async def test_no_more_sandboxes_are_followed_than_a_bound(
    server: tuple[Server, str], api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "MOST", 2)
    server[0].items = [sandbox(name) for name in ("a", "b", "c")]
    async with following(api) as found:
        await until(lambda: found.synced)
        assert (set(found.declared), set(found.refused)) == ({"a", "b"}, {"c"})


def pod(name: str, address: str, version: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


async def test_an_address_is_nobodys_after_pods_were_not_followed_until_they_were_listed_again(
    server: tuple[Server, str], api: ApiServer
) -> None:
    """Where no sandbox has services they are not followed, and addresses go to other pods."""
    server[0].items, server[0].events = [pod("a", "10.0.0.1")], [[]]
    found = Pods(api, "team-a")
    found.need(True)
    task = asyncio.create_task(found.run())
    try:
        await until(lambda: found.certainly_at("10.0.0.1") == Pod("a", "uid-a"))
        found.need(False)
        await until(lambda: sum("watch" in one for one in server[0].asked) == 1 and not found.certainly_at("10.0.0.1"))
        server[0].items = [pod("b", "10.0.0.1")]
        found.need(True)
        seen = set[Pod | None]()
        await until(lambda: (at := found.certainly_at("10.0.0.1"), seen.add(at))[0] == Pod("b", "uid-b"))
        assert Pod("a", "uid-a") not in seen
    finally:
        task.cancel()
