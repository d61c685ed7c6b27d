"""Moves that are cut off at every call that changes anything, on either engine or in the API server.

The operator ends there, before the call was heard or after it, or the old host falls silent there. The next one, or the
same one when the host is back, brings the move to its end: at no time two containers, nothing left behind, no loss told
of that was none. By default a fourteenth of the calls is visited, after they are heard; `-m "engine and slow"` visits
all, before and after.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
import requests
from docker_fleet import OWN, prepare
from dockerkit import CLUSTER, HELPER, IMAGE
from drain_place import FIRST, MAY_MOVE, SECOND, Pair, drained, placed_on, ready_on

from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Site
from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.operator import Operator
from claude_sandbox.controller.sandboxes.reporting.reporter import KubernetesReporter
from claude_sandbox.controller.sandboxes.resync import list_all
from claude_sandbox.controller.sandboxes.store import Key
from claude_sandbox.controller.settings import Settings
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine]

NAME = "nomad"
KEY = Key(OWN, NAME)
# Calls that change something, from the first word of a move to a sandbox that is Ready elsewhere: with room for more.
CALLS = 40
PASSES = 200


class EndedError(BaseException):
    """The operator's process is gone: nothing that it would have done next is done."""


class Fault:
    """Strikes at the k-th call that changes anything; 0 for never."""

    def __init__(self, strikes_at: int, *, heard: bool) -> None:
        self._left, self._heard = strikes_at, heard
        self.struck = False

    def due(self) -> bool:
        if self._left > 0 and not self.struck:
            self._left -= 1
            self.struck = self._left == 0
            return self.struck
        return False

    @property
    def heard(self) -> bool:
        return self._heard


class Client:
    """A client of an engine. After the fault, nothing goes through: the process is gone, or the engine is silent."""

    def __init__(self, client: Any, fault: Fault, silent: Callable[[], bool] | None) -> None:
        self._client, self._fault, self._silent = client, fault, silent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def request(self, method: str, url: str, **options: Any) -> Any:
        if self._fault.struck:
            self._refuse(url)
        elif method != "GET" and self._fault.due():
            if self._fault.heard:
                self._client.request(method, url, **options)
            self._refuse(url)
        return self._client.request(method, url, **options)

    def _refuse(self, url: str) -> None:
        # The thread that follows the events is one that a process takes with it.
        if self._silent is None and not url.endswith("/events"):
            raise EndedError
        if self._silent is None or self._silent():
            raise requests.ConnectionError("silent")


class Life:
    """One life of the operator, whose passes the test makes itself."""

    def __init__(self, api: Api, fault: Fault, silent: str | None) -> None:
        """`silent`: the host that falls silent at the fault, which the operator outlives; None: it ends there."""
        self.api, self.fault, self.silent = api, fault, silent
        metrics = Metrics()
        events = EventRecorder(api, "tests")
        site = Site(parse_image(IMAGE, "Never"))
        settings = Settings(site, namespaces=(OWN,), docker=True, relay_image=HELPER, probe_interval=0)
        self.operator = Operator(settings, api, KubernetesReporter(api, events, metrics), metrics, 34)
        self.hosts = HostsOperator(
            api,
            events,
            OWN,
            resync=300.0,
            metrics=metrics.hosts,
            demands=self.operator.demands_on,
            drain=self.operator.drain,
            on_change=self.operator.host_changed,
        )
        self.operator.use_hosts(self.hosts, CLUSTER)
        self._following: list[asyncio.Task[None]] = []
        self._mended = False

    async def begin(self) -> None:
        await self.hosts.list()
        follows = (self.operator.watches.run(), *self.operator.images.following())
        self._following = [asyncio.create_task(one) for one in follows]
        await self.operator.watches.settled()
        self.operator.sandboxes.replace(await list_all(self.api, (OWN,)))
        for host in (FIRST, SECOND):
            self._wrap(host)
            await self.look(host)

    async def end(self) -> None:
        await self.operator.close()
        self.hosts.close()
        for one in self._following:
            one.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def look(self, host: str) -> None:
        await self.hosts.reconciler(host)

    async def work(self, done: Callable[[Obj], bool]) -> None:
        """Passes, as the queue would have them, until it is done. Raises EndedError where the fault strikes."""
        for _ in range(PASSES):
            await self.operator.reconcile(KEY)
            raw = self.operator.sandboxes.get(KEY)
            if raw is not None and (raw.get("status") or {}).get("conditions") and done(dict(raw)):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"does not come to an end: {self.operator.sandboxes.get(KEY)}")

    async def some(self, passes: int) -> None:
        """A few passes, whatever they bring."""
        for _ in range(passes):
            await self.operator.reconcile(KEY)
            await asyncio.sleep(0.01)

    def mend(self) -> None:
        """The silent host answers again."""
        self._mended = True

    def _wrap(self, host: str) -> None:
        assert self.operator._fleet is not None
        made = self.operator._fleet.of(host)._engine
        real = made._transport.connected
        if self.silent is None:
            made._transport.connected = lambda: Client(real(), self.fault, None)  # type: ignore[assignment, return-value]
        elif self.silent == host:
            made._transport.connected = lambda: Client(real(), self.fault, lambda: not self._mended)  # type: ignore[assignment, return-value]


