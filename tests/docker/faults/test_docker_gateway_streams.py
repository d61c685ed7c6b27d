"""What is lost of streams that are under way by a gateway when something is killed: the table of docs/gateway.md.

A sandbox has a request to the model and a download by the proxy under way, each of EVENTS parts. In the middle of them
something happens. It is counted what arrived, and for how long nothing went afterwards; and whether every request that
the provider got is in the account of the sandbox's budget.
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker.errors import APIError
from dockerkit import furnish
from enginekit import own
from fault_place import Made, Place, fault_place, ready
from requests.exceptions import RequestException
from slow_provider import ADDRESS, EVENTS, PORT, TICK, slow_provider_on

from claude_sandbox.gateway.budget.ledger import Account, loads
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

NAME = "slow.example.org"
BODY = '{"model":"claude-test-1","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"ping"}]}'
HEAD = f"""printf 'POST /v1/messages HTTP/1.1\\r\\nHost: claude-sandbox-gateway:8080\\r\\nConnection: close\\r\\n'
printf 'x-api-key: %s\\r\\nContent-Type: application/json\\r\\n' "$(cat /run/claude-sandbox/api-key/api-key)"
printf 'Content-Length: {len(BODY)}\\r\\n\\r\\n%s' '{BODY}'"""
# Half a connection is none to the broker.
ASK = f"{{ {HEAD}\nsleep {EVENTS * TICK * 2:.0f}; }} | nc -w 20 claude-sandbox-gateway 8080"
LOAD = f"wget -q -O - http://{NAME}:{PORT}/"
PROBE = f"{{ {HEAD}\nsleep 1; }} | nc -w 2 claude-sandbox-gateway 8080 | head -n 1"
BROKERED = {
    "credentials": {"apiKeySecretRef": {"name": "streams"}, "delivery": "Brokered"},
    "network": {"egress": {"allowedDomains": [f"{NAME}:{PORT}"]}},
    "budget": {"maxOutputTokens": 10**9},
}


@pytest.fixture(scope="module")
def own_host(engine_release: str, state_home: Path, stand_in_image: ImageArchive) -> Iterator[EngineDescription]:
    """An engine that no other test has."""
    name = own(f"streams-{engine_release.replace('.', '-')}")
    try:
        made = engine.up(name, engine_release, say=print)
        furnish(made, stand_in_image)
        yield made
    finally:
        engine.down(name, print)


@pytest.fixture
async def place(control_plane: Cluster, own_host: EngineDescription, tmp_path: Path) -> AsyncIterator[Place]:
    with slow_provider_on(own_host, tmp_path) as url:
        settings = tmp_path / "gateways.json"
        egress = {"privateNetworks": [f"{ADDRESS}/32"], "hosts": {NAME: [ADDRESS]}}
        settings.write_text(json.dumps({"provider": {"baseURL": url}, "egress": egress}))
        async with fault_place(control_plane, own_host, tmp_path / "log", f"--gateway-settings={settings}") as made:
            yield made


def gateway_killed(place: Place, made: Made) -> None:
    place.sdk.api.kill(_gateway(made))


def gateway_stopped(place: Place, made: Made) -> None:
    # As `docker stop` does it: it is told, and ended ten seconds later.
    place.sdk.api.stop(_gateway(made))


def operator_killed(place: Place, made: Made) -> None:
    place.operator.stop(signal.SIGKILL)
    place.relay.cut()


def engine_killed(place: Place, made: Made) -> None:
    engine.kill(place.host)


def engine_stopped(place: Place, made: Made) -> None:
    engine.stop(place.host)


async def key_renewed(place: Place, made: Made) -> None:
    await place.renew_key(made)


async def list_changed(place: Place, made: Made) -> None:
    egress = {"allowedDomains": [f"{NAME}:{PORT}", "pypi.org"]}
    await place.change(made, network={"egress": egress})


async def name_withdrawn(place: Place, made: Made) -> None:
    await place.change(made, network={"egress": {"allowedDomains": ["pypi.org"]}})


Happens = Callable[[Place, Made], Awaitable[None] | None]


@dataclass(frozen=True)
class Loss:
    """How many parts arrived, and for how many seconds no request was answered after it happened."""

    streamed: int
    loaded: int
    silent: float


@pytest.mark.parametrize(
    ("happens", "streamed", "loaded"),
    [
        (gateway_killed, False, False),
        (gateway_stopped, True, True),
        (operator_killed, True, True),
        (engine_killed, False, False),
        (engine_stopped, False, False),
        (key_renewed, True, True),
        (list_changed, True, True),
        (name_withdrawn, True, False),
    ],
)
async def test_what_is_lost(place: Place, happens: Happens, streamed: bool, loaded: bool, tmp_path: Path) -> None:
    made = await place.create("streams", **BROKERED)
    assert not (why := await place.is_told(made, ready)), why
    for script, file in ((ASK, "streamed"), (LOAD, "loaded")):
        _in_background(made, script, file)
    await asyncio.sleep(EVENTS * TICK / 3)
    began = time.monotonic()
    found = await asyncio.to_thread(happens, place, made)
    if found is not None:
        await found
    if happens is not operator_killed:
        await _back(place, happens)
    while not await asyncio.to_thread(_answers, made):
        assert time.monotonic() < began + 120
        await asyncio.sleep(0.2)
    silent = time.monotonic() - began
    if happens is operator_killed:
        # It is needed by nobody meanwhile.
        await _back(place, happens)
    await asyncio.sleep(max(0.0, EVENTS * TICK * 2 - silent) + 1)
    assert not (why := await place.is_told(made, ready)), why
    loss = Loss(_count(made, "streamed", '"n":'), _count(made, "loaded", "line "), round(silent, 1))
    print(f"\n{happens.__name__} on {place.host.release}: {loss}, of {EVENTS}")
    assert (loss.streamed == EVENTS, loss.loaded == EVENTS) == (streamed, loaded), loss
    # What was received before it happened was received.
    assert min(loss.streamed, loss.loaded) > EVENTS / 6
    account = _account(place)
    counted = sum(one.requests for one in account.models.values()) + account.lost + len(account.reserved)
    assert counted >= (tmp_path / "slow-provider.log").read_text().count("asked")
    # A gateway that was not killed itself has counted what was broken off by what had come of it.
    assert account.lost == int(happens is gateway_killed)


def _account(place: Place) -> Account:
    """Of the only sandbox, as it is on the engine's disk."""
    (file,) = (place.host.data_root / "volumes").glob("*-accounts/_data/*.json")
    return loads(json.dumps(json.loads(file.read_text())["account"]))


def _gateway(made: Made) -> str:
    (name,) = (one for one in made.left["containers"] if one.endswith("-gateway"))
    return name


def _in_background(made: Made, script: str, file: str) -> None:
    # Into a file: who starts it may be ended meanwhile, and so may the engine.
    run_inside(
        made.place.sdk.api, _container(made), "/bin/sh", "-c", f"({script}) >/workspace/{file} 2>&1 </dev/null &"
    )


def _container(made: Made) -> str:
    live = made.container
    assert live is not None
    return str(live["Id"])


def _answers(made: Made) -> bool:
    try:
        return "200 OK" in run_inside(made.place.sdk.api, _container(made), "/bin/sh", "-c", PROBE)[1]
    except (APIError, RequestException, AssertionError, OSError):
        return False


def _count(made: Made, file: str, what: str) -> int:
    read = made.read(_container(made), f"/workspace/{file}")
    return read[0].decode().count(what) if read is not None else 0


async def _back(place: Place, happened: Happens) -> None:
    if happened is operator_killed:
        place.operator.start()
        await place.operator.is_ready()
    elif happened in (engine_killed, engine_stopped):
        await asyncio.to_thread(engine.start, place.host)
