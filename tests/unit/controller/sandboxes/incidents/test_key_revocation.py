"""The hook for revocations is told of a compromised key until it says that it is done; nothing waits for it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from revocation_hook import TOKEN, RevocationServer, revocation_server

from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status_fields.incident import IncidentStatus, Revocation, RevocationState
from claude_sandbox.controller.sandboxes.incidents import revocation
from claude_sandbox.controller.sandboxes.incidents.revocation import CompromisedKey, Hook, Revocations
from claude_sandbox.controller.sandboxes.store import Key

SINCE = datetime(2026, 11, 29, 12, tzinfo=UTC)
RAW: dict[str, Any] = {"metadata": {"namespace": "agents", "name": "alice", "uid": "1"}, "spec": {}}
MARKED = IncidentStatus(state=IncidentState.KEY_COMPROMISED, since=SINCE, generation="7")
ALICE = Key("agents", "alice")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "_FIRST", 0.01)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RevocationServer]:
    async with revocation_server(tmp_path) as found:
        yield found


class Place:
    def __init__(self, server: RevocationServer | None) -> None:
        self.woken = asyncio.Event()
        hook = Hook(server.url, server.token, server.authority) if server is not None else None
        self.all = Revocations(hook, lambda _key: self.woken.set(), lambda: SINCE)

    def told(self, status: IncidentStatus | None = MARKED) -> Revocation | None:
        found = self.all.told(RAW, "key", status)
        return found.revocation if found is not None else None

    async def until(self, state: RevocationState) -> Revocation:
        async with asyncio.timeout(10):
            while (found := self.told()) is None or found.state is not state:
                await self.woken.wait()
                self.woken.clear()
        return found


async def test_it_is_told_which_key_it_is_and_the_status_says_when_it_is_done(server: RevocationServer) -> None:
    place = Place(server)
    assert place.told() is None
    done = await place.until(RevocationState.REVOKED)
    assert (done.at, done.message) == (SINCE, "")
    ((login, document),) = server.asked
    assert login == f"Bearer {TOKEN}"
    assert {name: document[name] for name in ("namespace", "secret", "generation", "since")} == {
        "namespace": "agents", "secret": "key", "generation": "7", "since": "2026-11-29T12:00:00+00:00",
    }  # fmt: skip
    # Once is enough.
    await asyncio.sleep(0.1)
    assert (await place.until(RevocationState.REVOKED), len(server.asked)) == (done, 1)


async def test_what_refuses_is_told_again_until_it_takes_it_and_its_words_are_repeated_nowhere(
    server: RevocationServer,
) -> None:
    server.answers = [503, 307, 500, 200]
    place = Place(server)
    said = set()
    while (found := place.told()) is None or found.state is not RevocationState.REVOKED:
        said |= {found.message} if found is not None else set()
        await asyncio.wait_for(place.woken.wait(), 10)
        place.woken.clear()
    # A redirect is an answer like any other: the token goes nowhere else.
    assert len(server.asked) == 4
    assert said <= {"the hook answers 503", "the hook answers 307", "the hook answers 500"}
    assert said


async def test_one_that_is_away_or_is_another_is_said_and_nothing_of_the_token_is(
    server: RevocationServer, tmp_path: Path
) -> None:
    place = Place(server)
    for change in ({"url": "https://127.0.0.1:9/"}, {"authority": None}, {"token": tmp_path / "missing"}):
        hook = Hook(**{"url": server.url, "token": server.token, "authority": server.authority} | change)
        place.all = Revocations(hook, lambda _key: place.woken.set(), lambda: SINCE)
        failed = await place.until(RevocationState.FAILED)
        assert failed.message.startswith("the hook can't be told")
        assert TOKEN not in str(failed)
        place.all.forget(ALICE)
    assert server.asked == []


async def test_what_a_status_says_is_not_believed(server: RevocationServer) -> None:
    """Whoever may write statuses could else keep a key from being revoked."""
    place = Place(server)
    forged = MARKED.model_copy(update={"revocation": Revocation(state=RevocationState.REVOKED, at=SINCE)})
    place.told(forged)
    async with asyncio.timeout(10):
        await place.woken.wait()
    assert len(server.asked) == 1


async def test_lifted_nothing_more_is_tried_and_another_incident_is_told_anew(server: RevocationServer) -> None:
    server.answers = [500]
    place = Place(server)
    await place.until(RevocationState.FAILED)
    assert place.told(None) is None
    await asyncio.sleep(0.1)
    tried = len(server.asked)
    await asyncio.sleep(0.2)
    assert len(server.asked) == tried
    server.answers = [200]
    place.told(MARKED.model_copy(update={"since": datetime(2026, 12, 1, tzinfo=UTC), "generation": "9"}))
    async with asyncio.timeout(10):
        await place.woken.wait()
    assert server.asked[-1][1]["generation"] == "9"


async def test_without_a_hook_nothing_is_said() -> None:
    assert Place(None).told() is None


async def test_a_key_that_others_ask_for_too_is_told_of_once_and_all_of_them_are_woken(
    server: RevocationServer,
) -> None:
    woken: set[Key | str] = set()
    found = Revocations(Hook(server.url, server.token, server.authority), woken.add, lambda: SINCE)
    found.told(RAW, "key", MARKED)
    by = {"dockerHost": {"name": "build-1", "uid": "2"}}
    same = CompromisedKey.of("agents", "key", "7", datetime(2026, 12, 1, tzinfo=UTC))
    found.ask("build-1", same, SINCE, by)
    async with asyncio.timeout(10):
        while woken != {ALICE, "build-1"}:  # noqa: ASYNC110 - only looking tells
            await asyncio.sleep(0.01)
    answer = found.ask("build-2", same, SINCE, by)
    assert answer is not None
    assert answer.state is RevocationState.REVOKED
    assert len(server.asked) == 1


async def test_while_anybody_asks_it_is_tried_and_no_longer(server: RevocationServer) -> None:
    server.answers = [500]
    found = Revocations(Hook(server.url, server.token, server.authority), lambda _: None, lambda: SINCE)
    found.told(RAW, "key", MARKED)
    found.ask("build-1", CompromisedKey.of("agents", "key", "7", SINCE), SINCE, {})
    found.forget(ALICE)
    for asker in ("still", "build-1"):
        before = len(server.asked)
        found.forget("another" if asker == "still" else asker)
        await asyncio.sleep(0.3)
        assert (len(server.asked) > before + 1) == (asker == "still")


async def test_keys_whose_generation_nobody_knows_are_told_of_with_each_incident(server: RevocationServer) -> None:
    found = Revocations(Hook(server.url, server.token, server.authority), lambda _: None, lambda: SINCE)
    for since in (SINCE, SINCE, datetime(2026, 12, 1, tzinfo=UTC)):
        found.ask("build-1", CompromisedKey.of("agents", "key", None, since), since, {})
        await asyncio.sleep(0.2)
    assert [document["since"][:10] for _, document in server.asked] == ["2026-11-29", "2026-12-01"]


async def test_who_declares_many_keys_keeps_the_hook_from_no_other_namespaces(server: RevocationServer) -> None:
    place, by = Place(server), {"sandbox": {"name": "any", "uid": "1"}}
    server.takes = 0.05
    for number in range(40):
        place.all.ask(Key("many", str(number)), CompromisedKey("many", f"key-{number}", "1", None), SINCE, by)
    place.all.ask(ALICE, CompromisedKey("agents", "key", "7", None), SINCE, by)
    async with asyncio.timeout(20):
        while len(server.asked) < 41:  # noqa: ASYNC110 - another program's word
            await asyncio.sleep(0.05)
    assert "agents" in [document["namespace"] for _, document in server.asked[:4]]
