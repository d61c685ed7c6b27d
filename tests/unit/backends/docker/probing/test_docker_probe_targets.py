"""What is tried from a sandbox's place in the network on Docker, and what its answer says."""

import json
from dataclasses import replace
from typing import Any

import pytest
from docker_world import CLUSTER, IDENTITY, NEW, desired_of, live_of

from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.probing.container import document, unlike
from claude_sandbox.backends.docker.probing.report import question, report_of
from claude_sandbox.backends.docker.probing.targets import own_networks, place_of, targets, ways_out
from claude_sandbox.backends.probing.wanted import MisunderstoodError, Named, Wanted
from claude_sandbox.blueprint.model import Image
from claude_sandbox.compliance.evidence.probes import Expected, ProbeReport, Tried
from claude_sandbox.probe import VERSION, strict
from claude_sandbox.probe.kernel import ATTEMPTS

CALLED = names_of(CLUSTER, IDENTITY)
NETWORK = {"IPAM": {"Config": [{"Subnet": "10.9.0.0/28", "Gateway": "10.9.0.1"}]}, "Containers": {}}
OUTER = {"IPAM": {"Config": [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]}}
GATEWAY = {
    "Id": "9" * 64,
    "State": {"Running": True, "StartedAt": "2026-03-01T12:00:00Z"},
    "NetworkSettings": {
        "Networks": {CALLED.network: {"IPAddress": "10.9.0.3"}, CALLED.gateway: {"IPAddress": "172.20.0.2"}}
    },
}
CONTAINER: dict[str, Any] = dict(live_of(desired_of()).container or {})


def tried(*arguments: Any, **more: Any) -> dict[str, Wanted]:
    return {one.name: one for one in targets(CALLED, *arguments, **more)}


def test_a_sandbox_with_a_gateway_reaches_that_and_nothing_else() -> None:
    found = tried(NETWORK, GATEWAY, OUTER)
    assert [one.host for one in found.values() if one.expected is Expected.ALLOWED] == ["10.9.0.3"]
    assert found["its gateway's outer side"].host == "172.20.0.2"
    assert found["the host on its gateway's outer network"].host == "172.20.0.1"
    assert found["the host on the sandbox's own network"].host == "10.9.0.1"
    assert found["the metadata service at fd00:ec2::254"].port == 80


def test_to_the_internet_only_the_way_is_looked_up() -> None:
    public = [one for name, one in tried(NETWORK, None, None).items() if name.startswith("the Internet")]
    assert {one.protocol for one in public} == {"route"}
    assert len(public) == 2


def test_an_address_that_a_container_has_is_not_the_hosts() -> None:
    taken = {**NETWORK, "Containers": {"1": {"IPv4Address": "10.9.0.1/28"}}}
    assert "the host on the sandbox's own network" not in tried(taken, None, None)
    reserved = {"IPAM": {"Config": [{"Subnet": "10.9.0.0/28"}]}}
    assert tried(reserved, None, None)["the host on the sandbox's own network"].host == "10.9.0.1"


def test_one_other_sandbox_is_tried_and_what_administrators_name() -> None:
    found = tried(NETWORK, None, None, others=["10.9.0.5", "10.9.1.2", "10.9.2.2"], named=[Named("10.0.0.5", 443)])
    assert found["another sandbox of the host"].host == "10.9.1.2"
    assert found["10.0.0.5, port 443"].elsewhere


def test_routes_beyond_the_sandboxs_own_network_are_ways_out() -> None:
    own = own_networks(NETWORK)
    assert list(ways_out(["10.9.0.0/28 eth0", "fe80::/64 eth0", "ff00::/8 eth0"], own)) == []
    assert list(ways_out(["0.0.0.0/0 eth0 10.9.0.1", "10.9.0.0/16 eth0", "169.254.0.0/16 eth1"], own)) == [
        ("0.0.0.0/0 by eth0", "10.9.0.1"),
        ("10.9.0.0/16 by eth0", ""),
        ("169.254.0.0/16 by eth1", ""),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"Id": "5" * 64},
        {"State": {"Running": True, "StartedAt": "2026-03-01T13:00:00Z"}},
        {"NetworkSettings": {"Networks": {CALLED.network: {"NetworkID": "2" * 64}, "other": {"NetworkID": "3" * 64}}}},
        {"NetworkSettings": {"Networks": {CALLED.network: {"NetworkID": "4" * 64}}}},
    ],
    ids=["made anew", "started anew", "on another network too", "its network made anew"],
)
def test_what_changes_the_network_makes_another_place(change: dict[str, Any]) -> None:
    assert place_of(CONTAINER, GATEWAY) == place_of(dict(CONTAINER), dict(GATEWAY)) is not None
    assert place_of({**CONTAINER, **change}, GATEWAY) != place_of(CONTAINER, GATEWAY)


def test_another_gateway_makes_another_place_and_what_does_not_run_has_none() -> None:
    assert place_of(CONTAINER, {**GATEWAY, "Id": "8" * 64}) != place_of(CONTAINER, GATEWAY) != place_of(CONTAINER, None)
    assert place_of({**CONTAINER, "State": {"Running": False}}, None) is None


def test_the_container_that_probes_has_nothing_but_the_sandboxs_network() -> None:
    made = document(IDENTITY, CLUSTER, Image("example.org/operator:1", None, "Never"), CONTAINER, NEW)
    host = made["HostConfig"]
    assert host["NetworkMode"] == f"container:{CONTAINER['Id']}"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["ReadonlyRootfs"], host["Mounts"], host["AutoRemove"]) == (True, [], True)
    assert made["User"] not in ("0", "0:0", "", CONTAINER["Config"]["User"])
    assert made["Env"] == []


