"""Never two leaders: judged by the API server's own history of leases and writes, in the order of its revisions."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest
from election_candidate import LEASE, PATIENT, TIMING, act, electing
from faulty_proxy import FaultyProxy

from claude_sandbox.controller.machinery.election import (
    LeaderElectionConfig,
    LeaderElector,
    LeadershipLostError,
    NotLeadingError,
)
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import LEASES, SERVICE_ACCOUNTS, Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane


class History:
    """Who held the lease and who wrote, by revision."""

    def __init__(self) -> None:
        self.holders: list[tuple[int, str]] = []
        self.renewed: dict[int, str] = {}
        self.writes: list[tuple[int, str]] = []

    async def follow(self, api: Api, namespace: str, resource: Resource) -> None:
        version = (await api.list(resource, namespace)).resource_version
        async with aclosing(api.watch(resource, namespace, resource_version=version)) as watch:
            async for event in watch:
                obj = event["object"]
                revision = int(obj["metadata"]["resourceVersion"])
                if event["type"] == "BOOKMARK":
                    continue
                if resource is LEASES:
                    self.holders.append((revision, obj["spec"].get("holderIdentity") or ""))
                    self.renewed[revision] = obj["spec"].get("renewTime") or ""
                else:
                    self.writes.append((revision, obj["metadata"]["generateName"].rstrip("-")))

    def holder(self) -> str:
        return self.holders[-1][1] if self.holders else ""

    def wrote(self, identity: str) -> int:
        return sum(1 for _, who in self.writes if who == identity)

    def check(self, frozen: str = "") -> None:
        """Every write was made by whoever held the lease when the API server made it.

        `frozen` may have made one more, after the lease was lost: what it was sending when it was frozen can't be
        called back. Nothing can, short of the API server knowing of leases.
        """
        assert self.writes
        changes = sorted(self.holders)
        late = []
        for revision, who in self.writes:
            held = [holder for at, holder in changes if at < revision]
            assert held, f"{who} wrote before anyone led"
            if held[-1] != who:
                late.append((revision, who, held[-1] or "nobody"))
        allowed = 1 if frozen else 0
        assert len(late) <= allowed, f"wrote without the lease (revision, who, holder): {late}"
        assert all(who == frozen for _, who, _ in late)


@pytest.fixture
async def history(api: Api, namespace: str) -> AsyncIterator[History]:
    history = History()
    tasks = [asyncio.create_task(history.follow(api, namespace, kind)) for kind in (LEASES, SERVICE_ACCOUNTS)]
    await asyncio.sleep(0.2)  # what comes before the watches begin is of no interest
    yield history
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (it is about another process)
            await asyncio.sleep(0.01)


class Replica:
    """A candidate in a process of its own."""

    def __init__(self, kubeconfig: Path, namespace: str, identity: str) -> None:
        self.identity = identity
        self._args = (str(Path(__file__).with_name("election_candidate.py")), str(kubeconfig), namespace, identity)
        self.process: asyncio.subprocess.Process

    async def start(self) -> "Replica":
        self.process = await asyncio.create_subprocess_exec(sys.executable, *self._args, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        assert await self.process.stdout.readline() == b"started\n"
        return self

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
async def replicas(control_plane: Cluster, namespace: str) -> AsyncIterator[Callable[[str], Awaitable[Replica]]]:
    started: list[Replica] = []

    async def start(identity: str) -> Replica:
        replica = Replica(control_plane.kubeconfig, namespace, identity)
        started.append(replica)
        return await replica.start()

    yield start
    for replica in started:
        if replica.process.returncode is None:
            replica.send(signal.SIGKILL)
            await replica.process.wait()


async def test_a_killed_leader_is_followed_after_its_lease_has_ended(
    history: History, replicas: Callable[[str], Awaitable[Replica]]
) -> None:
    a = await replicas("a")
    await eventually(lambda: history.wrote("a") > 10)
    await replicas("b")
    a.send(signal.SIGKILL)
    await eventually(lambda: history.wrote("b") > 10)
    history.check()


async def test_a_frozen_leader_writes_nothing_when_it_wakes_up(
    history: History, replicas: Callable[[str], Awaitable[Replica]]
) -> None:
    a = await replicas("a")
    await eventually(lambda: history.wrote("a") > 10)
    await replicas("b")
    a.send(signal.SIGSTOP)
    await eventually(lambda: history.wrote("b") > 10)
    a.send(signal.SIGCONT)
    count = history.wrote("b")
    await eventually(lambda: history.wrote("b") > count + 100)
    history.check(frozen="a")


async def test_a_leader_that_stops_hands_over_before_its_lease_would_have_ended(
    history: History, replicas: Callable[[str], Awaitable[Replica]]
) -> None:
    a = await replicas("a")
    await eventually(lambda: history.wrote("a") > 10)
    await replicas("b")
    a.send(signal.SIGTERM)
    assert await a.process.wait() == 0
    await eventually(lambda: history.wrote("b") > 10)
    history.check()
    given_back = next(at for at, holder in sorted(history.holders) if holder == "")
    taken = next(at for at, holder in sorted(history.holders) if holder == "b")
    waited = datetime.fromisoformat(history.renewed[taken]) - datetime.fromisoformat(history.renewed[given_back])
    assert waited.total_seconds() < TIMING.lease_duration - TIMING.renew_deadline
    assert not [at for at, holder in history.holders if holder == "a" and at > given_back]


@asynccontextmanager
async def candidate(
    credentials: Credentials,
    namespace: str,
    identity: str,
    lost: list[float] | None = None,
    timing: LeaderElectionConfig = TIMING,
) -> AsyncIterator[LeaderElector]:
    """A candidate in this process, that goes on after a loss."""
    async with (
        electing(credentials, namespace, identity, timing) as election,
        Api(credentials, write_permit=election.permit) as api,
    ):

        async def run() -> None:
            while True:
                with suppress(LeadershipLostError):
                    await election.run(
                        lambda: act(api, namespace, identity),
                        None if lost is None else lambda: lost.append(time.monotonic()),
                    )

        task = asyncio.create_task(run())
        try:
            yield election
        finally:
            task.cancel()
            await asyncio.wait((task,))


@pytest.mark.parametrize("how", ["silent", "refused"])
async def test_a_leader_that_is_cut_off_stops_before_another_takes_over(
    history: History, credentials: Credentials, proxy: FaultyProxy, namespace: str, how: str
) -> None:
    lost: list[float] = []
    async with candidate(proxy.credentials, namespace, "a", lost) as a:
        await eventually(lambda: history.wrote("a") > 10)
        async with candidate(credentials, namespace, "b"):
            if how == "silent":
                proxy.online.clear()
            else:
                proxy.drop("PUT", "leases", times=10**6)
                proxy.drop("GET", "leases", times=10**6)
            await eventually(lambda: bool(lost))
            assert not a.leading
            assert history.holder() == "a", "it stopped while the lease was still its own"
            await eventually(lambda: history.wrote("b") > 10)
            proxy.faults.clear()
            proxy.online.set()
            count = history.wrote("b")
            await eventually(lambda: history.wrote("b") > count + 50)
    history.check()


async def test_a_renewal_whose_answer_is_lost_does_not_cost_the_lease(
    history: History, proxy: FaultyProxy, namespace: str
) -> None:
    lost: list[float] = []
    async with candidate(proxy.credentials, namespace, "a", lost, PATIENT):
        await eventually(lambda: history.wrote("a") > 10)
        proxy.lose_answer("PUT", "leases", times=2)
        before = len(history.holders)
        await eventually(lambda: len(history.holders) > before + 5)
    assert not lost
    history.check()


async def test_someone_elses_note_on_the_lease_is_no_loss_but_another_holder_is(
    history: History, api: Api, credentials: Credentials, namespace: str
) -> None:
    lost: list[float] = []
    async with candidate(credentials, namespace, "a", lost, PATIENT):
        await eventually(lambda: history.wrote("a") > 10)
        await api.patch(LEASES, LEASE, namespace, {"metadata": {"annotations": {"note": "hello"}}})
        before = len(history.holders)
        await eventually(lambda: len(history.holders) > before + 3)
        assert not lost
        lease = await api.get(LEASES, LEASE, namespace)
        assert lease["metadata"]["annotations"] == {"note": "hello"}
        await api.patch(LEASES, LEASE, namespace, {"spec": {"holderIdentity": "by-hand"}})
        await eventually(lambda: bool(lost))


async def test_a_deleted_lease_is_made_again(
    history: History, api: Api, credentials: Credentials, namespace: str
) -> None:
    lost: list[float] = []
    async with candidate(credentials, namespace, "a", lost, PATIENT):
        await eventually(lambda: history.wrote("a") > 10)
        await api.delete(LEASES, LEASE, namespace)
        before = len(history.holders)
        await eventually(lambda: len(history.holders) > before + 3)
    assert not lost


async def test_many_candidates_and_one_leader(history: History, credentials: Credentials, namespace: str) -> None:
    async with (
        candidate(credentials, namespace, "a", timing=PATIENT) as a,
        candidate(credentials, namespace, "b", timing=PATIENT) as b,
        candidate(credentials, namespace, "c", timing=PATIENT) as c,
    ):
        await eventually(lambda: len(history.writes) > 50)
        assert sum(e.leading for e in (a, b, c)) == 1
    history.check()
    assert len({who for _, who in history.writes}) == 1


async def test_the_lease_is_given_back_only_after_the_work_has_stopped(
    history: History, credentials: Credentials, namespace: str
) -> None:
    order: list[str] = []
    async with electing(credentials, namespace, "slow") as election:

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(TIMING.renew_deadline * 1.5)  # much longer than one renewal lasts
                order.append("stopped" if election.leading else "stopped without the lease")

        task = asyncio.create_task(election.run(work))
        await eventually(lambda: election.leading)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert order == ["stopped"]
        await eventually(lambda: history.holder() == "")
        with pytest.raises(NotLeadingError):
            election.permit()


async def test_the_error_of_the_work_is_not_swallowed_and_the_lease_is_given_back(
    history: History, credentials: Credentials, namespace: str
) -> None:
    async def work() -> None:
        raise RuntimeError("broken")

    async with electing(credentials, namespace, "a") as election:
        with pytest.raises(RuntimeError, match="broken"):
            await election.run(work)
    await eventually(lambda: history.holder() == "")


async def test_the_lease_reads_as_others_expect(api: Api, credentials: Credentials, namespace: str) -> None:
    async with candidate(credentials, namespace, "a", timing=PATIENT) as a:
        await eventually(lambda: a.leading)
    async with candidate(credentials, namespace, "b", timing=PATIENT) as b:
        await eventually(lambda: b.leading)
        spec = (await api.get(LEASES, LEASE, namespace))["spec"]
    assert spec["holderIdentity"] == "b"
    assert spec["leaseDurationSeconds"] == 60
    assert spec["leaseTransitions"] == 1
    assert spec["acquireTime"] <= spec["renewTime"]


def test_a_timing_that_could_split_is_refused() -> None:
    for bad in ((10, 10, 2), (15, 10, 10), (15, 10, 0), (10, 15, 2)):
        with pytest.raises(ValueError, match="retry period < renew deadline < lease duration"):
            LeaderElectionConfig(*bad)


async def test_without_rights_on_leases_it_waits_and_says_why(
    proxy: FaultyProxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.answer("GET", "leases", 403, times=10**6)
    async with electing(proxy.credentials, namespace, "a") as election:
        task = asyncio.create_task(election.run(lambda: asyncio.sleep(0)))
        await eventually(lambda: len(proxy.requests) >= 2)
        task.cancel()
        with suppress(asyncio.CancelledError, ApiError):
            await task
        assert not election.leading
    assert "cannot use the lease" in caplog.text
