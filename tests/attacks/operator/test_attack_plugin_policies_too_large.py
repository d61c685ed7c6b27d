"""Policies of a network plugin keep the operator busy: many of them, with long selectors, that select nobody.

Whoever may write Calico's or Cilium's policies in one namespace wrote a thousand with expressions of 4,000 characters.
Each pass over a sandbox there took six seconds of the event loop, and as long again for where it is probed. Closed by a
bound for what all selectors together may hold: of more the rest is not read, and the controls are Unknown and say so;
what is much is read in a thread.
"""

from collections.abc import Callable
from typing import Any

import pytest
import workmeter

from claude_sandbox.compliance.pods.plugin_policies import FEW, Whom, may_select, plugin_policies, readable

WHOM = Whom({"app": "agent"}, "agents", {}, "default")
OTHERS = {"matchLabels": {"app": "another"}}


def policy(api: str, kind: str, number: int, **spec: Any) -> dict[str, Any]:
    metadata = {"name": f"p-{number}", "namespace": "agents"}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def calico(number: int) -> dict[str, Any]:
    return policy("projectcalico.org/v3", "NetworkPolicy", number, selector="a==''||" * 560 + "b==''")


def calico_by_namespace(number: int) -> dict[str, Any]:
    spec = {"selector": "all()", "namespaceSelector": "has(x)||" * 500 + "has(y)"}
    return policy("projectcalico.org/v3", "NetworkPolicy", number, **spec)


def cilium(number: int) -> dict[str, Any]:
    many = {"matchLabels": {f"key-{one}": "v" for one in range(5000)}}
    return policy("cilium.io/v2", "CiliumNetworkPolicy", number, endpointSelector=many)


def cilium_of_many_values(number: int) -> dict[str, Any]:
    one = {"key": "app", "operator": "In", "values": [f"v{value}" for value in range(10_000)]}
    return policy("cilium.io/v2", "CiliumNetworkPolicy", number, endpointSelector={"matchExpressions": [one]})


def cilium_of_many_rule_sets(number: int) -> dict[str, Any]:
    found = policy("cilium.io/v2", "CiliumNetworkPolicy", number)
    return {**found, "spec": None, "specs": [{"endpointSelector": OTHERS}] * 2000}


def antrea(number: int) -> dict[str, Any]:
    return policy("crd.antrea.io/v1beta1", "NetworkPolicy", number, appliedTo=[{"podSelector": OTHERS}] * 2500)


def antrea_by_rules(number: int) -> dict[str, Any]:
    rules = [{"appliedTo": [{"podSelector": OTHERS}]}] * 2500
    return policy("crd.antrea.io/v1beta1", "NetworkPolicy", number, ingress=rules)


def small(number: int) -> dict[str, Any]:
    return policy("cilium.io/v2", "CiliumNetworkPolicy", number, endpointSelector={"matchLabels": {"a": "b"}})


LARGE = [
    *(calico, calico_by_namespace, cilium, cilium_of_many_values, cilium_of_many_rule_sets, antrea, antrea_by_rules),
]


@pytest.mark.parametrize("shape", [*LARGE, small])
def test_however_much_is_written_it_is_read_in_a_moment(shape: Callable[[int], Any]) -> None:
    many = [shape(number) for number in range(20_000 if shape is small else 200)]
    pace = max(1.0, workmeter.machine_pace())
    assert workmeter.seconds(lambda: plugin_policies(many, WHOM)) < 0.25 * pace
    # What goes on the event loop: to see that it is much, and what of it is read there.
    assert workmeter.seconds(lambda: [may_select(one, WHOM) for one in readable(many, FEW)[0]]) < 0.05 * pace


@pytest.mark.parametrize("shape", LARGE)
def test_of_what_was_not_read_nothing_is_decided(shape: Callable[[int], Any]) -> None:
    found = plugin_policies([shape(number) for number in range(200)], WHOM)
    assert "than is read" in found.unread


def test_a_thousand_small_ones_are_read_and_none_of_them_stands_in_the_way() -> None:
    found = plugin_policies([small(number) for number in range(1000)], WHOM)
    assert (found.selecting, found.unread) == ((), "")
    # The one that selects the pod is found among them.
    opening = policy("cilium.io/v2", "CiliumNetworkPolicy", 0, endpointSelector={}, egress=[{}])
    assert [one.name for one in plugin_policies([*map(small, range(1, 1000)), opening], WHOM).selecting] == ["p-0"]


def test_what_is_no_policy_or_no_rule_set_is_nothing_to_read() -> None:
    odd = [{}, {"kind": "CiliumNetworkPolicy", "apiVersion": "cilium.io/v2", "spec": "all", "specs": [None, 7]}]
    assert readable(odd)[1]
