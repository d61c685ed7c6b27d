"""A gateway where Services have addresses of IPv6, and pods those of IPv6 alone or of both families.

The API server and its controllers are real, and give Services their addresses. Nothing runs in the pods, so what is
shown is what the operator makes of a cluster's addresses, and not that a packet arrives.
"""

import os
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from uuid import UUID

import pytest
from gateway_place import define
from kubelet import Kubelet
from prepared import prepare
from world import BROKERED, WITH_GATEWAYS, World
from worlds import Worlds

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.localcluster import cluster, network
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

SERVICES = "fd00:10:96::/112"
ABOUT_GATEWAYS = {"ID-04", "NET-06", "NET-12", "NET-13", "SEC-05"}


@pytest.fixture(scope="module")
def ground(state_home: Path) -> Iterator[Cluster]:
    """A cluster of both families, of which IPv6 is the first: Services that ask for nothing get that."""
    name = f"tests-ipv6-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "SERVICE_CIDR", f"{SERVICES},{network.SERVICE_CIDR}")
        try:
            made = cluster.up(name, controllers=True, fsync=False, report=print)
            prepare(made)
            yield made
        finally:
            cluster.down(name, print)


def six(uid: UUID) -> str:
    return str(IPv6Address(0xFD << 120 | int(uid) % 2**64))


def four(uid: UUID) -> str:
    return str(IPv4Address(10 << 24 | int(uid) % 2**24))


@pytest.fixture
async def world(worlds: Worlds, api: Api) -> World:
    await define(api, r.USAGES)
    return await worlds(gateways=True)


@pytest.mark.parametrize("families", [(six,), (six, four)], ids=["IPv6 alone", "both"])
async def test_a_sandbox_knows_its_gateway_and_is_known_by_its_addresses(
    world: World, kubelet: Kubelet, families: tuple[Callable[[UUID], str], ...]
) -> None:
    kubelet.addresses = lambda uid: tuple(family(uid) for family in families)
    await world.operator(WITH_GATEWAYS).start()
    await world.create("alice", **BROKERED)
    found = await world.ready("alice")
    pod, service = world.child(r.PODS, "alice"), world.ledger.get(r.SERVICES, meta.GATEWAY)
    assert pod is not None
    assert service is not None
    address = service["spec"]["clusterIP"]
    assert IPv6Address(address) in IPv6Network(SERVICES)
    assert [alias["ip"] for alias in pod["spec"]["hostAliases"]] == [address]
    addresses = [family(UUID(pod["metadata"]["uid"])) for family in families]
    assert found["status"]["workload"]["addresses"] == addresses
    controls = found["status"]["compliance"]["controls"]
    assert {one["id"]: one.get("message") for one in controls if one["id"] in ABOUT_GATEWAYS} == {}

    # Made anew, it has the address that running sandboxes know.
    await world.delete(meta.GATEWAY, r.SERVICES)
    await world.healed("alice", 0)
    again = world.ledger.get(r.SERVICES, meta.GATEWAY)
    assert again is not None
    assert (again["spec"]["clusterIP"], again["spec"]["ipFamilies"]) == (address, ["IPv6"])
    world.assert_always_isolated()
