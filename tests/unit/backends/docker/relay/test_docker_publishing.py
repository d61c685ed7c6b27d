"""Which declared ports may be published on a Docker host, and what is said of the others."""

import pytest

from claude_sandbox.backends.docker.relay.relays import Publishing, refusals
from claude_sandbox.blueprint.model import Image, Port

IMAGE = Image("relay:1", None, "Never")


@pytest.mark.parametrize("number", [None, 30000, 32767])
def test_a_port_may_be_chosen_among_those_that_are_kept_for_it(number: int | None) -> None:
    port = Port("http", 8080, host_port=number)
    assert Publishing(IMAGE).permits(port)
    assert refusals([port], Publishing(IMAGE)) == ""


@pytest.mark.parametrize("number", [1024, 5432, 29999, 32768, 65535])
def test_any_other_could_stand_in_for_a_service_of_the_host(number: int) -> None:
    port = Port("http", 8080, host_port=number)
    assert not Publishing(IMAGE).permits(port)
    said = refusals([port, Port("other", 8081)], Publishing(IMAGE))
    for part in (f"http ({number})", "30000 to 32767", "spec.network.ports[].hostPort", "spec.publishPorts"):
        assert part in said
    assert "other" not in said
    assert Publishing(IMAGE, ports=(number, number)).permits(port)


def test_an_address_and_a_number_are_told_of_together() -> None:
    port = Port("http", 8080, "192.0.2.7", 80)
    said = refusals([port], Publishing(IMAGE))
    assert "http (192.0.2.7)" in said
    assert "http (80)" in said
    assert not Publishing(IMAGE, ("192.0.2.7",)).permits(port)
    assert not Publishing(IMAGE, ports=(80, 80)).permits(port)
    assert Publishing(IMAGE, ("192.0.2.7",), (80, 80)).permits(port)
