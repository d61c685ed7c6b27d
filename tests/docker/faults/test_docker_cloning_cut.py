"""What clones a sandbox's repositories is cut: in the middle of a transfer, and at every call before and after it.

The git server sends a part of what is asked for, and then nothing more until it is told to. Meanwhile what clones is
killed, taken away, loosened or cut off, its gateway goes, everything goes, or the sandbox is deleted or suspended; or
the operator is killed, the engine is killed or stopped and started, or the connection to it is cut. In the end the
repository is there as it was cloned, whole, with nothing beside it; nothing is left of a sandbox that is gone; and by
the engine's own events what clones never ran on a network but the sandbox's own.

All of it is slow: `-m "engine and slow"`. By default a clone is cut where pods clone (tests/e2e/test_repositories.py).
"""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cloning_image import REFERENCE, cloning_image
from enginekit import own
from enginekit import ready as engine_with
from fault_matrix import (
    OF_CLONER,
    Kind,
    at_each_call,
    kill_gateway,
    remove_all,
    remove_gateway,
    remove_network,
    remove_volumes,
)
from fault_place import CLONED, CLONED_PHASES, GIT_HOST, GIT_PORT, Made, Place, fault_place, ready
from gatewaykit import authority
from git_process import TOKEN, GitProcess, git_process
from portkit import relay_on
from slow_provider import ADDRESS, slow_provider_on

from claude_sandbox.api import meta
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.timeout(900)]

SIZE = 6 << 20
"""Bytes of the file in the repository that nothing makes smaller."""
PATIENCE = 180.0
"""Seconds."""

OF_ONE = (*OF_CLONER, kill_gateway, remove_gateway, remove_network, remove_volumes, remove_all)
KIND = Kind("cloned", (*OF_CLONER, remove_gateway, remove_all), CLONED_PHASES)
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def own_host(
    engine_release: str, state_home: Path, sandbox_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineDescription]:
    """An engine that no other test has, with an image that clones."""
    name = own(f"cloning-{engine_release.replace('.', '-')}")
    try:
        made = engine_with(name, engine_release, cloning_image(sandbox_image, tmp_path_factory.mktemp("cloning")))
        relay_on(made)
        yield made
    finally:
        engine.down(name, print)


