"""An agent that has spent its budget has its gateway ended, and goes on with a budget that is whole again.

Whoever can make a gateway run out of memory, or wait for the next upgrade, had as many budgets as there were gateways:
an account was in the gateway's memory. What was under way when it ended was counted nowhere. Closed by accounts in a
volume that outlives gateways (`backends/docker/gateway/accounts.py`), in which a request is reserved before it is
sent; what a gateway leaves reserved counts in full as soon as the next one begins. And the agent itself comes nowhere
near that volume.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from asking import Asked, account_file, account_of, ask, settled_to
from dockerkit import Sandbox, sandbox
from slow_provider import slow_provider_on

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.gateway import accounts
from claude_sandbox.gateway.budget.ledger import Account
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

EACH, REQUESTS = 10, 10
SPEC = {
    "credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"},
    "budget": {"maxOutputTokens": EACH * REQUESTS},
}


@pytest.fixture
def reached(tmp_path: Path) -> Callable[[], int]:
    """How many requests the provider got."""
    return lambda: (tmp_path / "slow-provider.log").read_text().count("asked")


@pytest.fixture
async def one(host: EngineDescription, tmp_path: Path) -> AsyncIterator[Sandbox]:
    with slow_provider_on(host, tmp_path) as url:
        async with sandbox(host, gateways={"provider": {"baseURL": url}}, **SPEC) as made:
            await made.made()
            await made.started()
            yield made


def used(account: Account) -> int:
    """Output tokens that the budget counts: of requests that are over, and of those under way."""
    return account.written + sum(one.output for one in account.reserved.values())


def statuses(found: list[Asked]) -> dict[int, int]:
    return {status: [one.status for one in found].count(status) for status in {one.status for one in found}}


async def reach(reached: Callable[[], int], count: int) -> None:
    async with asyncio.timeout(20):
        while reached() < count:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.02)


async def test_a_budget_for_ten_lets_ten_through_over_three_gateways(one: Sandbox, reached: Callable[[], int]) -> None:
    assert statuses(await ask(one, 4)) == {200: 4}
    await settled_to(one, 4 * EACH)
    # Three are under way when it is killed.
    under_way = asyncio.create_task(ask(one, 3, slow=30))
    await reach(reached, 7)
    before = account_of(one)
    assert (before.written, used(before)) == (4 * EACH, 7 * EACH)
    one.sdk.api.kill(one.names.gateway)
    assert statuses(await under_way) == {0: 3}
    first = one.sdk.api.inspect_container(one.names.gateway)["Id"]
    await one.settled()
    second = one.sdk.api.inspect_container(one.names.gateway)["Id"]
    after = account_of(one)
    assert (used(after), after.reserved, after.lost) == (used(before), {}, 3)
    # What is left is for three, however many come at once.
    found = statuses(await ask(one, 200))
    assert (found.pop(200), set(found) <= {402, 429}, reached()) == (3, True, REQUESTS), found
    one.sdk.api.remove_container(second, force=True)
    await one.settled()
    third = one.sdk.api.inspect_container(one.names.gateway)["Id"]
    assert len({first, second, third}) == 3
    (refused,) = await ask(one, 1)
    assert (refused.status, "budget of this sandbox is spent" in refused.body) == (402, True)
    last = account_of(one)
    assert (used(last), last.overrun, reached()) == (EACH * REQUESTS, 0, REQUESTS)


async def test_the_account_is_the_gateways_alone_and_goes_with_the_sandbox(one: Sandbox) -> None:
    called, api = one.names, one.sdk.api
    await ask(one, 1)
    place = account_file(one).parent
    assert (place.stat().st_uid, place.stat().st_gid, place.stat().st_mode & 0o777) == (65532, 65532, 0o700)
    # Of it the sandbox has nothing, by whatever name.
    assert all(mount.get("Name") != called.accounts for mount in one.inspected["Mounts"])
    assert one.sh(f"grep -c {called.accounts} /proc/mounts /proc/self/mountinfo").count(":0") == 2
    assert one.sh(f"ls {accounts.DIRECTORY} 2>&1").startswith("exit 1")
    assert await measured(one) is Result.PASS

    # Suspended, nothing of the gateway is left but that; what was used is still used afterwards.
    one.spec = {**SPEC, "operatingMode": "Suspended"}
    await one.settled()
    assert api.containers(all=True, filters={"volume": called.accounts}) == []
    one.spec = dict(SPEC)
    await one.settled()
    await one.started()
    assert account_of(one).written == EACH

    # The volume alone, of a sandbox that nobody knows any more, is found and removed as what is left of one.
    for name in (called.container, called.gateway):
        api.remove_container(name, force=True)
    for name in {called.network, called.gateway}:
        api.remove_network(name)
    for name in (called.key, called.settings, called.workspace):
        api.remove_volume(name)
    assert [found.uid for found in await one.backend.orphans(frozenset())] == [one.identity.uid]
    assert (await one.backend.remove(one.identity, retain=True)).done
    assert await one.backend.orphans(frozenset()) == ()
    assert all(volume["Name"] != called.accounts for volume in api.volumes()["Volumes"] or ())


async def test_a_stranger_with_the_account_is_measured_and_one_of_its_name_is_not_used(one: Sandbox) -> None:
    api, name = one.sdk.api, one.names.accounts
    host = api.create_host_config(binds=[f"{name}:/mnt"], network_mode="none")
    stranger = api.create_container(one.image, ["sleep", "1"], host_config=host)["Id"]
    one.backend._observer._alone.clear()
    assert await measured(one) is Result.FAIL
    api.remove_container(stranger, force=True)
    assert await measured(one) is Result.PASS
    api.remove_container(one.names.gateway, force=True)
    api.remove_volume(name)
    api.create_volume(name, labels={"somebody": "else"})
    outcomes = await one.settled()
    assert f"Volume {name}" in outcomes[-1].foreign
    assert api.containers(all=True, filters={"volume": name}) == []
    api.remove_volume(name)
    await one.settled()
    assert await measured(one) is Result.PASS


async def measured(one: Sandbox) -> Result:
    """What NET-12 says."""
    outcome = await one.once()
    compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    if any("NET-12" in group.controls for group in compliance.passed):
        return Result.PASS
    (found,) = (each for each in compliance.controls if each.id == "NET-12")
    return found.result