def test_it_is_confined_as_the_sandboxs_container_is_and_never_privileged() -> None:
    image, host = Image("example.org/operator:1", None, "Never"), CONTAINER["HostConfig"]
    loose = {"SecurityOpt": ["seccomp=unconfined"], "CapAdd": ["SYS_ADMIN"], "CapDrop": None}
    made = document(IDENTITY, CLUSTER, image, {**CONTAINER, "HostConfig": {**host, **loose}}, NEW)["HostConfig"]
    assert (made["SecurityOpt"], made["CapAdd"]) == (["seccomp=unconfined"], ["SYS_ADMIN"])
    for more in ({"Privileged": True}, {"Devices": [{"PathOnHost": "/dev/sda"}]}):
        sandbox = {**CONTAINER, "HostConfig": {**host, **loose, **more}}
        made = document(IDENTITY, CLUSTER, image, sandbox, NEW)["HostConfig"]
        assert unlike(sandbox)
        assert not {"Privileged", "Devices", "CapAdd"} & made.keys()
        assert made["SecurityOpt"] == ["no-new-privileges:true"]
    assert unlike(CONTAINER) == ""
    assert unlike({"Id": "7"})


WANTED = (
    Wanted("its gateway", "10.9.0.3", 8080, Expected.ALLOWED),
    Wanted("10.0.0.5, port 443", "10.0.0.5", 443, Expected.DENIED, elsewhere=True),
)


KERNEL = [{"name": name, "may": "denied", "error": "EPERM"} for name in ATTEMPTS]


def answer(**more: Any) -> bytes:
    attempts = [
        {"name": name, "outcome": outcome, "error": ""}
        for name, outcome in (("self", "connected"), ("0", "connected"), ("1", "timeout"))
    ]
    said = {"version": VERSION, "nonce": "n", "routes": ["10.9.0.0/28 eth0"], "attempts": attempts, "kernel": KERNEL}
    said["strict"] = []
    return json.dumps(said | more).encode()


def test_an_answer_says_what_came_of_each_target() -> None:
    asked = json.loads(question("n", WANTED, 5))
    assert [one["host"] for one in asked["targets"]] == ["10.9.0.3", "10.0.0.5"]
    found = report_of(answer(), "n", WANTED, own_networks(NETWORK), {"10.0.0.5, port 443": True})
    assert found.able
    assert found.ways == ()
    assert found.tried[1] == Tried("10.0.0.5, port 443", Expected.DENIED, "timeout", "", answers=True)
    assert replace(found.tried[0], name="").answers is None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"null",
        answer(nonce="another"),
        answer(version=VERSION + 1),
        answer(attempts=[]),
        answer(attempts=None),
        answer(attempts=[{"name": "self"}]),
        answer(routes=["nonsense"]),
        answer(routes=7),
        answer(kernel=None),
        answer(kernel=KERNEL[1:]),
        answer(kernel=[{**one, "may": "perhaps"} for one in KERNEL]),
        answer(strict=None),
        answer(strict=KERNEL[:1]),
    ],
)
def test_what_is_no_answer_to_this_question_is_none(said: bytes) -> None:
    with pytest.raises(MisunderstoodError):
        report_of(said, "n", WANTED, own_networks(NETWORK), {})


def test_what_strict_alone_refuses_is_told_where_it_is_asked_for() -> None:
    narrow = [{"name": name, "may": "possible", "error": ""} for name in strict.ATTEMPTS]
    found = report_of(answer(strict=narrow), "n", WANTED, own_networks(NETWORK), {}, strict=True)
    assert [(one.name, one.outcome) for one in found.strict] == [(name, "possible") for name in strict.ATTEMPTS]
    assert json.loads(question("n", WANTED, 5, strict=True))["strict"] is True
    with pytest.raises(MisunderstoodError):
        report_of(answer(), "n", WANTED, own_networks(NETWORK), {}, strict=True)


def test_routes_that_could_not_be_read_are_not_taken_for_none() -> None:
    assert report_of(answer(routes=None), "n", WANTED, own_networks(NETWORK), {}).ways is None


def test_a_route_by_an_address_that_nobody_has_leads_nowhere() -> None:
    """As Docker 20.10 gives one to the containers of an internal network."""
    host = Wanted("the host", "10.9.0.1", 22, Expected.SILENT)
    own = own_networks(NETWORK)
    routes = ["0.0.0.0/0 eth0 10.9.0.1", "10.9.0.0/28 eth0"]

    def told(outcome: str, *more: str) -> ProbeReport:
        attempts = [
            {"name": name, "outcome": came, "error": ""} for name, came in (("self", "connected"), ("0", outcome))
        ]
        said = {
            "version": VERSION,
            "nonce": "n",
            "routes": [*routes, *more],
            "attempts": attempts,
            "kernel": [],
            "strict": [],
        }
        return report_of(json.dumps(said).encode(), "n", (host,), own, {}, "it is not asked here")

    assert (told("unreachable").ways, told("unreachable").dead_end) == ((), True)
    # Somebody may have it, or it is not known.
    for outcome in ("timeout", "refused", "failed", "connected"):
        assert (told(outcome).ways, told(outcome).dead_end) == (("0.0.0.0/0 by eth0",), False)
    assert told("unreachable", "10.0.0.0/8 eth1").ways == ("10.0.0.0/8 by eth1",)
    assert told("unreachable", "10.0.0.0/8 eth1 10.9.0.2").ways == ("10.0.0.0/8 by eth1",)
