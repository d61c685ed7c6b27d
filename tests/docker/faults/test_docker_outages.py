"""What happens to everything at once, while sandboxes are each in the middle of something.

Several sandboxes are held at a known call each, by a relay between operator and engine; then the operator is killed,
the engine is killed or stopped and started, or the connection is cut with the engine alive, before it heard of the
calls or after it carried them out. Then all of them come to what their specs say, nothing is left in the end, and none
ever ran on a network but its own.

By default a few of the calls are visited, chosen by SEED, and the engines share the outages; `-m "engine and slow"`
visits all.
"""

import asyncio
import itertools
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerkit import make_stand_in, remove_tools
from engine_relay import CutError
from enginekit import own
from enginekit import ready as engine_with
from fault_place import (
    PHASES,
    PORT_PHASES,
    Made,
    Moment,
    Phase,
    Place,
    before_relay,
    fault_place,
    ready,
    recorded,
    settled,
)
from portkit import relay_on
from small_registry import registry

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.node.namespaces import enter_network

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.timeout(900)]

SEED = 7
# Fewer than the operator has threads for one engine, since each call that is held holds one.
AT_A_TIME = 7
# Seconds; less than the operator waits for an answer.
HELD = 25.0
# In the engine's own network, where nothing else listens.
PORT = 5000

Point = tuple[Phase, int]


def operator_killed(place: Place) -> None:
    place.operator.stop(signal.SIGKILL)
    place.relay.cut()


def engine_killed(place: Place) -> None:
    engine.kill(place.host)


def engine_stopped(place: Place) -> None:
    engine.stop(place.host)


def connection_cut(place: Place) -> None:
    place.relay.cut()


# Each with whether the calls are held when they are carried out already.
OUTAGES: tuple[tuple[Callable[[Place], None], bool], ...] = (
    (operator_killed, False),
    (engine_killed, False),
    (engine_stopped, True),
    (connection_cut, False),
    (connection_cut, True),
)


@pytest.fixture(scope="module")
def own_host(
    engine_release: str, state_home: Path, stand_in_image: ImageArchive, tiny_image: ImageArchive
) -> Iterator[EngineDescription]:
    """An engine that no other test has."""
    name = own(f"outages-{engine_release.replace('.', '-')}")
    try:
        made = engine_with(name, engine_release, stand_in_image)
        relay_on(made)
        yield made
    finally:
        engine.down(name, print)


@pytest.fixture
async def place(control_plane: Cluster, own_host: EngineDescription, tmp_path: Path) -> AsyncIterator[Place]:
    async with fault_place(control_plane, own_host, tmp_path / "log") as made:
        yield made


async def _outage(place: Place, what: Callable[[Place], None], answered: bool, points: list[Point]) -> list[str]:
    """Bring sandboxes to these points, one to each, and let it happen; what is amiss in the end."""
    released = threading.Event()

    def hold() -> None:
        released.wait(HELD)
        raise CutError

    moments = [Moment(call, hold, answered) for _, call in points]
    made = [place.prepare(f"o{next(_NUMBERS):03d}") for _ in points]
    await asyncio.gather(*(_begin(place, one, phase) for one, (phase, _) in zip(made, points, strict=True)))
    for one, (phase, _), moment in zip(made, points, moments, strict=True):
        if phase.creates:
            await place.create(one.name, moment, **phase.spec)
        else:
            place.conductor.arm(one, moment)
            await phase.trigger(place, one)
    came = await asyncio.gather(*(asyncio.to_thread(moment.came.wait, HELD - 5) for moment in moments))
    await asyncio.to_thread(what, place)
    released.set()
    await _back(place, what)
    failures = []
    for one, (phase, call), arrived in zip(made, points, came, strict=True):
        where = f"{what.__name__} at call {call} of {phase.name}{', carried out' if answered else ''}"
        if not arrived:
            failures.append(f"{where}: it never came: {[each.kind for each in one.calls]}")
        elif why := await place.comes_to(one, phase.amiss):
            failures.append(f"{where}: {why}; calls: {[each.kind for each in one.calls]}")
        elif phase.amiss is Made.amiss and (why := await place.is_told(one, one.told)):
            failures.append(f"{where}: {why}")
        elif why := await place.comes_to(one, phase.amiss, 5.0):
            failures.append(f"{where}, at last: {why}")
    return failures + await place.ended(*made)


