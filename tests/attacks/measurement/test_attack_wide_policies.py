"""A pod's NetworkPolicies let it speak with nearly everybody, without any one rule that says so.

`check pod` passed NET-02 and NET-11 for a pod whose policies let it into every private network, or let in the pods of
all namespaces but one that does not exist. Closed by judging what rules let through instead of how they are written:
parts are added up, an expression bounds something only if it lists values or asks for a label, and private, link-local
and metadata addresses are let through only where `--open-private-network` declares them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from answering_server import serving, with_pod
from click.testing import CliRunner
from compliant_sandbox import compliant

from claude_sandbox.api.spec import Profile
from claude_sandbox.cli.check.command import check
from claude_sandbox.compliance.catalogue import undeclared_pod_controls
from claude_sandbox.compliance.pods.undeclared import Declarations, expected
from claude_sandbox.compliance.reports.pods import findings

Json = dict[str, Any]


def _results(direction: str, peers: list[Json], *opened: str) -> dict[str, str]:
    world = compliant()
    where = "to" if direction == "egress" else "from"
    world.policies = [
        {"metadata": {"name": "own"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
        {
            "metadata": {"name": "added"},
            "spec": {"podSelector": {}, direction: [{where: peers, "ports": [{"port": 443}]}]},
        },
    ]
    world.expected = expected(world.pod, (), Profile.DEVELOPMENT)
    found = findings(world.evidence(), undeclared_pod_controls(Declarations(opened=opened)))
    return {one.control.id: str(one.result) for one in found}


def test_the_command_judges_so(tmp_path: Path) -> None:
    cluster = with_pod()
    peers = _blocks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    cluster.policies.append({"metadata": {"name": "added"}, "spec": {"podSelector": {}, "egress": [{"to": peers}]}})
    with serving(cluster, tmp_path) as kubeconfig:
        arguments = ["pod", "agents/bob", "--kubeconfig", kubeconfig, "-o", "json"]
        [closed] = json.loads(CliRunner().invoke(check, arguments).stdout)
        opened = [part for peer in peers for part in ("--open-private-network", peer["ipBlock"]["cidr"])]
        [open_] = json.loads(CliRunner().invoke(check, [*arguments, *opened]).stdout)
    for report, result in ((closed, "Fail"), (open_, "Pass")):
        assert {one["id"]: one["result"] for one in report["controls"]}["NET-02"] == result


def _blocks(*cidrs: str) -> list[Json]:
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]


def _namespaces(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


NAME = "kubernetes.io/metadata.name"

ANYONE = {
    "all namespaces": [{"namespaceSelector": {}}],
    "all pods of all namespaces": [{"namespaceSelector": {}, "podSelector": {}}],
    "namespaces that have a name": [{"namespaceSelector": _namespaces(NAME, "Exists")}],
    "all namespaces but one": [{"namespaceSelector": _namespaces(NAME, "NotIn", "nowhere")}],
    "all namespaces but many": [{"namespaceSelector": _namespaces(NAME, "NotIn", *(f"n{n}" for n in range(50)))}],
    "namespaces without a label": [{"namespaceSelector": _namespaces("nobody-has-it", "DoesNotExist")}],
    "namespaces without a value": [{"namespaceSelector": _namespaces("team", "NotIn", "x")}],
    "several that bound nothing": [
        {
            "namespaceSelector": {
                "matchExpressions": [
                    {"key": NAME, "operator": "Exists"},
                    {"key": "a", "operator": "DoesNotExist"},
                    {"key": "b", "operator": "NotIn", "values": ["c"]},
                ]
            }
        }
    ],
    "pods by what they lack": [{"namespaceSelector": {}, "podSelector": _namespaces("x", "DoesNotExist")}],
    "pods by what they are not": [{"namespaceSelector": {}, "podSelector": _namespaces("x", "NotIn", "y")}],
    "pods with any value": [{"namespaceSelector": {}, "podSelector": _namespaces("app", "Exists")}],
    "labelled and not": [
        {"namespaceSelector": _namespaces("team", "Exists")},
        {"namespaceSelector": _namespaces("team", "DoesNotExist")},
    ],
    "namespaces with what a distribution gives all": [
        {"namespaceSelector": _namespaces("field.cattle.io/projectId", "Exists")}
    ],
    "namespaces that are judged at all": [
        {"namespaceSelector": _namespaces("pod-security.kubernetes.io/enforce", "Exists")}
    ],
    "namespaces of every level": [
        {
            "namespaceSelector": _namespaces(
                "pod-security.kubernetes.io/enforce", "In", "privileged", "baseline", "restricted"
            )
        }
    ],
    "a part of the Internet by NAT64": _blocks("64:ff9b::1400:0/102"),
    "halves of the Internet": _blocks("0.0.0.0/1", "128.0.0.0/1"),
    "all of it by first octets": _blocks(*(f"{first}.0.0.0/8" for first in range(1, 224))),
    "every other first octet": _blocks(*(f"{first}.0.0.0/8" for first in range(20, 90, 2))),
    "with holes": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
    "ranges side by side": _blocks("20.128.0.0/9", "21.0.0.0/8", "22.0.0.0/9"),
    "all of IPv6 in parts": _blocks(*(f"{first:x}00::/8" for first in range(0x20, 0x40))),
}

BOUNDED = {
    "a namespace by name": [{"namespaceSelector": {"matchLabels": {NAME: "databases"}}}],
    "namespaces by name": [{"namespaceSelector": _namespaces(NAME, "In", "a", "b")}],
    "namespaces of two levels": [
        {"namespaceSelector": _namespaces("pod-security.kubernetes.io/enforce", "In", "baseline", "restricted")}
    ],
    "an address by NAT64": _blocks("64:ff9b::a04f:6800/119"),
    "namespaces of a team": [{"namespaceSelector": _namespaces("team", "Exists")}],
    "pods of its own namespace": [{"podSelector": {}}],
    "the resolver": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "a network": _blocks("160.79.104.0/23", "2607:6bc0::/48"),
}

PRIVATE = {
    "private networks": _blocks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "one of them": _blocks("192.168.0.0/16"),
    "unique local addresses": _blocks("fd00::/16"),
    "one of them, mapped": _blocks("::ffff:10.0.0.0/104"),
    "one of them by NAT64": _blocks("64:ff9b::a00:0/104"),
    "one of them in halves": _blocks("10.5.0.0/17", "10.5.128.0/17"),
    "as much, strewn": _blocks(*(f"10.{second}.0.0/17" for second in range(0, 16, 2))),
}

SPECIAL = {
    "shared address space in parts": _blocks("100.64.0.0/11", "100.96.0.0/11"),
    "one address": _blocks("10.1.2.3/32"),
    "metadata": _blocks("169.254.169.254/32"),
    "around metadata": _blocks("169.254.0.0/16"),
    "metadata of IPv6": _blocks("fd00:ec2::254/128"),
    "loopback": _blocks("127.0.0.1/32"),
    "private by NAT64": _blocks("64:ff9b::a00:0/104"),
    "metadata mapped": _blocks("::ffff:169.254.169.254/128"),
    "metadata by 6to4": _blocks("2002:a9fe:a9fe::/48"),
    "within another": _blocks("100.100.0.0/16"),
}


@pytest.mark.parametrize("peers", ANYONE.values(), ids=ANYONE)
@pytest.mark.parametrize(("direction", "control"), [("egress", "NET-02"), ("ingress", "NET-11")])
def test_nearly_everybody_is_no_destination(direction: str, control: str, peers: list[Json]) -> None:
    assert _results(direction, peers)[control] == "Fail"


@pytest.mark.parametrize("peers", BOUNDED.values(), ids=BOUNDED)
@pytest.mark.parametrize(("direction", "control"), [("egress", "NET-02"), ("ingress", "NET-11")])
def test_what_is_bounded_passes(direction: str, control: str, peers: list[Json]) -> None:
    assert _results(direction, peers)[control] == "Pass"


@pytest.mark.parametrize("peers", [*PRIVATE.values(), *SPECIAL.values()], ids=[*PRIVATE, *SPECIAL])
def test_private_and_special_addresses_are_none_to_connect_to(peers: list[Json]) -> None:
    assert _results("egress", peers)["NET-02"] == "Fail"


@pytest.mark.parametrize("peers", PRIVATE.values(), ids=PRIVATE)
def test_a_whole_private_network_is_everybody_in_it(peers: list[Json]) -> None:
    assert _results("ingress", peers)["NET-11"] == "Fail"


def test_some_places_in_it_are_not() -> None:
    for few in ("10.1.2.3/32",), ("::ffff:10.1.2.3/128",), tuple(f"10.{second}.0.0/24" for second in range(0, 64, 2)):
        assert _results("ingress", _blocks(*few))["NET-11"] == "Pass"


def test_a_private_network_can_be_declared_and_no_more_than_it() -> None:
    opened = ("10.1.0.0/16",)
    assert _results("egress", _blocks("10.1.2.0/24"), *opened)["NET-02"] == "Pass"
    assert _results("egress", _blocks("10.0.0.0/15"), *opened)["NET-02"] == "Fail"
    assert _results("egress", _blocks("169.254.169.254/32"), *opened)["NET-02"] == "Fail"


def test_a_network_that_can_t_be_read_is_not_taken_for_nothing() -> None:
    assert _results("egress", _blocks("nonsense"))["NET-02"] == "Fail"
    hidden = [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["nonsense", "11.0.0.0/8"]}}]
    assert _results("egress", hidden)["NET-02"] == "Fail"
