"""What NetworkPolicies allow together, against a reference that tries every rule on all traffic of a universe."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
import small_universe as universe
from hypothesis import given, settings
from hypothesis import strategies as st
from small_universe import OWN, POD, TRAFFIC, Traffic

from claude_sandbox.api.spec import Profile
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.pods.address_ranges import span, written
from claude_sandbox.compliance.pods.coverage import beyond, too_wide
from claude_sandbox.compliance.pods.declared_policies import declared_egress
from claude_sandbox.compliance.pods.policies import Allow, AnyPeer, Granted, IPBlock, PodPeer, union
from claude_sandbox.compliance.pods.selectors import Selector, matches

DIRECTIONS = ("ingress", "egress")


def selectors(
    labels: dict[str, tuple[str, ...]], presence: tuple[str, ...] = ("Exists", "DoesNotExist")
) -> st.SearchStrategy[dict[str, Any]]:
    """Label selectors with at most one requirement on each label, so that each can be met."""

    def requirement(key: str) -> st.SearchStrategy[dict[str, Any]]:
        some = st.lists(st.sampled_from(labels[key]), min_size=1, max_size=2, unique=True)
        return st.one_of(
            st.sampled_from(labels[key]).map(lambda value: {"matchLabels": {key: value}}),
            st.tuples(st.sampled_from(("In", "NotIn")), some).map(
                lambda pair: {"matchExpressions": [{"key": key, "operator": pair[0], "values": pair[1]}]}
            ),
            st.sampled_from(presence).map(lambda operator: {"matchExpressions": [{"key": key, "operator": operator}]}),
        )

    def merge(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
        return {
            "matchLabels": {key: value for part in parts for key, value in part.get("matchLabels", {}).items()},
            "matchExpressions": [one for part in parts for one in part.get("matchExpressions", [])],
        }

    optional = [st.just({}) | requirement(key) for key in labels]
    return st.just({}) | st.tuples(*optional).map(merge)


POD_SELECTORS = selectors({"k8s-app": ("kube-dns", "other"), "tier": ("x", "y")})
# By name or by team, and of the names only two, so that each selector selects some of the universe's namespaces.
NAMESPACE_SELECTORS = st.one_of(
    selectors({"kubernetes.io/metadata.name": (OWN, "kube-system")}, presence=("Exists",)),
    selectors({"team": ("t", "u")}),
)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    cidr = draw(st.sampled_from(universe.NETWORKS))
    inside = [
        one
        for one in universe.NETWORKS
        if one != cidr
        and ip_network(one).version == ip_network(cidr).version
        and ip_network(one).overlaps(ip_network(cidr))
        and ip_network(one).prefixlen > ip_network(cidr).prefixlen
    ]
    excepted = draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []
    return {"ipBlock": {"cidr": cidr, **({"except": excepted} if excepted else {})}}


PEERS = st.one_of(
    blocks(),
    st.fixed_dictionaries({"podSelector": POD_SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": NAMESPACE_SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": NAMESPACE_SELECTORS, "podSelector": POD_SELECTORS}),
)


@st.composite
def ports(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    protocol = draw(st.sampled_from(({}, {"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "SCTP"})))
    kind = draw(st.sampled_from(("all", "one", "one", "range", "name")))
    if kind == "name" and names:
        return {"protocol": "UDP", "port": draw(st.sampled_from(names))}
    if kind == "all":
        return {**protocol}
    first, last = sorted(draw(st.tuples(*[st.sampled_from(universe.PORTS)] * 2)))
    return {**protocol, "port": first, **({"endPort": last} if kind == "range" else {})}


@st.composite
def rules(draw: st.DrawFn, direction: str) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if draw(st.booleans()) or draw(st.booleans()):
        rule["from" if direction == "ingress" else "to"] = draw(st.lists(PEERS, max_size=2))
    # Addresses have no names for ports.
    addresses = any("ipBlock" in peer for peer in rule.get("to", ()))
    names = ("web", "none") if direction == "ingress" else () if addresses else ("dns",)
    if draw(st.booleans()) or draw(st.booleans()):
        rule["ports"] = draw(st.lists(ports(names), max_size=2))
    return rule


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "podSelector": draw(
            st.sampled_from(
                (
                    {},
                    {"matchLabels": {"sandbox": "alice"}},
                    {"matchLabels": {"sandbox": "bob"}},
                    {"matchExpressions": [{"key": "sandbox", "operator": "Exists"}]},
                    {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]},
                    {"matchLabels": {"sandbox": "alice"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
                )
            )
        )
    }
    types = draw(st.sampled_from((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"])))
    if types:
        spec["policyTypes"] = types
    for direction in DIRECTIONS:
        if draw(st.booleans()):
            spec[direction] = draw(st.lists(rules(direction), max_size=2))
    return {"metadata": {"name": draw(st.sampled_from("abc"))}, "spec": spec}


@given(st.lists(policies(), max_size=3))
@settings(deadline=None)
def test_the_union_allows_exactly_what_the_policies_allow(given_policies: list[dict[str, Any]]) -> None:
    effective = union(given_policies, POD)
    for direction in DIRECTIONS:
        granted = getattr(effective, direction)
        for traffic in TRAFFIC:
            mine = granted is None or any(permits(one.allow, direction, traffic) for one in granted)
            assert mine == universe.allowed(given_policies, direction, traffic), (direction, traffic)


@pytest.mark.parametrize("direction", DIRECTIONS)
@given(data=st.data())
@settings(deadline=None)
def test_nothing_that_was_not_declared_stays_unnoticed(direction: str, data: st.DataObject) -> None:
    live, declared = (_isolated(direction, data.draw(st.lists(rules(direction), max_size=2))) for _ in range(2))
    extra = beyond(_granted(direction, live), [one.allow for one in _granted(direction, declared)])
    if not extra:
        for traffic in TRAFFIC:
            assert not universe.allowed([live], direction, traffic) or universe.allowed([declared], direction, traffic)


@given(
    live=st.lists(rules("egress"), max_size=2),
    cidrs=st.lists(st.sampled_from(universe.NETWORKS), max_size=3, unique=True),
    dns=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_what_a_sandbox_declares_is_never_held_against_it(
    live: list[dict[str, Any]], cidrs: list[str], dns: bool
) -> None:
    """For declarations of a sandbox's shape the answer is exact: each complaint has traffic to show for it."""
    declared: list[dict[str, Any]] = [
        {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs], "ports": [{"port": 443}, {"port": 8080}]}
    ] * bool(cidrs)
    if dns:
        peer = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
        declared.append({"to": [peer], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]})
    wanted = _isolated("egress", declared)
    for one in beyond(_granted("egress", _isolated("egress", live)), declared_egress(_expected(cidrs, dns), "agents")):
        assert any(
            permits(one.allow, "egress", traffic) and not universe.allowed([wanted], "egress", traffic)
            for traffic in TRAFFIC
        ), str(one)