class Ledger(Api):
    """The way to the API server, which ends with the operator at a write that is the fault's."""

    fault = Fault(0, heard=False)
    ends = True

    async def patch_status(self, *arguments: Any, **options: Any) -> Any:
        if not self.ends or (not self.fault.struck and not self.fault.due()):
            return await super().patch_status(*arguments, **options)
        if self.fault.heard and arguments[0] is not DOCKER_HOSTS:
            await super().patch_status(*arguments, **options)
        raise EndedError


@pytest.fixture
def credentials(control_plane: Cluster) -> Credentials:
    return from_kubeconfig(str(control_plane.kubeconfig))


@pytest.fixture
async def pair(credentials: Credentials, host: EngineDescription, other_host: EngineDescription) -> AsyncIterator[Pair]:
    await prepare(credentials)
    async with Api(credentials, user_agent="tests") as api:
        made = Pair(api, host, other_host)
        try:
            await made.join(FIRST, SECOND)
            await made.fleet.change(SECOND, unschedulable=True)
            await made.create(NAME, **MAY_MOVE)
            async with life(credentials, Fault(0, heard=False)) as first:
                await first.work(ready_on(FIRST))
            await made.fleet.change(SECOND, unschedulable=False)
            yield made
        finally:
            await api.delete(SANDBOXES, NAME, OWN)
            async with life(credentials, Fault(0, heard=False)) as last:
                await last.some(2)
            await made.close()


@contextlib.asynccontextmanager
async def life(credentials: Credentials, fault: Fault, silent: str | None = None) -> AsyncIterator[Life]:
    async with Ledger(credentials, user_agent="operator") as api:
        api.fault, api.ends = fault, silent is None
        made = Life(api, fault, silent)
        try:
            await made.begin()
            yield made
        finally:
            await made.end()


def at_rest_on(pair: Pair, host: str, found: Obj) -> None:
    """It is there, whole, and nowhere else; and nothing of what was done counts as a loss."""
    other = SECOND if host == FIRST else FIRST
    assert placed_on(found) == host
    assert len(pair.containers(host, NAME)) == 1
    assert pair.left(other, NAME) == []
    assert "heals" not in found["status"]


async def drain(pair: Pair, source: str, target: str) -> None:
    await pair.fleet.change(target, drain=False)
    await pair.fleet.change(source, drain=True)


async def now(pair: Pair) -> Obj:
    found = await pair.get(NAME)
    assert found is not None
    return found


CutOff = Callable[[Pair, Credentials, bool, Iterable[int]], Awaitable[None]]


async def operator_ends(pair: Pair, credentials: Credentials, heard: bool, calls: Iterable[int]) -> None:
    """Until a call is one that a move no longer makes."""
    source, target = FIRST, SECOND
    for call in calls:
        await drain(pair, source, target)
        fault = Fault(call, heard=heard)
        with contextlib.suppress(EndedError):
            async with life(credentials, fault) as cut_off:
                await cut_off.work(ready_on(target))
        # Whatever was stored when it ended, nothing is where it is not stored to be.
        found = await now(pair)
        stored = placed_on(found)
        assert pair.left(target if stored == source else source, NAME) == []
        async with life(credentials, Fault(0, heard=False)) as next_one:
            await next_one.work(ready_on(target))
            await next_one.look(source)
            status = (await pair.api.get(DOCKER_HOSTS, source))["status"]
            assert drained(status) == ("True", "NoSandboxLeft"), status
        at_rest_on(pair, target, await now(pair))
        source, target = target, source
        if not fault.struck:
            break
    else:
        raise AssertionError("there are more calls than are tried")
    assert call > 10, "a move has more steps than that"
    pair.never_two(NAME)


async def host_falls_silent(pair: Pair, credentials: Credentials, heard: bool, calls: Iterable[int]) -> None:
    """Until a call is one that the host is no longer asked for."""
    source, target = FIRST, SECOND
    for call in calls:
        await drain(pair, source, target)
        fault = Fault(call, heard=heard)
        async with life(credentials, fault, silent=source) as living:
            await living.some(8)
            found = await now(pair)
            if fault.struck and placed_on(found) == source:
                # It is not known what is still there, so nothing is made elsewhere, however often it is tried.
                assert pair.left(target, NAME) == []
            living.mend()
            await living.work(ready_on(target))
        at_rest_on(pair, target, await now(pair))
        source, target = target, source
        if not fault.struck:
            break
    else:
        raise AssertionError("there are more calls than are tried")
    assert call > 4, "removing a sandbox takes more steps than that"
    pair.never_two(NAME)


ENDS = pytest.mark.parametrize("cut_off", [operator_ends, host_falls_silent])


@pytest.mark.timeout(900)
@ENDS
@pytest.mark.parametrize(
    ("heard", "calls"),
    [
        pytest.param(False, range(1, CALLS, 5), id="before", marks=pytest.mark.slow),
        pytest.param(True, range(3, CALLS, 14), id="after"),
    ],
)
async def test_in_the_middle_of_a_move(
    pair: Pair, credentials: Credentials, cut_off: CutOff, heard: bool, calls: Iterable[int]
) -> None:
    await cut_off(pair, credentials, heard, calls)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@ENDS
@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
async def test_at_any_step_of_a_move(pair: Pair, credentials: Credentials, cut_off: CutOff, heard: bool) -> None:
    await cut_off(pair, credentials, heard, range(1, CALLS))
