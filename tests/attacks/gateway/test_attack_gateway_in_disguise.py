"""Who may make objects in a namespace passes something off as its gateway, or makes so many that nobody looks.

Sandboxes may connect to whatever has the gateway's label, and its Service leads there: with a pod of that label a
tenant is the way out of every sandbox of the namespace, without the gateway's list of names, its limits and its audit;
so he is with an EndpointSlice. With a role for the gateway's account he has it read what no sandbox names. Nothing
measured it. Closed by a control that looks at every pod with that label, whoever made it, at who leads there, at who
may connect and at what the account may do; what there is too much of fails without being looked at.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import workmeter
from compliant_gateway import Gateways
from compliant_sandbox import compliant

from claude_sandbox.api import meta
from claude_sandbox.api.status import Result
from claude_sandbox.backends.kubernetes.evidence.evaluation import LIGHT_POD, is_light
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.compliance.evidence.pods import SLICE_OF
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.pods.policy_size import MAX_ENTRIES
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.informers.cache_limits import GATEWAY_PODS, CacheLimits
from claude_sandbox.kubernetes_api.resources import PODS, Resource
from claude_sandbox.localcluster.cluster import Cluster

Change = Callable[[Gateways], Any]


def twins(count: int) -> Change:
    """Pods like the gateway's own, each with labels of its own, so that each is another pod to policies."""

    def change(found: Gateways) -> None:
        for number in range(count):
            twin = copy.deepcopy(found.pod)
            twin["metadata"] |= {"name": f"twin-{number}", "uid": f"twin-{number}"}
            twin["metadata"]["labels"][f"mine-{number}"] = "x"
            found.pods.append(twin)

    return change


def policies(entries: int) -> Change:
    blocks = [{"ipBlock": {"cidr": f"{n >> 8 & 255}.{n & 255}.7.0/24"}} for n in range(entries)]
    return lambda found: found.add_policy(ingress=[{"from": blocks}])


def both(*changes: Change) -> Change:
    return lambda found: [change(found) for change in changes]


def evaluation(change: Change) -> Callable[[], Any]:
    """One evaluation of a sandbox whose gateway nobody looked at before."""
    world = compliant()
    assert world.gateway is not None
    change(world.gateway)
    return lambda: findings(world.evidence())


def verdict(change: Change) -> tuple[Result, str]:
    (found,) = [one for one in evaluation(change)() if one.control.id == "NET-12"]
    return found.result, found.verdict.message


def test_more_of_them_than_there_can_be_fail_and_are_not_all_looked_at() -> None:
    result, message = verdict(twins(500))
    assert (result, "more than 16 pods" in message) == (Result.FAIL, True)
    few, many = (workmeter.seconds(evaluation(twins(count))) for count in (20, 500))
    assert many < 3 * few


@pytest.mark.parametrize("count", [1, 15])
def test_policies_for_many_of_them_are_judged_no_longer_than_for_two(count: int) -> None:
    change = both(twins(count), policies(MAX_ENTRIES - 200))
    assert verdict(change)[0] is Result.FAIL
    assert workmeter.seconds(evaluation(change), 2) < 0.8 * workmeter.machine_pace()


def test_policies_that_are_too_large_fail_and_cost_nothing() -> None:
    assert verdict(policies(4 * MAX_ENTRIES))[0] is Result.FAIL
    basis = workmeter.seconds(evaluation(policies(10)))
    assert workmeter.seconds(evaluation(policies(50_000))) < 4 * basis + 0.1 * workmeter.machine_pace()


def test_what_is_long_is_not_looked_at_on_the_event_loop() -> None:
    def light(change: Change, size: int = 12_000) -> bool:
        world = compliant()
        assert world.gateway is not None
        change(world.gateway)
        return is_light(world.evidence(), 10_000, size)

    assert light(lambda _: None)
    assert not light(lambda _: None, LIGHT_POD + 1)
    assert not light(policies(1000))


