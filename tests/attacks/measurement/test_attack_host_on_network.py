"""An internal network on which the host itself has an address: what listens on the host answers the agent.

Gained before: a page that the host serves was read from a container whose NET-08 passed. Closed by one rule about who
keeps the host off a bridge (`compliance/containers/networks.py`), by which the operator also judges its own networks.
"""

from dataclasses import replace
from typing import Any

import pytest
from compliant_container import changed, compliant
from docker_world import NEW, desired_of, recorded

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker import drift
from claude_sandbox.compliance.containers.networks import GATEWAY_MODE, GATEWAY_MODE_6, INHIBIT, host_address

INTERNAL: dict[str, Any] = {"Driver": "bridge", "Internal": True, "EnableIPv4": True, "EnableIPv6": False}
OLD: dict[str, Any] = {"Driver": "bridge", "Internal": True, "EnableIPv6": False}
ISOLATED, BOTH = {GATEWAY_MODE: "isolated"}, {GATEWAY_MODE: "isolated", GATEWAY_MODE_6: "isolated"}

# The document, whether the engine is known to know the mode `isolated`, and whether the host has an address.
CASES: dict[str, tuple[dict[str, Any], bool | None, bool | None]] = {
    "internal, and nothing else": (INTERNAL | {"Options": {}}, None, True),
    "no options at all": (INTERNAL | {"Options": None}, None, True),
    "another option": (INTERNAL | {"Options": {"com.docker.network.bridge.enable_icc": "false"}}, None, True),
    "another mode": (INTERNAL | {"Options": {GATEWAY_MODE: "nat"}}, True, True),
    "inhibited": (INTERNAL | {"Options": {INHIBIT: "true"}}, None, False),
    "inhibited, as the engine also reads it": (INTERNAL | {"Options": {INHIBIT: "1"}}, None, False),
    "not inhibited": (INTERNAL | {"Options": {INHIBIT: "false"}}, None, True),
    "no word that the engine reads": (INTERNAL | {"Options": {INHIBIT: "yes"}}, None, True),
    "isolated": (INTERNAL | {"Options": ISOLATED}, None, False),
    "isolated on an engine that ignores it": (OLD | {"Options": ISOLATED}, False, True),
    "isolated on an engine that may ignore it": (OLD | {"Options": ISOLATED}, None, None),
    "isolated on an engine that was asked": (OLD | {"Options": ISOLATED}, True, False),
    "an address of IPv6": (INTERNAL | {"EnableIPv6": True, "Options": ISOLATED}, None, True),
    "IPv6 beside what inhibits IPv4": (OLD | {"EnableIPv6": True, "Options": {INHIBIT: "true"}}, None, True),
    "isolated both ways": (INTERNAL | {"EnableIPv6": True, "Options": BOTH}, None, False),
    "IPv6 alone": (INTERNAL | {"EnableIPv4": False, "EnableIPv6": True, "Options": ISOLATED}, None, True),
    "whether it has IPv6 not told": ({"Driver": "bridge", "Options": {INHIBIT: "true"}}, None, None),
    "options not told": (INTERNAL | {"Options": "none"}, None, None),
    "another driver": (INTERNAL | {"Driver": "overlay", "Options": {}}, None, None),
    "no driver told": ({"Internal": True, "Options": {INHIBIT: "true"}}, None, None),
    "on a device of its own": (INTERNAL | {"Driver": "macvlan", "Options": {}}, None, False),
}  # fmt: skip


@pytest.mark.parametrize(("network", "isolates", "on_it"), CASES.values(), ids=CASES)
def test_whether_the_host_is_on_a_network(network: dict[str, Any], isolates: bool | None, on_it: bool | None) -> None:
    assert host_address(network, isolates=isolates) is on_it


@pytest.mark.parametrize(("network", "isolates", "on_it"), CASES.values(), ids=CASES)
def test_no_network_passes_on_which_the_host_may_be(
    network: dict[str, Any], isolates: bool | None, on_it: bool | None
) -> None:
    world = compliant()
    world.isolates = isolates
    for field in ("Driver", "EnableIPv4", "EnableIPv6", "Options"):
        world.networks[0].pop(field, None)
    world.networks[0].update(network)
    result = {True: Result.FAIL, None: Result.UNKNOWN, False: Result.PASS}[on_it]
    # Who else is on the network is not told where its options are not.
    assert world.results()["NET-08"] is result


def test_a_device_of_the_hosts_leads_to_its_neighbours() -> None:
    world = changed(lambda world: world.networks[0].update(Driver="macvlan", Options={"parent": "eth0"}))
    assert world.results()["NET-08"] is Result.FAIL


def test_one_by_another_name_on_the_default_bridge_has_the_host_on_it() -> None:
    world = changed(lambda world: world.networks[0]["Options"].update({"com.docker.network.bridge.name": "docker0"}))
    assert world.results()["NET-08"] is Result.FAIL
    world.networks[0]["Options"]["com.docker.network.bridge.name"] = "br-lab"
    assert world.results()["NET-08"] is Result.PASS


@pytest.mark.parametrize(("release", "option"), [("29", GATEWAY_MODE), ("20.10", INHIBIT)])
def test_the_operators_own_networks_are_judged_alike(release: str, option: str) -> None:
    network = recorded(release)["network"]
    isolates = release == "29"
    assert host_address(network, isolates=isolates) is False
    del network["Options"][option]
    assert host_address(network, isolates=isolates) is True


def test_a_network_is_made_anew_on_an_engine_that_went_back_to_ignoring_how_it_was_made() -> None:
    network, older = recorded("29")["network"], desired_of(replace(NEW, api=(1, 47)))
    assert drift.network_differences(older.documents.network, network)
    assert not drift.network_differences(desired_of(NEW).documents.network, network)


@pytest.mark.parametrize(
    ("version", "knows"),
    [("29.8.0", True), ("28.0.0-rc.1", True), ("27.5.1", False), ("20.10.24+dfsg1", False), ("", None)],
)
def test_what_an_engine_does_is_told_by_its_version_whatever_is_spoken_with_it(
    version: str, knows: bool | None
) -> None:
    assert replace(NEW, version=version, api=(1, 45)).knows_isolated is knows
