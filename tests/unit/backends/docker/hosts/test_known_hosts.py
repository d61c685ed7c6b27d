"""What is known of a host follows what its engine does, in bounded time, and nothing is forgotten by a silence."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engine_documents import good_bridge, good_info, good_version
from small_engine import BROKEN, CLOSING, DRIPPING, SILENT, WELL, SmallEngine

from claude_sandbox.api.docker_hosts.endpoints import Address, parse
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentials
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectErrorReason
from claude_sandbox.backends.docker.hosts.hosts import Hosts, Target

TIMEOUT = 10
"""Seconds. A busy machine may take one for what takes a moment."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    answers = {"info": good_info(), "version": good_version(), "networks/bridge": good_bridge()}
    with SmallEngine(tmp_path / "docker.sock", answers) as running:
        yield running


@pytest.fixture
def target(engine: SmallEngine) -> Target:
    return Target(parse(f"unix://{engine.address}"))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hosts(clock: Clock) -> AsyncIterator[Hosts]:
    def quick(address: Address, credentials: ClientCredentials | None) -> object:
        return connect(address, credentials, timeout=TIMEOUT)

    made = Hosts(quick, clock=clock, look_timeout=3 * TIMEOUT)  # type: ignore[arg-type]
    yield made
    made.close()


async def test_an_engine_that_answers_is_known(hosts: Hosts, target: Target) -> None:
    known = await hosts.look("a", target)
    assert known.answers
    assert known.engine_id == good_info()["ID"]
    assert known.documents is not None
    assert known.documents.bridge == good_bridge()
    assert hosts.engine("a") is not None


async def test_an_engine_without_a_default_bridge_is_known(hosts: Hosts, target: Target, engine: SmallEngine) -> None:
    del engine.answers["networks/bridge"]
    known = await hosts.look("a", target)
    assert known.documents is not None
    assert known.documents.bridge is None


async def test_at_rest_an_engine_is_only_asked_whether_it_is_there(
    hosts: Hosts, target: Target, engine: SmallEngine, clock: Clock
) -> None:
    await hosts.look("a", target)
    asked = len(engine.asked)
    for _ in range(5):
        clock.now += 10
        assert (await hosts.look("a", target)).answers
    assert [path.rpartition("/")[2] for path in engine.asked[asked:]] == ["_ping"] * 5
    clock.now += 10
    await hosts.look("a", target)
    assert [path.rpartition("/")[2] for path in engine.asked[asked + 5 :]] == ["info", "bridge"]


@pytest.mark.parametrize("mood", [SILENT, DRIPPING, BROKEN, CLOSING])
async def test_whatever_an_engine_does_a_look_ends_and_nothing_is_forgotten(
    hosts: Hosts, target: Target, engine: SmallEngine, clock: Clock, mood: str
) -> None:
    before = await hosts.look("a", target)
    hosts._look_timeout = 2.0
    engine.mood = mood
    clock.now += 60  # all of its documents are wanted anew
    known = await asyncio.wait_for(hosts.look("a", target), 30)
    assert not known.answers
    assert known.error is not None
    assert known.error.reason is ConnectErrorReason.UNREACHABLE
    assert known.documents == before.documents
    assert known.contact == before.contact
    assert known.silent == 60
    assert hosts.engine("a") is None
    clock.now += 7
    assert (await asyncio.wait_for(hosts.look("a", target), 30)).silent == 67
    engine.mood = WELL
    engine.released.set()
    async with asyncio.timeout(30):
        # The look that was given up has to end first.
        while not (await hosts.look("a", target)).answers:  # noqa: ASYNC110 - what is waited for is a thread
            await asyncio.sleep(0.05)
    assert hosts.known("a").silent == 0


async def test_an_engine_that_was_killed_is_noticed_and_found_again(
    hosts: Hosts, target: Target, engine: SmallEngine, clock: Clock
) -> None:
    await hosts.look("a", target)
    engine.stop()
    clock.now += 5
    known = await hosts.look("a", target)
    assert (known.answers, known.silent) == (False, 5)
    engine.start()
    assert (await hosts.look("a", target)).answers


async def test_an_engine_that_never_answered_is_silent_since_it_was_first_asked(
    hosts: Hosts, clock: Clock, tmp_path: Path
) -> None:
    nowhere = Target(parse(f"unix://{tmp_path}/none.sock"))
    assert (await hosts.look("a", nowhere)).silent == 0
    clock.now += 9
    known = await hosts.look("a", nowhere)
    assert (known.silent, known.contact, known.documents) == (9, None, None)


async def test_after_a_silence_an_engine_is_asked_what_it_is(hosts: Hosts, target: Target, engine: SmallEngine) -> None:
    await hosts.look("a", target)
    engine.stop()
    await hosts.look("a", target)
    engine.answers["info"] = good_info() | {"ID": "another"}
    engine.start()
    assert (await hosts.look("a", target)).engine_id == "another"


async def test_of_another_address_nothing_is_known_yet(hosts: Hosts, target: Target, tmp_path: Path) -> None:
    await hosts.look("a", target)
    elsewhere = dataclasses.replace(target, address=parse(f"unix://{tmp_path}/none.sock"))
    known = await hosts.look("a", elsewhere)
    assert known.documents is None
    assert known.engine_id is None


async def test_a_host_that_is_forgotten_is_not_known(hosts: Hosts, target: Target) -> None:
    await hosts.look("a", target)
    hosts.forget("a")
    assert hosts.known("a").documents is None
    assert hosts.engine("a") is None


async def test_a_host_that_is_forgotten_while_it_is_asked_keeps_no_connection(
    engine: SmallEngine, target: Target
) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Watched(Connection):
        def close(self) -> None:
            super().close()
            loop.call_soon_threadsafe(closed.set)

    def watched(address: Address, credentials: ClientCredentials | None) -> Connection:
        made = connect(address, credentials, timeout=10)
        return Watched(made.api, made.version)

    hosts = Hosts(watched)
    engine.mood = SILENT
    look = asyncio.create_task(hosts.look("a", target))
    async with asyncio.timeout(10):
        while not engine.asked:  # noqa: ASYNC110 - who is asked is a thread
            await asyncio.sleep(0.01)
        hosts.forget("a")
        engine.released.set()
        await look
        await closed.wait()
    hosts.close()


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ({"ApiVersion": "1.40", "Version": "19.03.15"}, "too old"),
        ({"Os": "windows"}, "Linux"),
        ({"Components": [{"Name": "Podman Engine", "Version": "5.0"}]}, "no Docker Engine"),
        ({"ApiVersion": None}, "no Docker Engine"),
    ],
)
async def test_what_is_no_engine_for_sandboxes_is_told(
    hosts: Hosts, target: Target, engine: SmallEngine, version: dict[str, object], says: str
) -> None:
    engine.answers["version"] = good_version() | version
    known = await hosts.look("a", target)
    assert known.error is not None
    assert known.error.reason is ConnectErrorReason.UNSUPPORTED
    assert says in known.error.message


@pytest.mark.parametrize(
    ("newest", "oldest", "agreed"), [("1.41", "1.12", "v1.41"), ("1.56", "1.44", "v1.4"), ("1.99", "1.90", "v1.90")]
)
async def test_the_newest_version_that_both_know_is_spoken(
    hosts: Hosts, target: Target, engine: SmallEngine, newest: str, oldest: str, agreed: str
) -> None:
    engine.answers["version"] = good_version() | {"ApiVersion": newest, "MinAPIVersion": oldest}
    await hosts.look("a", target)
    assert any(path.startswith(f"/{agreed}") for path in engine.asked)
