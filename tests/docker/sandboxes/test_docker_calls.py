"""A pass asks an engine for no more than it needs, and yet misses nothing that somebody does meanwhile."""

import asyncio

import pytest
from dockerkit import FIRST, KEY, Sandbox, counted, sandbox
from overheard import overhear

from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

# Attaching to the helper goes another way.
READS, WRITES = 8, 10


class Ear:
    """Follows the engine's events as the operator does; whom they woke is added to `one.woken`."""

    def __init__(self, one: Sandbox) -> None:
        self._one = one
        self._opened = asyncio.Event()

    async def _listen(self) -> None:
        async for wake in self._one.backend.wakes():
            self._one.woken.append(wake)
            self._opened.set()

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._listen())
        await asyncio.wait_for(self._opened.wait(), 15.0)
        await asyncio.sleep(0.5)
        self._one.woken.clear()

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def prepared(one: Sandbox) -> None:
    """Have what is asked once for each engine and image asked, and the sandbox known."""
    await one.made()
    one.sdk.api.remove_container(one.names.container, force=True)
    # Another helper container is not made at once.
    one.clock.now += 60.0


async def test_a_sandbox_is_made_with_few_calls_and_wakes_nobody_by_that(host: EngineDescription) -> None:
    async with sandbox(host, "before") as other:
        await other.made()
        async with sandbox(host) as one:
            one.backend._observer._images.update(other.backend._observer._images)
            one.backend._images._labels.update(other.backend._images._labels)
            await one.engine.capabilities()
            one.backend._followed.registry.put((one.identity.namespace, one.identity.name), [one.names.container])
            async with Ear(one):
                # To have opened its stream forgets what was found out about volumes.
                one.engine.enforces_sizes = other.engine.enforces_sizes
                heard = overhear(one)
                outcome = await one.once(FIRST)
                calls = list(heard.calls)
                assert outcome.created
                assert one.running
                reads = [call for call in calls if call.startswith("GET")]
                assert (len(reads), len(calls) - len(reads)) == (READS, WRITES), "\n".join(calls)
                await one.started()
                await asyncio.sleep(1.0)
                # It became healthy, which is worth a look.
                assert [name for _, name in one.woken if name == one.identity.name] == [one.identity.name]
                assert not (await one.once()).wrote
            assert one.key_in_place() == KEY


@pytest.mark.by_turns
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["helper's start", "start", "helper's end"])
async def test_a_network_that_is_attached_during_the_start_is_taken_off_again(
    host: EngineDescription, call: str, when: str
) -> None:
    async with sandbox(host) as one:
        await prepared(one)
        async with Ear(one):
            heard = overhear(one)
            connect = one.sdk.api.connect_container_to_network
            getattr(heard, when)[call] = lambda: connect(one.names.container, "bridge")
            outcome = await one.once()
            # Either the pass refuses to start it, and says so, or another pass is asked for.
            if not outcome.stale:
                async with asyncio.timeout(5.0):
                    while not one.woken:  # noqa: ASYNC110 - the events are on their way
                        await asyncio.sleep(0.01)
            else:
                assert not one.running
            await one.settled()
            assert one.networks == {one.names.network}
            assert one.running


@pytest.mark.by_turns
async def test_a_restart_right_after_the_start_is_not_taken_for_it(host: EngineDescription) -> None:
    """The key is gone from memory by then."""
    async with sandbox(host) as one:
        await prepared(one)
        async with Ear(one):
            heard = overhear(one)
            heard.after["helper's end"] = lambda: one.sdk.api.restart(one.names.container, timeout=0)
            await one.once()
            async with asyncio.timeout(5.0):
                while not one.woken:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert one.key_in_place() != KEY
            await one.settled()
            assert one.key_in_place() == KEY


@pytest.mark.by_turns
async def test_addresses_that_another_network_has_are_left_to_it(host: EngineDescription) -> None:
    before = counted(host)
    async with sandbox(host) as one:
        first = next(address_pools.candidates(address_pools.POOL, one.names.network, ()))
        one.sdk.networks.create("in-the-way", ipam={"Driver": "default", "Config": [{"Subnet": str(first)}]})
        try:
            await one.made()
            (config,) = one.sdk.api.inspect_network(one.names.network)["IPAM"]["Config"]
            assert config["Subnet"] != str(first)
        finally:
            (await one.backend.remove(one.identity, retain=False))
            one.sdk.api.remove_network("in-the-way")
    assert counted(host) == before


@pytest.mark.by_turns
async def test_a_container_that_somebody_else_removes_first_is_removed(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await prepared(one)
        await one.once()
        heard = overhear(one)
        heard.before["stop"] = lambda: one.sdk.api.remove_container(one.names.container, force=True)
        removal = await one.backend.remove(one.identity, retain=False)
        assert removal.done, removal.problem
        assert "stop" not in heard.before
