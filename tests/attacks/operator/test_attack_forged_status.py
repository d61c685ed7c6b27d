"""A status says what somebody wrote into it, and the operator acts upon it.

Gained before: the port of the host that a status told was asked for again without a look at `spec.publishPorts`, so
that a sandbox could stand in for any service of the host; and a placement that was changed left the container where it
was, looked after by nobody. Closed by believing of a status only what the engine was seen to have or the sandbox may
ask for by itself (`backends/docker/relay/relays.py`), and by holding to the placement that the operator stored
(`controller/sandboxes/docker.py`).
"""

from typing import Any

import pytest

from claude_sandbox.backends.docker.relay.relays import Publishing, believed
from claude_sandbox.blueprint.model import Port
from claude_sandbox.controller.sandboxes.placements import Placements
from claude_sandbox.controller.sandboxes.store import Key

HTTP = Port("http", 8080, "127.0.0.1")
GIVEN = Publishing(None, (), (30000, 32767))


@pytest.mark.parametrize(
    ("told", "seen", "is_believed"),
    [
        # The engine has chosen it, as was seen.
        ("127.0.0.1:49153", "127.0.0.1:49153", True),
        # The sandbox might have chosen it.
        ("127.0.0.1:30080", None, True),
        ("127.0.0.1:22", None, False),
        ("127.0.0.1:8080", "127.0.0.1:49153", False),
        ("127.0.0.1:49153", None, False),
        ("0.0.0.0:30080", None, False),
        ("192.0.2.7:30080", None, False),
        ("127.0.0.1:030080", None, False),
        ("127.0.0.1:", None, False),
        ("127.0.0.1:²", None, False),
        pytest.param("127.0.0.1:" + "3" * 5000, None, False, id="too long to be read"),
        ("nonsense", None, False),
    ],
)
def test_of_a_told_port_only_what_was_seen_or_may_be_asked_for_is_believed(
    told: str, seen: str | None, is_believed: bool
) -> None:
    found = believed((HTTP,), {"http": told, "other": told}, {"http": seen} if seen else {}, GIVEN)
    assert found == ({"http": told} if is_believed else {})


def test_of_another_range_another_port_is_believed() -> None:
    assert not believed((HTTP,), {"http": "127.0.0.1:30080"}, {}, Publishing(None, (), (31000, 32000)))


def placed(host: str | None, uid: str = "1") -> dict[str, Any]:
    """A sandbox whose status tells that it is on a host, or on none."""
    status = {"placement": {"host": host, "engineId": f"engine of {host}"}} if host else {}
    return {"metadata": {"namespace": "agents", "name": "alice", "uid": uid}, "status": status}


def test_a_placement_that_somebody_wrote_is_not_the_one_that_was_stored() -> None:
    found = Placements()
    found.learn(placed("a"))
    for told in ("b", "nowhere", None, "a"):
        stored = found.stored(placed(told))
        assert stored is not None
        assert (stored.host, stored.engine_id) == ("a", "engine of a")
    # Another sandbox of the name has one of its own, and what nothing is known of is taken as it is told.
    assert found.stored(placed(None, "2")) is None
    found.forget(Key("agents", "alice"))
    told_now = found.stored(placed("b"))
    assert told_now is not None
    assert told_now.host == "b"
