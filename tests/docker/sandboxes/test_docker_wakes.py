"""What somebody does to a sandbox's objects is heard at once, and a lost connection is found again."""

import asyncio
from collections.abc import AsyncIterator

import docker
import pytest
from dockerkit import Sandbox, sandbox
from enginekit import own, ready
from nodekit import report

from claude_sandbox.localcluster import engine as engines
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


class Ear:
    """Collects the keys that a backend wakes."""

    def __init__(self, wakes: AsyncIterator[tuple[str, str]]) -> None:
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._task = asyncio.create_task(self._listen(wakes))

    async def _listen(self, wakes: AsyncIterator[tuple[str, str]]) -> None:
        async for wake in wakes:
            self.heard.put_nowait(wake)

    async def hears(self, one: Sandbox, within: float = 15.0) -> None:
        async with asyncio.timeout(within):
            while await self.heard.get() != (one.identity.namespace, one.identity.name):
                pass

    async def quiet(self, for_seconds: float = 0.5) -> None:
        """Wait until nothing was heard for a while."""
        while True:
            try:
                await asyncio.wait_for(self.heard.get(), for_seconds)
            except TimeoutError:
                return

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_every_kind_of_change_is_heard(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        ear = Ear(one.backend.wakes())
        try:
            await ear.hears(one)
            api, name, network = one.sdk.api, one.names.container, one.names.network
            other = one.sdk.containers.run(one.image, name="a-stranger", detach=True)
            for change in (
                lambda: api.pause(name),
                lambda: api.unpause(name),
                lambda: api.update_container(name, cpu_shares=512),
                lambda: api.connect_container_to_network(name, "bridge"),
                lambda: api.connect_container_to_network("a-stranger", network),
                lambda: api.disconnect_container_from_network(name, network),
                lambda: api.rename(name, "elsewhere"),
                lambda: api.kill("elsewhere"),
                lambda: api.remove_container("elsewhere"),
                lambda: api.remove_volume(one.names.workspace),
                lambda: (api.disconnect_container_from_network("a-stranger", network), api.remove_network(network)),
            ):
                await ear.quiet()
                await asyncio.to_thread(change)
                await ear.hears(one)
        finally:
            other.remove(force=True)
            await ear.close()


async def test_a_strangers_container_wakes_nobody(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        ear = Ear(one.backend.wakes())
        try:
            await ear.hears(one)
            # Its health is checked all the time, and may become good.
            await ear.quiet(2.0)
            one.sdk.containers.run(one.image, ["-c", "exit 0"], entrypoint="/bin/sh", remove=True)
            with pytest.raises(TimeoutError):
                await ear.hears(one, within=1.0)
        finally:
            await ear.close()


async def test_silence_is_broken_by_health_checks_and_wakes_nobody(
    host: EngineDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        monkeypatch.setattr("claude_sandbox.backends.docker.events.watch.SILENCE", 5.0)
        ear = Ear(one.backend.wakes())
        try:
            await ear.hears(one)
            # As the engine does it now and then by itself.
            container = one.sdk.containers.get(one.names.container)
            check = one.inspected["Config"]["Healthcheck"]["Test"][1:]
            await ear.quiet()
            for _ in range(12):
                await asyncio.to_thread(container.exec_run, check)
                with pytest.raises(TimeoutError):
                    await ear.hears(one, within=0.8)
            # Without, it might be dead, and nobody knows what was not told.
            await asyncio.to_thread(one.sdk.api.pause, one.names.container)
            await ear.quiet(0.5)
            await ear.hears(one, within=20.0)
        finally:
            await ear.close()
            one.sdk.api.unpause(one.names.container)


async def test_an_engine_that_was_killed_is_heard_again(
    stand_in_image: ImageArchive, engine_release: str, may_have_engines: None
) -> None:
    name = own(f"wakes-{engine_release.replace('.', '-')}")
    made = ready(name, engine_release, stand_in_image, build_image("operator", report))
    try:
        async with sandbox(made) as one:
            await one.made()
            ear = Ear(one.backend.wakes())
            try:
                await ear.hears(one)
                await ear.quiet()
                await asyncio.to_thread(engines.kill, made)
                # That it is gone is itself worth a look.
                await ear.hears(one)
                await asyncio.to_thread(engines.start, made)
                await ear.hears(one, within=40.0)
                await one.settled()
                await ear.quiet(1.0)
                await asyncio.to_thread(one.sdk.api.pause, one.names.container)
                await ear.hears(one, within=40.0)
                assert docker
            finally:
                await ear.close()
    finally:
        engines.down(name, print)
