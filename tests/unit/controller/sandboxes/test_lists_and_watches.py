"""What a list tells is older than what the watch told while the list was read."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.metrics.docker_hosts import HostCollector
from claude_sandbox.controller.sandboxes.resync import resync_forever
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.controller.sandboxes.watch import take
from claude_sandbox.kubernetes_api.client import Listing

Object = dict[str, Any]


def _raw(name: str, uid: str = "u", version: int = 1, **metadata: Any) -> Object:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version), **metadata}}


class Slow:
    """An API server whose list is on its way while the watch goes on. The second never comes: the first was taken."""

    def __init__(self, items: list[Object], meanwhile: Callable[[], None]) -> None:
        self._items, self._meanwhile = items, meanwhile
        self._asked = False
        self.asked_again = asyncio.Event()

    async def list(self, *_: Any, **__: Any) -> Listing:
        if self._asked:
            self.asked_again.set()
            await asyncio.Event().wait()
        self._asked = True
        self._meanwhile()
        return Listing(self._items, "5")


async def _one_round(sandboxes: Sandboxes, items: list[Object], meanwhile: Callable[[], None]) -> None:
    api: Any = Slow(items, meanwhile)
    rounds = asyncio.create_task(resync_forever(api, (), sandboxes, WorkQueue(), 0.01))
    await asyncio.wait_for(api.asked_again.wait(), 60)
    rounds.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await rounds


def _sandbox(name: str, uid: str = "u", version: int = 1) -> Object:
    return _raw(name, uid, version, namespace="agents") | {"spec": {}}


@pytest.mark.parametrize(
    ("listed", "meanwhile", "left"),
    [
        ([], [], {}),
        ([_sandbox("old")], [("ADDED", _sandbox("new", version=7))], {"old": "u", "new": "u"}),
        ([_sandbox("old")], [("DELETED", _sandbox("old", version=7))], {}),
        ([_sandbox("old")], [("MODIFIED", _sandbox("old", version=7))], {"old": "u"}),
        ([], [("DELETED", _sandbox("old", version=7)), ("ADDED", _sandbox("old", "v", 8))], {"old": "v"}),
        (
            [_sandbox("old")],
            [("DELETED", _sandbox("old", version=7)), ("ADDED", _sandbox("old", "v", 8))],
            {"old": "v"},
        ),
        ([_sandbox("old"), _sandbox("unheard")], [], {"old": "u", "unheard": "u"}),
    ],
    ids=["gone", "came", "went", "changed", "made again before", "made again after", "came unheard"],
)
async def test_of_sandboxes_what_the_watch_told_while_a_list_was_read_counts(
    listed: list[Object], meanwhile: list[tuple[str, Object]], left: dict[str, str]
) -> None:
    sandboxes = Sandboxes()
    sandboxes.put(_sandbox("old"))
    await _one_round(
        sandboxes, listed, lambda: [take(sandboxes, lambda _: None, *event) for event in meanwhile] and None
    )
    assert sandboxes.uids() == {Key("agents", name): uid for name, uid in left.items()}


@pytest.mark.parametrize(
    ("listed", "meanwhile", "left", "woken"),
    [
        ([], [], {}, ["old"]),
        ([_raw("old")], [("ADDED", _raw("new", version=7))], {"old": "u", "new": "u"}, ["new"]),
        ([_raw("old")], [("DELETED", _raw("old", version=7))], {}, ["old"]),
        ([], [("DELETED", _raw("old", version=7)), ("ADDED", _raw("old", "v", 8))], {"old": "v"}, ["old"]),
        ([_raw("old")], [("DELETED", _raw("old", version=7)), ("ADDED", _raw("old", "v", 8))], {"old": "v"}, ["old"]),
        ([_raw("old"), _raw("unheard")], [], {"old": "u", "unheard": "u"}, ["unheard"]),
    ],
    ids=["gone", "came", "went", "made again before", "made again after", "came unheard"],
)
async def test_of_hosts_as_well(
    listed: list[Object], meanwhile: list[tuple[str, Object]], left: dict[str, str], woken: list[str]
) -> None:
    events: Any = None
    api: Any = Slow(listed, lambda: [hosts.take(*event) for event in meanwhile] and None)
    hosts = HostsOperator(api, events, "system", resync=300.0, metrics=HostCollector())
    hosts.objects.put(_raw("old"))
    try:
        await hosts.list()
        assert hosts.objects.uids() == left
        assert [await hosts.queue.get() for _ in range(len(hosts.queue))] == woken
    finally:
        hosts.close()
