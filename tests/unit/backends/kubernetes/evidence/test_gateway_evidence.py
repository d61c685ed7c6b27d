"""The evidence of a gateway: one for all sandboxes of its namespace, made anew when something of it changed."""

import copy
from types import SimpleNamespace
from typing import Any, cast

import pytest
from compliant_gateway import AUTHORITY, GIVEN, WISH, Gateways, gateway

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.evidence.gateways import GatewayEvidence
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.resources import ENDPOINT_SLICES, NETWORK_POLICIES, PODS, SERVICES


class Place:
    """What watches have of a compliant gateway, without a server."""

    def __init__(self, given: Brokering = GIVEN) -> None:
        def nothing(*_: object) -> None: ...

        self.found: Gateways = gateway()
        self.watches = Watches(
            cast(Any, None),
            (),
            secrets=False,
            gateways=True,
            wake=nothing,
            wake_soon=nothing,
            wake_all=nothing,
            wake_users=nothing,
        )
        self.wished: Any = (WISH, AUTHORITY)
        looked = SimpleNamespace(wished=lambda _: self.wished, live=lambda _: self.found.objects)
        self.evidence = GatewayEvidence(self.watches, cast(Any, looked), given, lambda _: frozenset({"anthropic"}), 34)
        for informer, objects in (
            (self.watches.of_gateways(PODS, "agents"), self.found.pods),
            (self.watches.of(NETWORK_POLICIES, "agents"), self.found.policies),
            (self.watches.of(SERVICES, "agents"), self.found.services),
            (self.watches.of(ENDPOINT_SLICES, "agents"), self.found.slices),
        ):
            for one in objects:
                informer.store.put(one)

    def read(self) -> Gateway:
        found = self.evidence.of("agents")
        assert isinstance(found, Reading), found
        assert found.value is not None
        return found.value


def test_what_the_watches_have_of_a_gateway_is_all_there() -> None:
    found = Place().read()
    assert (found.differences, len(found.replicas), found.authority) == ((), 2, AUTHORITY)
    assert [one["metadata"]["name"] for one in (*found.policies, *found.services)] == [meta.GATEWAY] * 2  # type: ignore[index]
    assert (len(found.slices), found.grants) == (1, ())


def test_it_is_the_same_for_all_sandboxes_until_something_changes() -> None:
    place = Place()
    first = place.read()
    assert place.read() is first
    pod = copy.deepcopy(place.found.pod)
    pod["metadata"]["resourceVersion"] = "2"
    place.watches.of_gateways(PODS, "agents").store.put(pod)
    second = place.read()
    assert second is not first
    place.found.objects["Role"]["metadata"]["resourceVersion"] = "2"
    assert place.read() is not second


def test_a_policy_for_one_that_is_a_sandbox_too_is_not_overlooked() -> None:
    place = Place()
    labels = {meta.LABEL_SANDBOX: "bob"}
    policy = {"name": "bobs", "namespace": "agents", "uid": "p"}
    place.watches.of(NETWORK_POLICIES, "agents").store.put(
        {"metadata": policy, "spec": {"podSelector": {"matchLabels": labels}, "ingress": [{}]}}
    )
    assert len(place.read().policies) == 1
    twin = copy.deepcopy(place.found.pod)
    twin["metadata"] |= {"name": "twin", "uid": "t"}
    twin["metadata"]["labels"] |= labels
    place.watches.of_gateways(PODS, "agents").store.put(twin)
    assert len(place.read().policies) == 2


@pytest.mark.parametrize("part", ["replicas", "policies", "services", "slices", "grants"])
def test_what_the_operator_may_not_list_says_so(part: str) -> None:
    place = Place()
    watches = place.watches
    informer = {
        "replicas": watches.of_gateways(PODS, "agents"),
        "policies": watches.of(NETWORK_POLICIES, "agents"),
        "services": watches.of(SERVICES, "agents"),
        "slices": watches.of(ENDPOINT_SLICES, "agents"),
        "grants": next(iter(watches.rights.informers.values())),
    }[part]
    informer.readable = False
    assert "the operator may not list" in getattr(place.read(), part)


def test_what_was_not_looked_at_yet_is_unread() -> None:
    place = Place()
    place.wished = None
    assert place.evidence.of("agents") == Unread("it has not been looked at yet")
    assert isinstance(Place(Brokering()).evidence.of("agents"), Unread)


def test_what_raises_is_unread_and_ends_no_pass() -> None:
    place = Place()
    place.watches.of_gateways(PODS, "agents").store.put(
        {"metadata": {"name": "odd", "namespace": "agents", "labels": 7}, "spec": {"containers": 7}}
    )
    assert isinstance(place.evidence.of("agents"), Unread)