def test_putting_the_evidence_together_takes_a_moment() -> None:
    """It is done on the event loop: as many pods as are looked at, each as large as is kept."""

    def large(pod: dict[str, Any]) -> None:
        pod["spec"]["containers"] += [{"name": f"c{number}"} for number in range(1500)]

    world = compliant()
    assert world.gateway is not None
    twins(20)(world.gateway)
    for pod in world.gateway.pods:
        large(pod)
    assert workmeter.seconds(world.gateway.evidence) < 0.05 * workmeter.machine_pace()


def test_what_is_kept_of_pods_with_its_label_is_little() -> None:
    limits = CacheLimits(PODS, GATEWAY_PODS)
    pods = [
        {
            "metadata": {"name": f"twin-{n}", "namespace": "agents", "labels": {meta.LABEL_COMPONENT: "gateway"}},
            "spec": {"x": "y" * 30_000},
        }
        for n in range(200)
    ]
    kept = [limits.admit(one) for one in pods]
    assert limits.sum("agents") < GATEWAY_PODS.namespace + 200 * 300
    # And those of which nothing is kept are known to be there.
    assert all(one["metadata"]["labels"] for one in kept)


@pytest_asyncio.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane.layout.kubeconfig))) as found:
        yield found


def manifest(name: str, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **fields.pop("metadata", {})}, **fields}


LABELS = {meta.LABEL_COMPONENT: meta.COMPONENT_GATEWAY}
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
ACTS: dict[str, tuple[Resource, dict[str, Any]]] = {
    "a pod with its labels": (
        r.PODS,
        manifest(
            "mallory",
            metadata={"labels": LABELS},
            spec={"containers": [{"name": "proxy", "image": "x"}], "automountServiceAccountToken": False},
        ),
    ),
    "a slice of its Service": (
        r.ENDPOINT_SLICES,
        manifest(
            "mallory",
            metadata={"labels": {SLICE_OF: meta.GATEWAY}},
            addressType="IPv4",
            endpoints=[{"addresses": ["192.0.2.7"]}],
        ),
    ),
    "a role of its account": (
        r.ROLE_BINDINGS,
        manifest("mallory", roleRef=ROLE, subjects=[{"kind": "ServiceAccount", "name": meta.GATEWAY}]),
    ),
    "a policy": (r.NETWORK_POLICIES, manifest("mallory", spec={"podSelector": {}, "ingress": [{}]})),
    "a Service": (r.SERVICES, manifest("mallory", spec={"selector": LABELS, "ports": [{"port": 3128}]})),
}


@pytest.mark.controlplane
async def test_the_operators_watches_find_each_and_have_all_sandboxes_there_looked_at(api: Api) -> None:
    made = await api.create(r.NAMESPACES, {"metadata": {"generateName": "disguise-"}})
    namespace, woken = made["metadata"]["name"], set[str]()
    watches = Watches(
        api,
        (namespace,),
        secrets=False,
        gateways=True,
        wake=lambda *_: None,
        wake_soon=lambda *_: None,
        wake_all=woken.add,
        wake_users=lambda *_: None,
    )
    following = asyncio.create_task(watches.run())
    try:
        await watches.settled()
        await api.create(r.SERVICE_ACCOUNTS, manifest("default"), namespace)
        for name, (resource, act) in ACTS.items():
            woken.clear()
            await api.create(resource, act, namespace)
            async with asyncio.timeout(30):
                while namespace not in woken:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.02)
            assert woken == {namespace}, name
        assert [one["metadata"]["name"] for one in watches.replicas(namespace)] == ["mallory"]
        assert [one["metadata"]["name"] for one in watches.slices_of(namespace, meta.GATEWAY)[1]] == ["mallory"]
        grants = watches.rights.of(namespace, meta.GATEWAY)
        assert isinstance(grants, Reading)
        assert {one.binding for one in grants.value} == {"RoleBinding mallory"}
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await api.delete(r.NAMESPACES, namespace)
