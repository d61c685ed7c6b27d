"""An operator without election says that it runs by the Lease, and takes nothing from one that is elected."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from claude_sandbox.api.meta import LEASE
from claude_sandbox.cli.report.operators import CLOCKS, silence
from claude_sandbox.controller.machinery.election import LeaderElectionConfig, LeaderElector
from claude_sandbox.controller.machinery.heartbeat import Heartbeat
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.resources import LEASES

pytestmark = pytest.mark.controlplane


async def lease(api: Api, namespace: str) -> Obj:
    return await api.get(LEASES, LEASE, namespace)


async def test_a_report_knows_that_it_runs_and_when_it_no_longer_does(api: Api, namespace: str) -> None:
    now = datetime.now(UTC)
    assert (await silence(api, namespace, now))[1]  # not known
    heartbeat = Heartbeat(api, namespace, LEASE, "one")
    await heartbeat.beat()
    assert await silence(api, namespace, now) == ("", "")
    first = await lease(api, namespace)
    await heartbeat.beat()
    second = await lease(api, namespace)
    assert second["spec"]["holderIdentity"] == "one"
    assert second["spec"]["renewTime"] > first["spec"]["renewTime"]
    assert second["spec"]["acquireTime"] == first["spec"]["acquireTime"]
    silent, unknown = await silence(api, namespace, now + CLOCKS + timedelta(minutes=2))
    assert "no operator has renewed" in silent
    assert not unknown


async def test_nothing_is_taken_from_one_that_is_elected(api: Api, namespace: str) -> None:
    timing = LeaderElectionConfig(lease_duration=2.0, renew_deadline=1.5, retry_period=0.3)
    elected = LeaderElector(api, namespace, LEASE, identity="elected", timing=timing)
    ends = asyncio.Event()
    leads = asyncio.create_task(elected.run(lambda: _until(ends)))
    while not elected.leading:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    heartbeat = Heartbeat(api, namespace, LEASE, "beside", lasts=1)
    await heartbeat.beat()
    assert (await lease(api, namespace))["spec"]["holderIdentity"] == "elected"
    assert elected.leading
    ends.set()
    await leads
    # The first sees that it was changed, the second that it is nobody's.
    await heartbeat.beat()
    await heartbeat.beat()
    assert (await lease(api, namespace))["spec"]["holderIdentity"] == "beside"


async def _until(ends: asyncio.Event) -> None:
    await ends.wait()


async def test_what_another_left_behind_is_taken_when_it_has_run_out(api: Api, namespace: str) -> None:
    await Heartbeat(api, namespace, LEASE, "crashed", lasts=1).beat()
    heartbeat = Heartbeat(api, namespace, LEASE, "next", lasts=1)
    await heartbeat.beat()
    found = (await lease(api, namespace))["spec"]
    assert found["holderIdentity"] == "next"
    assert found["leaseTransitions"] == 1


async def test_it_goes_on_where_the_lease_was_deleted_by_hand(api: Api, namespace: str) -> None:
    heartbeat = Heartbeat(api, namespace, LEASE, "one")
    await heartbeat.beat()
    await api.delete(LEASES, LEASE, namespace)
    await heartbeat.beat()
    await heartbeat.beat()
    assert (await lease(api, namespace))["spec"]["holderIdentity"] == "one"
