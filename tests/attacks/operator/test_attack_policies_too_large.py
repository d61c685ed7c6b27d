"""One NetworkPolicy keeps the operator busy: thousands of exceptions, rules, ports, labels.

Whoever may write NetworkPolicies in one namespace wrote one with an `ipBlock` of 700 exceptions. Each evaluation took
4.2 s of the event loop, with 2,000 exceptions 21 s: nobody's sandbox was looked at meanwhile, health was not answered,
the lease was lost. Closed by arithmetic on sorted ranges, by a bound for what all policies of a pod hold together
(above it the controls fail and say what to do), and by work that grows no faster than what was written.
"""

from collections.abc import Callable
from typing import Any

import pytest
import workmeter
from compliant_sandbox import compliant, results

from claude_sandbox.compliance.pods.policy_size import MAX_ENTRIES
from claude_sandbox.compliance.reports.pods import findings

Spec = dict[str, Any]


def _network(number: int) -> str:
    return f"{number >> 8 & 255}.{number & 255}.7.0/24"


def exceptions(count: int) -> Spec:
    excepted = [_network(number * 8191) for number in range(count)]
    return {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": excepted}}]}]}


def exceptions_of_many(count: int) -> Spec:
    """Each block is cut by exceptions, and each is to be found in the others."""
    blocks = [{"ipBlock": {"cidr": _network(n), "except": [_network(n)[:-3] + "/25"]}} for n in range(count // 2)]
    return {"egress": [{"to": blocks}]}


def peers(count: int) -> Spec:
    return {"egress": [{"to": [{"ipBlock": {"cidr": _network(number)}} for number in range(count)]}]}


def peers_and_ports(count: int) -> Spec:
    ports = [{"port": 1 + 2 * number} for number in range(count // 2)]
    return {"egress": [{"to": peers(count // 2)["egress"][0]["to"], "ports": ports}]}


def named_ports(count: int) -> Spec:
    to = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    return {"egress": [{"to": to, "ports": [{"port": f"p{number}"} for number in range(count)]}]}


def rules(count: int) -> Spec:
    return {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": n + 1}]} for n in range(count // 3)]}


def expressions(count: int) -> Spec:
    some = [{"key": f"k{number}", "operator": "Exists"} for number in range(count)]
    return {"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": some}}]}]}


def values(count: int) -> Spec:
    some = {"key": "k", "operator": "NotIn", "values": [f"v{number}" for number in range(count)]}
    return {"ingress": [{"from": [{"podSelector": {"matchExpressions": [some]}}]}]}


def selectors(count: int) -> Spec:
    return {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": f"v{n}"}}} for n in range(count // 2)]}]}


SHAPES = [
    exceptions, exceptions_of_many, peers, peers_and_ports, named_ports, rules, expressions, values, selectors,
]  # fmt: skip


def _evaluation(spec: Spec) -> Callable[[], Any]:
    world = compliant()
    world.declare(
        egress_cidrs=tuple(f"20.{number}.0.0/16" for number in range(64)),
        egress_ports=tuple(range(1000, 1032)),
        ports=(8080, 8081),
    )
    world.add_policy(policyTypes=["Ingress", "Egress"], **spec)
    evidence = world.evidence()
    return lambda: findings(evidence)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_no_faster_than_the_policy(shape: Callable[[int], Spec]) -> None:
    small, large = MAX_ENTRIES // 10, MAX_ENTRIES * 8 // 10
    basis = workmeter.seconds(_evaluation(shape(10)))
    ratio = (workmeter.seconds(_evaluation(shape(large))) + basis) / (
        workmeter.seconds(_evaluation(shape(small))) + basis
    )
    assert ratio < 16, f"eight times as much takes {ratio:.0f} times as long"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_policy_that_is_judged_takes_a_moment(shape: Callable[[int], Spec]) -> None:
    """In a thread of its own (see the tests of the loop); here it is that it ends."""
    assert workmeter.seconds(_evaluation(shape(MAX_ENTRIES - 500)), 2) < 0.4 * workmeter.machine_pace()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_policy_that_is_too_large_fails_and_says_what_to_do(shape: Callable[[int], Spec]) -> None:
    world = compliant()
    world.add_policy(policyTypes=["Ingress", "Egress"], **shape(4 * MAX_ENTRIES))
    found = {one.control.id: one.verdict for one in findings(world.evidence())}
    for control in ("NET-01", "NET-02", "NET-11"):
        assert found[control].result == "Fail"
        assert "other" in found[control].message
        assert f"more than {MAX_ENTRIES} entries" in found[control].message
        assert "delete policies" in found[control].message


@pytest.mark.parametrize("shape", SHAPES)
def test_counting_a_policy_that_is_too_large_costs_nothing(shape: Callable[[int], Spec]) -> None:
    basis = workmeter.seconds(_evaluation(shape(10)))
    assert workmeter.seconds(_evaluation(shape(100_000))) < 4 * basis + 0.02 * workmeter.machine_pace()


def test_a_policy_that_selects_others_does_not_count() -> None:
    world = compliant()
    world.add_policy(policyTypes=["Egress"], **peers(4 * MAX_ENTRIES))
    world.policies[-1]["spec"]["podSelector"] = {"matchLabels": {"app": "other"}}
    assert results(world.evidence())["NET-02"] == "Pass"


def test_a_complaint_about_thousands_names_some_of_them() -> None:
    world = compliant()
    world.add_policy(policyTypes=["Egress"], **peers_and_ports(1800))
    [egress] = [one.verdict for one in findings(world.evidence()) if one.control.id == "NET-02"]
    assert egress.result == "Fail"
    assert "and 890 more" in egress.message
    assert len(egress.message) < 4000
