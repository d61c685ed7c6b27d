"""Every fault that somebody with the engine's socket can cause, at every call of every phase of a sandbox's life.

The operator is a process; its calls to the engine go through a relay. When the k-th call of a sandbox that changes
anything comes by, it is held, the fault is done to the engine, and the call goes on: the operator acts upon what it saw
before. Sandboxes are many at a time, each with a fault of its own. Of each it is asked that it comes to what its spec
says, and that nothing is left in the end; of the engine's own events, that none ever ran where it should not.

Once for sandboxes without ports, once for those with a port, which a relay publishes, and once for those with a
gateway, of which it is asked besides that a request with the placeholder comes to the provider with the key.

All of it is slow (`-m "engine and slow"`): once a share of the pairs of a fault and a phase for each engine, with one
call chosen for each pair (by SEED), and once all faults at all calls. In each run are the faults of
test_docker_faults.py and an operator that is killed at calls (test_docker_interrupted.py).
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fault_matrix import (
    OF_GATEWAY,
    OF_RELAY,
    OF_SANDBOX,
    Kind,
    at_each_call,
    in_each_phase,
    kill,
    remove,
    remove_all,
    remove_network,
)
from fault_place import GATEWAY_PHASES, PHASES, PORT_PHASES, Place, fault_place
from slow_provider import ADDRESS, slow_provider_on

from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

PLAIN = Kind("plain", OF_SANDBOX, PHASES)
# Of what befalls the sandbox itself, that which befalls the relay as well.
PORTS = Kind("ports", (*OF_RELAY, kill, remove, remove_network, remove_all), PORT_PHASES)
BROKERED = Kind("brokered", (*OF_GATEWAY, kill, remove, remove_network, remove_all), GATEWAY_PHASES)
each_kind = pytest.mark.parametrize("kind", [PLAIN, PORTS, BROKERED], ids=lambda kind: kind.name)


@pytest.fixture
async def place(
    control_plane: Cluster, host: EngineDescription, relay_image: Image, tmp_path: Path
) -> AsyncIterator[Place]:
    with slow_provider_on(host, tmp_path) as url:
        settings = tmp_path / "gateways.json"
        settings.write_text(
            json.dumps({"provider": {"baseURL": url}, "egress": {"privateNetworks": [f"{ADDRESS}/32"]}})
        )
        async with fault_place(control_plane, host, tmp_path / "log", f"--gateway-settings={settings}") as made:
            yield made


async def test_each_fault_in_each_phase(place: Place) -> None:
    await in_each_phase(place, PLAIN)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", [PORTS, BROKERED], ids=lambda kind: kind.name)
async def test_each_fault_of_what_stands_beside_it_in_each_phase(place: Place, kind: Kind) -> None:
    await in_each_phase(place, kind)


@pytest.mark.timeout(7200)
@each_kind
async def test_each_fault_at_each_call_of_each_phase(place: Place, kind: Kind) -> None:
    await at_each_call(place, kind)