@given(POD_SELECTORS, POD_SELECTORS)
def test_a_selector_is_within_another_when_it_selects_nothing_more(one: dict[str, Any], other: dict[str, Any]) -> None:
    everything = [
        {key: value for key, value in (("k8s-app", app), ("tier", tier)) if value}
        for app in ("", "kube-dns", "other", "third")
        for tier in ("", "x", "y", "z")
    ]
    more = [labels for labels in everything if matches(one, labels) and not matches(other, labels)]
    if Selector.parse(one).within(Selector.parse(other)):
        assert not more
    else:
        assert more


_TCP_443, _UDP_443 = {"port": 443}, {"protocol": "UDP", "port": 443}


def _block(cidr: str, *excepted: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, "except": list(excepted)}}


def _pods(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}}


@pytest.mark.parametrize(
    ("live", "declared"),
    [
        ([_block("10.0.0.0/9")], [_block("10.0.0.0/8")]),
        ([_block("10.0.0.0/8", "10.1.0.0/16")], [_block("10.0.0.0/8")]),
        ([_pods("a", "In", "x")], [_pods("a", "In", "x", "y")]),
        ([_pods("a", "In", "x")], [_pods("a", "NotIn", "y")]),
        ([_pods("a", "In", "x")], [_pods("a", "Exists")]),
        ([_pods("a", "NotIn", "x", "y")], [_pods("a", "NotIn", "x")]),
        ([_pods("a", "DoesNotExist")], [_pods("a", "NotIn", "x")]),
    ],
)
def test_what_is_narrower_is_within_and_what_is_wider_is_beyond(
    live: list[dict[str, Any]], declared: list[dict[str, Any]]
) -> None:
    narrow, wide = (_granted("egress", _isolated("egress", [{"to": peers}])) for peers in (live, declared))
    assert not beyond(narrow, [one.allow for one in wide])
    assert beyond(wide, [one.allow for one in narrow])


def test_networks_may_be_declared_in_parts_or_by_exceptions() -> None:
    ways = (
        [_block("10.0.0.0/8", "10.0.0.0/10")],
        [_block("10.64.0.0/10"), _block("10.128.0.0/9")],
        [_block("10.64.0.0/10", "10.64.0.0/11"), _block("10.64.0.0/11"), _block("10.128.0.0/9")],
    )
    granted = [_granted("egress", _isolated("egress", [{"to": peers}])) for peers in ways]
    for one in granted:
        for other in granted:
            assert not beyond(one, [allow.allow for allow in other])


