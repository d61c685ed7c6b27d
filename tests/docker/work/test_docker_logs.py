"""What an agent that writes without end leaves on a host's disk: what is configured, and no more."""

import asyncio

import pytest
from dockerkit import sandbox

from claude_sandbox.backends.docker.objects import LOG_FILES, LOG_SIZE
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

MOST = int(LOG_FILES) * int(LOG_SIZE.removesuffix("m")) * 1000 * 1000
WRITTEN = 2 * MOST
# Lines that don't shrink to nothing: an engine keeps older files of a log compressed.
TALKS = (
    f"/bin/busybox dd if=/dev/urandom bs=100000 count={WRITTEN * 3 // 4 // 100000} 2>/dev/null"
    " | base64; echo 'that was all'; exec sleep infinity"
)


async def test_a_log_takes_no_more_room_than_is_configured_and_keeps_the_newest(host: EngineDescription) -> None:
    async with sandbox(host, command=["/bin/sh", "-c", TALKS]) as one:
        await one.made()
        container = one.sdk.containers.get(one.names.container)
        async with asyncio.timeout(200):
            while b"that was all" not in container.logs(tail=1):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.5)
            place = host.data_root / "containers" / str(container.id) / "local-logs"
            # While an older file is compressed it is there twice.
            while len(kept := list(place.iterdir())) > int(LOG_FILES):  # noqa: ASYNC110 - only looking tells
                await asyncio.sleep(0.5)
        assert len(kept) == int(LOG_FILES)
        # A file is closed with the line that fills it; the driver writes some bytes of its own beside each.
        room = sum(each.stat().st_size for each in kept)
        assert MOST // 4 < room < MOST * 1.1
        outcome = await one.once()
        compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
        assert "RES-08" in {control for passed in compliance.passed for control in passed.controls}
