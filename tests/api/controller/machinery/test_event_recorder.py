"""Kubernetes Events as a real API server takes and keeps them."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faulty_proxy import FaultyProxy

from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj

pytestmark = pytest.mark.controlplane

CORE_EVENTS = r.Resource("", "v1", "events", True, "Event")


class Clock:
    """Seconds since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def recording(api: Api, **options: Any) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(api, "operator-0_uuid", **options)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        async with asyncio.timeout(20):
            await recorder.drain()
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture
async def alice(api: Api, namespace: str) -> Obj:
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "alice"}}
    return await api.create(r.SERVICE_ACCOUNTS, body, namespace)


Events = Callable[[], Awaitable[list[Obj]]]


@pytest.fixture
def events(api: Api, namespace: str) -> Events:
    async def read() -> list[Obj]:
        return (await api.list(r.EVENTS, namespace)).items

    return read


async def test_an_event_is_about_its_object_and_kubectl_finds_it(api: Api, alice: Obj, namespace: str) -> None:
    async with recording(api) as recorder:
        recorder.tell(alice, "Healed", "NetworkPolicy sandbox-alice was put back.")
        recorder.tell(alice, "Refused", "The spec is invalid.", warning=True)
    # kubectl describe asks the core API for them, by the object's UID.
    found = await api.list(
        CORE_EVENTS,
        namespace,
        field_selector=f"involvedObject.uid={alice['metadata']['uid']},involvedObject.name=alice",
    )
    said = {(e["type"], e["reason"], e["message"]) for e in found.items}
    assert said == {
        ("Normal", "Healed", "NetworkPolicy sandbox-alice was put back."),
        ("Warning", "Refused", "The spec is invalid."),
    }
    assert {e["reportingComponent"] for e in found.items} == {"claudesandbox.dev/operator"}


async def test_an_event_lets_other_work_go_first_but_not_for_ever(api: Api, alice: Obj, events: Events) -> None:
    busy, clock = True, Clock()
    recorder = EventRecorder(api, "operator-0_uuid", clock=clock)
    task = asyncio.create_task(recorder.run(lambda: busy))
    recorder.tell(alice, "Created", "Created Pod sandbox-alice.")
    await asyncio.sleep(0.3)
    assert await events() == []
    busy = False
    await asyncio.wait_for(recorder.drain(), 20)
    assert [event["reason"] for event in await events()] == ["Created"]
    busy = True
    recorder.tell(alice, "Healed", "Pod sandbox-alice made again.")
    clock.now += 5
    await asyncio.wait_for(recorder.drain(), 20)
    assert {event["reason"] for event in await events()} == {"Created", "Healed"}
    task.cancel()
    await asyncio.wait((task,))


async def test_the_same_thing_said_again_is_counted_in_the_first_event(api: Api, alice: Obj, events: Events) -> None:
    clock = Clock()
    async with recording(api, clock=clock) as recorder:
        recorder.tell(alice, "Healed", "put back")
        await recorder.drain()
        (first,) = await events()
        assert "series" not in first
        for _ in range(3):
            clock.now += 10
            recorder.tell(alice, "Healed", "put back")
            await recorder.drain()
        recorder.tell(alice, "Healed", "something else")
    by_note = {e["note"]: e for e in await events()}
    assert set(by_note) == {"put back", "something else"}
    assert by_note["put back"]["metadata"]["name"] == first["metadata"]["name"]
    assert by_note["put back"]["series"]["count"] == 4
    assert by_note["put back"]["eventTime"] == first["eventTime"]


async def test_what_is_said_in_one_breath_is_written_once(proxy: FaultyProxy, alice: Obj, events: Events) -> None:
    async with Api(proxy.credentials) as through, recording(through) as recorder:
        for _ in range(20):
            recorder.tell(alice, "Healed", "put back")
    (event,) = await events()
    assert event["series"]["count"] == 20
    assert len(proxy.requests) == 1


async def test_long_after_it_is_a_new_event(api: Api, alice: Obj, events: Events) -> None:
    clock = Clock()
    async with recording(api, clock=clock) as recorder:
        recorder.tell(alice, "Healed", "put back")
        await recorder.drain()
        clock.now += 361
        recorder.tell(alice, "Healed", "put back")
    assert len(await events()) == 2


async def test_an_event_that_the_server_has_forgotten_is_said_anew(api: Api, alice: Obj, events: Events) -> None:
    async with recording(api) as recorder:
        recorder.tell(alice, "Healed", "put back")
        await recorder.drain()
        (event,) = await events()
        await api.delete(r.EVENTS, event["metadata"]["name"], event["metadata"]["namespace"])
        recorder.tell(alice, "Healed", "put back")
    (event,) = await events()
    assert "series" not in event


async def test_one_noisy_object_is_limited_and_others_are_not(
    api: Api, alice: Obj, namespace: str, events: Events
) -> None:
    bob = await api.create(r.SERVICE_ACCOUNTS, {**alice, "metadata": {"name": "bob"}}, namespace)
    clock, dropped = Clock(), Counter[str]()
    async with recording(api, clock=clock, on_drop=lambda why: dropped.update([why])) as recorder:
        for n in range(60):
            recorder.tell(alice, "Failed", f"try {n}")
        recorder.tell(bob, "Created", "made")
        await recorder.drain()
        assert Counter(e["regarding"]["name"] for e in await events()) == {"alice": 25, "bob": 1}
        assert dropped == {"rate_limited": 35}
        clock.now += 301
        recorder.tell(alice, "Failed", "later")
        recorder.tell(alice, "Failed", "and later")
    assert Counter(e["regarding"]["name"] for e in await events())["alice"] == 26


async def test_a_long_note_is_cut_and_a_credential_is_not_written(api: Api, alice: Obj, events: Events) -> None:
    async with recording(api) as recorder:
        recorder.tell(alice, "Failed", "🦊" * 1000)
        recorder.tell(alice, "Failed", "the key is sk-ant-api03-abcdef and Bearer abcdefghijkl")
        recorder.tell(alice, "Failed", "x" * 1010 + " sk-ant-api03-abcdef")
    notes = [e["note"] for e in await events()]
    assert len(notes) == 3
    assert all(len(note.encode()) <= 1024 for note in notes)
    assert not any("api03" in note or "abcdefgh" in note for note in notes)


async def test_telling_never_waits_and_never_fails(
    proxy: FaultyProxy, alice: Obj, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not when the API server refuses every Event: it is logged once, and what is too much is dropped."""
    proxy.answer("POST", "events", 403, times=10**6)
    dropped = Counter[str]()
    caplog.set_level(logging.WARNING, "claude_sandbox.controller.machinery.events")
    async with (
        Api(proxy.credentials) as through,
        recording(through, on_drop=lambda why: dropped.update([why])) as recorder,
    ):
        for n in range(1500):
            other = {**alice, "metadata": {**alice["metadata"], "uid": f"uid-{n}"}}
            recorder.tell(other, "Failed", f"try {n}")
    assert dropped["queue_full"] == 500
    assert dropped["failed"] == 1000
    assert len([record for record in caplog.records if "cannot write" in record.message]) == 1


async def test_a_lost_answer_does_not_make_two_events(proxy: FaultyProxy, alice: Obj, events: Events) -> None:
    proxy.lose_answer("POST", "events")
    async with Api(proxy.credentials) as through, recording(through) as recorder:
        recorder.tell(alice, "Healed", "put back")
        await recorder.drain()
        recorder.tell(alice, "Healed", "put back")
    (event,) = await events()
    assert event["series"]["count"] == 2