@pytest.mark.parametrize(
    ("live", "declared", "within"),
    [
        ([_TCP_443], [_TCP_443, {"port": 80}], True),
        ([_UDP_443], [_TCP_443], False),
        ([{"port": 80, "endPort": 81}], [{"port": 80}, {"port": 81}], True),
        ([{"port": 80, "endPort": 82}], [{"port": 80}, {"port": 82}], False),
        ([{"port": 80, "endPort": 90}], [{"port": 1, "endPort": 85}, {"port": 84, "endPort": 100}], True),
        ([{"protocol": "TCP"}], [{"port": 1, "endPort": 65535}], False),
        ([{"port": "https"}], [_TCP_443], False),
        ([{"port": "https"}], [{"port": "https"}], True),
        ([{"port": "https"}], [{"port": "http"}], False),
        ([{"port": "https"}], [{"protocol": "TCP"}], True),
        ([_TCP_443], [{"port": "https"}], False),
        ([], [{"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "SCTP"}], False),
        ([_TCP_443], [], True),
    ],
)
def test_ports_are_within_only_where_each_of_them_is(
    live: list[dict[str, Any]], declared: list[dict[str, Any]], within: bool
) -> None:
    peers = [{"podSelector": {}}]
    found, wanted = (
        _granted("egress", _isolated("egress", [{"to": peers, "ports": ports}])) for ports in (live, declared)
    )
    assert (not beyond(found, [one.allow for one in wanted])) is within


def test_a_rule_for_a_port_that_the_pod_does_not_have_allows_nothing() -> None:
    rule = {"from": [{"namespaceSelector": {}}], "ports": [{"port": "nothing"}]}
    assert not beyond(_granted("ingress", _isolated("ingress", [rule])), [])


def test_addresses_are_read_as_the_api_server_reads_them() -> None:
    assert written(span("010.001.0.7/16")) == "10.1.0.0/16"


@pytest.mark.parametrize(
    ("cidrs", "wide"),
    [
        (("10.0.0.0/8", "2001:db8::/32"), ""),
        (("10.0.0.0/8", "11.0.0.0/8"), "10.0.0.0/7"),
        (("9.128.0.0/9", "11.0.0.0/9", "10.0.0.0/8"), "9.128.0.0-11.127.255.255"),
        (("2000::/15",), "2000::/15"),
        (tuple(f"{first}.0.0.0/9" for first in range(0, 256, 2)), "IPv4"),
        (tuple(f"{first:x}::/16" for first in range(0x2000, 0x3000, 2)), "IPv6"),
        (("0.0.0.0/1",), "0.0.0.0/1"),
    ],
)
def test_a_wide_network_is_seen_in_parts_too(cidrs: tuple[str, ...], wide: str) -> None:
    granted = [Granted("x", Allow(IPBlock(cidr), None)) for cidr in cidrs]
    found = too_wide(granted, (8, 16))
    assert wide in found if wide else not found


def test_an_operator_that_is_not_known_does_not_hide_a_policy() -> None:
    assert matches({"matchExpressions": [{"key": "x", "operator": "Gt", "values": ["1"]}]}, {})


def permits(allow: Allow, direction: str, traffic: Traffic) -> bool:
    """What an Allow means."""
    if allow.ports is not None and not any(
        one.protocol == traffic.protocol
        and (
            (one.name, traffic.port) == ("dns", traffic.endpoint.named_port)
            if one.name
            else one.first <= traffic.port <= one.last
        )
        for one in allow.ports
    ):
        return False
    endpoint = traffic.endpoint
    match allow.peer:
        case AnyPeer():
            return True
        case IPBlock(block, excepted):
            if not endpoint.address:
                return False
            address: IPv4Address | IPv6Address = ip_address(endpoint.address)
            return address in ip_network(block) and not any(address in ip_network(one) for one in excepted)
        case PodPeer(namespaces, pods):
            return (
                not endpoint.address
                and namespaces.matches(universe.namespace_labels(endpoint.namespace))
                and pods.matches(universe.labels_of(endpoint))
            )


def _isolated(direction: str, some: list[dict[str, Any]]) -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], direction: some}
    return {"metadata": {"name": "x"}, "spec": spec}


def _granted(direction: str, policy: dict[str, Any]) -> tuple[Granted, ...]:
    granted: tuple[Granted, ...] = getattr(union([policy], POD), direction)
    return granted


def _expected(cidrs: list[str], dns: bool) -> Expected:
    return Expected(
        service_account="x",
        api_key_secret="x",
        container="agent",
        ports=(),
        egress_cidrs=tuple(cidrs),
        dns=dns,
        image_digest=None,
        allowed_registries=(),
        workspace_path="/workspace",
        workspace_read_only=False,
        workspace_claim=None,
        policy_names=frozenset(),
        service_names=frozenset(),
        profile=Profile.DEVELOPMENT,
        egress_ports=(443, 8080),
    )
