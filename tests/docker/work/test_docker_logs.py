"""What an agent that writes without end leaves on a host's disk: what is configured, and no more."""

import asyncio

import docker
import pytest
from dockerkit import IMAGE, sandbox
from enginekit import client

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.objects import LOG_FILES, LOG_SIZE
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.logs import container_log
from claude_sandbox.compliance.evidence.containers import Declared
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


@pytest.mark.parametrize(("options", "bounded"), [({"max-size": "1m", "max-file": "2"}, True), ({}, False)])
async def test_what_json_file_keeps_of_another_s_container_is_what_is_said_of_it(
    host: EngineDescription, options: dict[str, str], bounded: bool
) -> None:
    talks = "dd if=/dev/urandom bs=100000 count=60 2>/dev/null | base64; echo 'that was all'; exec sleep 3600"
    kept_by = docker.types.LogConfig(type="json-file", config=options)
    with client(host) as sdk:
        container = sdk.containers.run(IMAGE, entrypoint=["sh", "-c", talks], log_config=kept_by, detach=True)
        try:
            async with asyncio.timeout(200):
                while b"that was all" not in container.logs(tail=1):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.5)
            files = sorted((host.data_root / "containers" / str(container.id)).glob("*-json.log*"))
            room = sum(file.stat().st_size for file in files)
            container.reload()
            said = container_log(Container(container.attrs, Declared()))
        finally:
            container.remove(force=True)
    assert (len(files), room < 2_200_000) == ((2, True) if bounded else (1, False))
    assert bounded or room > 8_000_000
    assert said.result is (Result.PASS if bounded else Result.FAIL)
