"""An engine whose containers log to journald by default: a real one, on a machine with a real systemd.

The engine's programs run beside that machine, and reach its journald as those of the machine would: by its socket.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerkit import IMAGE, furnish, sandbox
from enginekit import client, own, ready, run_inside
from nodekit import report
from systemd_machine import Machine

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.containers import container_place
from claude_sandbox.cli.work.ways.sessions import LogOptions
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

SOCKETS = "srv/engine"
BOUND = 16 << 20
LINES = 6000
# Lines that don't shrink to nothing, three times as long together as what is kept.
TALKS = f"dd if=/dev/urandom bs=6000 count={LINES} 2>/dev/null | base64 -w 8000; echo 'that was all'; exec sleep 3600"


@pytest.fixture(scope="module")
def place(
    may_have_engines: None, state_home: Path, stand_in_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, EngineDescription]]:
    """A machine whose administrator has bounded its journal, and its engine."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the machine's Python is 3.11, and the packages that are shared with it are for another")
    directory, name = tmp_path_factory.mktemp("journald"), own("tests-journald")
    machine = Machine.make(directory)
    settings = machine.file("/etc/systemd/journald.conf.d/bound.conf")
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[Journal]\nSystemMaxUse={BOUND >> 20}M\n")
    try:
        made = ready(name, engine.DEFAULT_RELEASE, settings={"log-driver": "journald"})
        furnish(made, stand_in_image)
        machine.shared[made.names.sockets] = SOCKETS
        machine.boot()
        run_inside(
            made, f"mkdir -p /run/systemd; ln -s /proc/{machine._first()}/root/run/systemd/journal /run/systemd/journal"
        )
        yield machine, made
    finally:
        machine.off()
        engine.down(name, report)
        shutil.rmtree(directory)


def judged(machine: Machine, identifier: str) -> dict[str, Any]:
    """What the command says of RES-08, run on the machine by its root."""
    said = machine.from_the_clone(
        "check", "container", identifier, "--host", f"unix:///{SOCKETS}/docker.sock", "--output", "json", check=False
    )
    [found] = json.loads(said[said.index("[") :])
    return next(one for one in found["controls"] if one["id"] == "RES-08")


async def test_what_the_journal_keeps_of_a_container_is_read_from_the_machine_and_measured(
    place: tuple[Machine, EngineDescription],
) -> None:
    machine, made = place
    with client(made) as sdk:
        container = sdk.containers.run(IMAGE, entrypoint=["sh", "-c", TALKS], detach=True)
        try:
            container.reload()
            assert container.attrs["HostConfig"]["LogConfig"]["Type"] == "journald"
            match = f"CONTAINER_ID_FULL={container.id}"
            async with asyncio.timeout(300):
                while "that was all" not in machine.out("journalctl", "--lines=1", "--output=cat", match):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(1)
                # `docker logs` has it, too, from a copy that the engine writes later.
                while b"that was all" not in container.logs(tail=1):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(1)
            machine.run("journalctl", "--sync")
            files = list(next(machine.file("/var/log/journal").iterdir()).iterdir())
            kept = sum(file.stat().st_blocks * 512 for file in files)
            left = len(machine.out("journalctl", "--output=json", "--output-fields=_PID", match).splitlines())
            said = judged(machine, str(container.id))
        finally:
            container.remove(force=True)
    # It wrote more than is kept: what was older is gone.
    assert BOUND // 2 < kept <= BOUND * 9 // 8
    assert 1 < left < LINES
    assert said["result"] == "Pass", said
    assert f"of the {BOUND >> 20} MiB that it keeps" in said["evidence"]["value"], said


async def test_where_it_can_not_be_read_nothing_passes(place: tuple[Machine, EngineDescription]) -> None:
    machine, made = place
    with client(made) as sdk:
        # It has said nothing yet, so that no journal could be known for its own.
        container = sdk.containers.run(IMAGE, entrypoint=["sleep", "3600"], detach=True)
        try:
            said = judged(machine, str(container.id))
        finally:
            container.remove(force=True)
    assert said["result"] == "Unknown"
    assert "no journal that may be read here has a line of this container" in said["message"]


async def test_a_sandbox_is_bounded_and_read_whatever_the_engine_s_default_is(
    place: tuple[Machine, EngineDescription],
) -> None:
    machine, made = place
    async with sandbox(made, command=["/bin/sh", "-c", "echo said by the agent; exec sleep infinity"]) as one:
        await one.made()
        assert one.inspected["HostConfig"]["LogConfig"]["Type"] == "local"
        said = judged(machine, one.inspected["Id"])
        assert (said["result"], said["evidence"]["value"]) == ("Pass", "local: 3 x 10m")
        target = Target("agents", one.identity.name, one.identity.uid, BackendType.DOCKER, one.inspected["Id"])
        async with container_place(EngineAddress(made.socket, parse(made.socket)), target) as its:
            assert b"said by the agent" in b"".join([part async for part in its.log(LogOptions(tail=5))])
