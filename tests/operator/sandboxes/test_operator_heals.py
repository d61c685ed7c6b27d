"""What is deleted or changed behind the operator's back comes back by itself, and is reported."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kubelet import Kubelet
from oracle import complaints
from world import PORTS, SECRET, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane

CHILD = "sandbox-alice"
# A workload that fails again at once is replaced after this many seconds.
FIRST_PAUSE = 10.0

EVERYWHERE = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
Damage = Callable[[World], Awaitable[Any]]


def _deleted(kind: r.Resource, name: str = CHILD) -> Damage:
    return lambda world: world.delete(name, kind)


def _edited(kind: r.Resource, patch: dict[str, Any], name: str = CHILD) -> Damage:
    return lambda world: world.change(kind, name, patch)


def _policy(**spec: Any) -> Damage:
    return _edited(r.NETWORK_POLICIES, {"spec": spec})


def _baseline(**spec: Any) -> Damage:
    return _edited(r.NETWORK_POLICIES, {"spec": spec}, meta.BASELINE_POLICY)


POLICIES: dict[str, Damage] = {
    "the policy is deleted": _deleted(r.NETWORK_POLICIES),
    "the policy lets out to every pod and network": _policy(egress=[{}]),
    "the policy lets out to every IPv4 address": _policy(egress=[EVERYWHERE]),
    "the policy lets in from everywhere": _policy(ingress=[{}]),
    "the policy lets in to every port": _policy(ingress=[{"from": [{"podSelector": {}}]}]),
    "the policy is no longer about egress": _policy(policyTypes=["Ingress"], egress=None),
    "the policy selects other pods": _policy(podSelector={"matchLabels": {meta.LABEL_SANDBOX_UID: "another"}}),
    "the baseline is deleted": _deleted(r.NETWORK_POLICIES, meta.BASELINE_POLICY),
    "the baseline lets out": _baseline(egress=[EVERYWHERE]),
    "the baseline lets in": _baseline(ingress=[{}]),
    "the baseline selects nothing": _baseline(podSelector={"matchExpressions": None, "matchLabels": {"no": "pod"}}),
}
OTHERS: dict[str, tuple[r.Resource, Damage]] = {
    "the account is deleted": (r.SERVICE_ACCOUNTS, _deleted(r.SERVICE_ACCOUNTS)),
    "the account's token is mounted": (
        r.SERVICE_ACCOUNTS,
        _edited(r.SERVICE_ACCOUNTS, {"automountServiceAccountToken": True}),
    ),
    "the Service is deleted": (r.SERVICES, _deleted(r.SERVICES)),
    "the Service has an external address": (
        r.SERVICES,
        _edited(r.SERVICES, {"spec": {"externalIPs": ["192.0.2.7"]}}),
    ),
    "the Service selects another pod": (r.SERVICES, _edited(r.SERVICES, {"spec": {"selector": {"app": "another"}}})),
    "the Service opens a port of the node": (r.SERVICES, _edited(r.SERVICES, {"spec": {"type": "NodePort"}})),
}


async def _running(world: World, **spec: Any) -> None:
    await world.operator().start()
    await world.create("alice", **(PORTS | spec))
    await world.ready("alice")


async def _comes_back(world: World, damage: Damage) -> str:
    """Do the damage, and wait until it is repaired and reported; what the report says."""
    await damage(world)
    what = await world.healed("alice", 0)
    await world.ledger.until(lambda: not complaints(world.ledger, "alice"), "everything as the spec says")
    await world.told("alice", "Healed")
    await world.ready("alice")
    return what


@pytest.mark.parametrize("damage", POLICIES)
async def test_a_policy_comes_back(world: World, damage: str) -> None:
    await _running(world)
    before = {obj["metadata"]["name"]: obj["spec"] for obj in world.ledger.all(r.NETWORK_POLICIES)}
    assert "NetworkPolicy" in await _comes_back(world, POLICIES[damage])
    after = {obj["metadata"]["name"]: obj["spec"] for obj in world.ledger.all(r.NETWORK_POLICIES)}
    assert after == before


@pytest.mark.parametrize("damage", OTHERS)
async def test_an_object_comes_back(world: World, damage: str) -> None:
    await _running(world)
    kind, harm = OTHERS[damage]
    pod = world.child(r.PODS, "alice")
    before = world.child(kind, "alice")
    assert pod is not None
    assert before is not None
    assert kind.kind in await _comes_back(world, harm)
    after = world.child(kind, "alice")
    assert after is not None
    for key in ("automountServiceAccountToken",):
        assert after.get(key) == before.get(key)
    for key in ("type", "selector", "externalIPs"):
        assert after.get("spec", {}).get(key) == before.get("spec", {}).get(key)
    now = world.child(r.PODS, "alice")
    assert now is not None
    assert now["metadata"]["uid"] == pod["metadata"]["uid"], "nothing of that is a reason to end what runs"


async def test_a_deleted_pod_comes_back(world: World) -> None:
    await _running(world)
    before = world.child(r.PODS, "alice")
    assert "Pod" in await _comes_back(world, _deleted(r.PODS))
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"]["volumes"] == before["spec"]["volumes"]
    world.assert_always_isolated()


async def test_the_labels_of_a_pod_come_back(world: World) -> None:
    await _running(world)
    labels = dict.fromkeys((meta.LABEL_SANDBOX, meta.LABEL_SANDBOX_UID, meta.LABEL_MANAGED_BY))
    before = world.child(r.PODS, "alice")
    await _comes_back(world, _edited(r.PODS, {"metadata": {"labels": labels}}))
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]


async def test_a_pod_that_fails_is_replaced_at_once_and_then_ever_more_slowly(world: World, kubelet: Kubelet) -> None:
    await _running(world)
    kubelet.holds.add(world.namespace)
    ended = []
    for _ in range(2):
        pod = world.child(r.PODS, "alice")
        assert pod is not None
        await world.ledger.until(lambda: (world.child(r.PODS, "alice") or {})["spec"].get("nodeName"), "pod bound")
        await kubelet.run(pod, phase="Failed", reason="Evicted", message="The node was low on memory.")
        await world.ledger.until(lambda uid=pod["metadata"]["uid"]: _is_going(world, uid), "the failed pod's deletion")
        ended.append(time.monotonic())
        await kubelet.remove(pod)
        await world.ledger.until(
            lambda uid=pod["metadata"]["uid"]: (
                (world.child(r.PODS, "alice") or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid
            ),
            "a new pod",
        )
    assert ended[1] - ended[0] > FIRST_PAUSE * 0.9
    assert world.heals("alice") >= 2
    world.assert_always_isolated()


def _is_going(world: World, uid: str) -> bool:
    pod = world.child(r.PODS, "alice")
    return pod is None or pod["metadata"]["uid"] != uid or "deletionTimestamp" in pod["metadata"]


async def _add_ephemeral_container(world: World) -> None:
    container = {"name": "debug", "image": "example.org/debug", "command": ["sleep", "1"]}
    patch = {"spec": {"ephemeralContainers": [container]}}
    await world.api.patch(r.PODS, CHILD, world.namespace, patch, subresource="ephemeralcontainers")


async def test_a_container_that_somebody_added_is_reported_and_left_alone(world: World) -> None:
    await _running(world)
    before = world.child(r.PODS, "alice")
    await _add_ephemeral_container(world)
    drifted = await world.said("alice", "Drifted", "True", "PodDrifted")
    assert "ephemeralContainers[debug]" in drifted["message"]
    assert "Recreate" in drifted["message"], "the remedy"
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_container_that_somebody_added_is_got_rid_of_where_the_spec_says_so(world: World) -> None:
    await _running(world, updateStrategy={"type": "Recreate"})
    before = world.child(r.PODS, "alice")
    await _add_ephemeral_container(world)
    assert "Pod" in await world.healed("alice", 0)
    await world.ledger.until(lambda: world.is_ready("alice") and not complaints(world.ledger, "alice"), "a new pod")
    after = world.child(r.PODS, "alice")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert "ephemeralContainers" not in after["spec"]
    await world.said("alice", "Drifted", "False")
    world.assert_always_isolated()


async def test_a_deleted_key_is_reported_and_what_ran_with_it_comes_back_with_it(world: World) -> None:
    await _running(world)
    before = world.child(r.PODS, "alice")
    assert before is not None
    await world.delete(SECRET, r.SECRETS)
    stalled = await world.said("alice", "Stalled", "True", "SecretNotFound")
    assert f"kubectl create secret generic -n {world.namespace} {SECRET}" in stalled["message"]
    await world.said("alice", "CredentialsCurrent", "False", "SecretNotFound")
    await world.ledger.until(lambda: not world.child(r.PODS, "alice"), "what runs with a key that was taken away ends")
    await world.add_secret()
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    await world.ready("alice")
    after = world.child(r.PODS, "alice")
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert world.heals("alice") == 0, "it was not lost"


async def test_a_policy_of_somebody_else_that_lets_out_is_reported_and_left_alone(world: World) -> None:
    await _running(world)
    theirs = {"metadata": {"name": "theirs"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}
    made = await world.api.create(r.NETWORK_POLICIES, theirs, world.namespace)
    isolated = await world.said("alice", "IsolationVerified", "False", "PolicyWidened")
    assert "theirs" in isolated["message"]
    await world.said("alice", "Compliant", "False")
    untouched = world.ledger.get(r.NETWORK_POLICIES, "theirs")
    assert untouched is not None
    assert untouched["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    await world.delete("theirs", r.NETWORK_POLICIES)
    await world.said("alice", "Compliant", "True")
    assert world.heals("alice") == 0


async def test_everything_is_damaged_at_once(world: World) -> None:
    await _running(world)
    for kind in (r.SERVICES, r.SERVICE_ACCOUNTS, r.NETWORK_POLICIES, r.PODS):
        await world.api.delete(kind, CHILD, world.namespace)
    await asyncio.gather(
        world.api.delete(r.NETWORK_POLICIES, meta.BASELINE_POLICY, world.namespace),
        world.delete(SECRET, r.SECRETS),
    )
    await world.ledger.until(lambda: world.heals("alice") >= 4, "four heals")
    await world.said("alice", "Stalled", "True", "SecretNotFound")
    await world.add_secret()
    await world.ready("alice")
    await world.ledger.until(lambda: not complaints(world.ledger, "alice"), "everything as the spec says")