@pytest.fixture
def git(own_host: EngineDescription, tmp_path: Path) -> Iterator[GitProcess]:
    """A git server that wants a token, whose repository takes more than it sends at once."""
    trust = authority(tmp_path, ADDRESS, GIT_HOST)
    with (
        slow_provider_on(own_host, tmp_path) as url,
        git_process(own_host.netns, ADDRESS, (trust.certificate, trust.key), tmp_path, GIT_PORT) as found,
    ):
        work = tmp_path / "first"
        (work / "large").write_bytes(os.urandom(SIZE))
        found.git("add", "-A", at=work)
        found.git("commit", "-qm", "large", at=work)
        found.git("push", "-q", str(found.files / "team/project.git"), "main", at=work)
        hosts = {"hosts": {GIT_HOST: [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"], "caFile": str(trust.bundle)}
        (tmp_path / "gateways.json").write_text(json.dumps({"provider": {"baseURL": url}, "egress": hosts}))
        yield found


@pytest.fixture
async def place(
    control_plane: Cluster, own_host: EngineDescription, git: GitProcess, tmp_path: Path
) -> AsyncIterator[Place]:
    options = (f"--gateway-settings={tmp_path / 'gateways.json'}", f"--sandbox-image={REFERENCE}")
    async with fault_place(control_plane, own_host, tmp_path / "log", *options) as made:
        await made.fleet.secret("git", {"host": f"{GIT_HOST}:{GIT_PORT}", "token": TOKEN}, meta.GIT_SECRET_TYPE)
        yield made


async def _cloning(place: Place, git: GitProcess, number: int) -> list[Made]:
    """As many sandboxes, each in the middle of a transfer, whose answers the server holds."""
    before = len(git.held())
    made = [await place.create(f"c{next(_NUMBERS):03d}", **CLONED) for _ in range(number)]
    deadline = time.monotonic() + PATIENCE
    while len(git.held()) < before + number:
        there = [f"{one.name}: {one.left['containers']} {[call.kind for call in one.calls]}" for one in made]
        assert time.monotonic() < deadline, "\n".join([f"{len(git.held())} are held", *there])
        await asyncio.sleep(0.5)
    # What the server has sent is on its way.
    while missing := [one.name for one in made if not await asyncio.to_thread(_half, one)]:
        assert time.monotonic() < deadline, f"nothing has arrived yet: {missing}"
        await asyncio.sleep(0.5)
    assert all(one.container is None for one in made)
    return made


def _half(made: Made) -> bool:
    """Whether a part of a pack is in its workspace, beside where the clone will be."""
    api, live = made.place.sdk.api, made.cloner
    if live is None:
        return False
    found = api.exec_start(api.exec_create(live["Id"], ["find", "/workspace", "-name", "tmp_pack_*"])["Id"])
    return b".claude-sandbox-clones" in found


async def _whole(place: Place, made: Made, what: str) -> list[str]:
    """What is amiss with a sandbox in the end."""
    why = await place.comes_to(made, Made.amiss) or await place.is_told(made, ready)
    return [f"{what}: {why}; calls: {[call.kind for call in made.calls]}"] if why else []


@pytest.mark.slow
async def test_each_fault_in_the_middle_of_a_transfer(place: Place, git: GitProcess) -> None:
    with git.holding():
        made = await _cloning(place, git, len(OF_ONE))
        done = [await asyncio.to_thread(fault, one) for fault, one in zip(OF_ONE, made, strict=True)]
    # A volume that is mounted can't be removed; everything else had something to be done to.
    assert [fault.__name__ for fault, had in zip(OF_ONE, done, strict=True) if not had] in ([], ["remove_volumes"])
    found = await asyncio.gather(*(_whole(place, one, fault.__name__) for fault, one in zip(OF_ONE, made, strict=True)))
    failures = [why for each in found for why in each] + await place.ended(*made)
    assert not failures, "\n".join(failures)


@pytest.mark.slow
async def test_deleted_or_suspended_in_the_middle_of_a_transfer(place: Place, git: GitProcess) -> None:
    with git.holding():
        deleted, suspended = await _cloning(place, git, 2)
        assert not await place.ended(deleted)
        await place.change(suspended, operatingMode="Suspended")
        assert not (why := await place.comes_to(suspended, Made.suspended_amiss)), why
    await place.change(suspended, operatingMode="Running")
    failures = await _whole(place, suspended, "suspended") + await place.ended(suspended)
    assert not failures, "\n".join(failures)


def operator_killed(place: Place) -> None:
    place.operator.stop(signal.SIGKILL)
    place.relay.cut()


def connection_cut(place: Place) -> None:
    place.relay.cut()


def engine_killed(place: Place) -> None:
    engine.kill(place.host)


def engine_stopped(place: Place) -> None:
    engine.stop(place.host)


OUTAGES = {what.__name__: what for what in (operator_killed, engine_killed, engine_stopped, connection_cut)}


@pytest.mark.slow
@pytest.mark.parametrize("what", OUTAGES.values(), ids=OUTAGES)
async def test_an_outage_in_the_middle_of_a_transfer(
    place: Place, git: GitProcess, what: Callable[[Place], None]
) -> None:
    with git.holding():
        made = await _cloning(place, git, 3)
        before = [one.cloner for one in made]
        await asyncio.to_thread(what, place)
        if what is operator_killed:
            place.operator.start()
            await place.operator.is_ready()
        elif what is not connection_cut:
            await asyncio.to_thread(engine.start, place.host)
        else:
            # What clones is the engine's: it goes on.
            assert [(one.cloner or {}).get("Id") for one in made] == [(one or {}).get("Id") for one in before]
    found = await asyncio.gather(*(_whole(place, one, what.__name__) for one in made))
    failures = [why for each in found for why in each] + await place.ended(*made)
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_each_fault_at_each_call_of_each_phase_with_repositories(place: Place) -> None:
    await at_each_call(place, KIND)
