"""An engine's way out of its network: there where it was asked for, and gone with the engine."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import traces
from docker.models.containers import Container
from enginekit import client, hardened, isolated_network, own, packet_filter, ready
from nodekit import report

from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine.places import EngineNames, Places
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.engine


@pytest.fixture
def name(may_have_engines: None, state_home: Path) -> Iterator[str]:
    chosen = own("tests-outside")
    yield chosen
    engine.down(chosen, report)


@contextlib.contextmanager
def _listening(host: str) -> Iterator[int]:
    """A server of the machine that greets whoever connects."""
    with socket.create_server((host, 0)) as server:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connected, _ = server.accept()
                    with connected:
                        connected.sendall(b"welcome\n")

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _reaches(container: Container, host: str, port: int) -> bool:
    _, answer = run_inside(container.client.api, container.id, "sh", "-c", f"timeout 3 nc {host} {port} </dev/null")
    return "welcome" in answer


def test_containers_get_out_where_they_may_and_nothing_is_left_of_the_way(
    name: str, engine_release: str, tiny_image: ImageArchive
) -> None:
    places = Places.of(name)
    before, rules = traces.of_machine(places), packet_filter()
    made = ready(name, engine_release, tiny_image, outside=True)
    assert made.gateway_ip is not None
    with _listening(made.gateway_ip) as port, client(made) as connected:
        free = hardened(connected, tiny_image.reference)
        assert _reaches(free, made.gateway_ip, port)
        connected.networks.create("inside", internal=True, options=isolated_network(made))
        shut_in = hardened(connected, tiny_image.reference, network="inside")
        assert not _reaches(shut_in, made.gateway_ip, port)
    assert engine.up(name, outside=True, say=report) == made
    assert engine.down(name, report)
    assert traces.of_machine(places) == before
    assert packet_filter() == rules


def test_a_way_out_that_is_not_asked_for_any_more_is_closed(name: str, tiny_image: ImageArchive) -> None:
    places, rules = Places.of(name), packet_filter()
    link = f"interface {EngineNames.of(places).link}"
    ready(name, "29", tiny_image, outside=True)
    assert link in traces.of_machine(places)
    assert packet_filter() != rules
    assert engine.up(name, say=report).gateway_ip is not None
    made = engine.up(name, outside=False, say=report)
    assert made.gateway_ip is None
    assert link not in traces.of_machine(places)
    assert packet_filter() == rules