async def _back(place: Place, what: Callable[[Place], None]) -> None:
    """Start what was ended."""
    if what is operator_killed:
        place.operator.start()
        await place.operator.is_ready()
    elif what is not connection_cut:
        await asyncio.to_thread(engine.start, place.host)


_NUMBERS = itertools.count(1)


async def _begin(place: Place, made: Made, phase: Phase) -> None:
    if phase.creates:
        return
    await place.create(made.name, **phase.spec)
    assert not (why := await place.comes_to(made, Made.amiss)), why
    assert not (why := await place.is_told(made, settled)), why
    if phase.begin is not None:
        await phase.begin(place, made)


async def _points(place: Place) -> list[Point]:
    """All calls of all phases, of sandboxes without ports, and of those with some what differs by them."""
    found = []
    for phases in (PHASES, PORT_PHASES):
        calls = await recorded(place, phases)
        of_these = [
            (phases[phase], call)
            for phase, made in calls.items()
            for call in range(1 + before_relay(phases[phase], made), len(made) + 1)
        ]
        assert len(of_these) > 30, calls
        found += of_these
    return found


@pytest.mark.slow
async def test_all_at_once_in_the_middle_of_something(place: Place) -> None:
    points = await _points(place)
    # The same on every run, and not the same on each engine.
    random.Random(f"{SEED} {place.host.release}").shuffle(points)  # noqa: S311
    failures = []
    # The engines share them; to this one comes here what does not come to it while an image is on its way.
    mine = 1 - engine.RELEASES.index(place.host.release)
    for number, (what, answered) in list(enumerate(OUTAGES))[mine::2]:
        failures += await _outage(place, what, answered, points[number * AT_A_TIME :][:AT_A_TIME])
    assert not failures, "\n".join(failures)


@pytest.mark.slow
async def test_while_an_image_is_on_its_way(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    # The engines share them, since each takes a while.
    mine = engine.RELEASES.index(place.host.release)
    for number, (what, _) in enumerate(OUTAGES[mine:-1:2]):
        # An engine that has what is in it has nothing to fetch.
        directory = tmp_path / str(number)
        await asyncio.to_thread(directory.mkdir)
        archive = await asyncio.to_thread(make_stand_in, directory, str(number))
        await asyncio.to_thread(gate.touch)
        with registry(enter_network(place.host.names), archive.path, PORT, gate):
            await _pulled(place, f"pulled-{number}", what, gate.unlink)
    await asyncio.to_thread(remove_tools, place.sdk)


async def _pulled(place: Place, name: str, what: Callable[[Place], None], let_go: Callable[[], None]) -> None:
    image = {"repository": f"127.0.0.1:{PORT}/{name}", "tag": "1"}
    moment = Moment(lambda call: call.path == "/images/create", lambda: None)
    made = await place.create(name, moment, image=image)
    assert await asyncio.to_thread(moment.came.wait, 30), [call.kind for call in made.calls]
    assert not (why := await place.is_told(made, _waits_for_image)), why
    await asyncio.to_thread(what, place)
    let_go()
    await _back(place, what)
    assert not (why := await place.comes_to(made, Made.amiss)), f"{what.__name__}: {why}"
    assert not (why := await place.is_told(made, ready)), f"{what.__name__}: {why}"
    assert not (left := await place.ended(made)), left
    place.sdk.images.remove(f"{image['repository']}:1")


def _waits_for_image(found: dict[str, Any] | None) -> bool:
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return any("is being pulled" in one["message"] for one in conditions)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "answered"), OUTAGES)
async def test_at_each_call(place: Place, what: Callable[[Place], None], answered: bool) -> None:
    points = await _points(place)
    random.Random(SEED).shuffle(points)  # noqa: S311
    failures = []
    for first in range(0, len(points), AT_A_TIME):
        failures += await _outage(place, what, answered, points[first : first + AT_A_TIME])
    assert not failures, "\n".join(failures)
