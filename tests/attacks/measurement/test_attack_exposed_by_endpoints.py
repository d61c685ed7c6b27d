"""A Service without a selector leads to the sandbox: its EndpointSlices name the pod, or just the pod's address.

NET-10 looked at selectors only and passed. Closed by following EndpointSlices too: what they name is kept (an address
and a pod for each endpoint), and any that leads to the pod under another Service than the sandbox's own fails the
control. That they may not be read makes it Unknown.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from answering_server import serving, with_sandbox
from click.testing import CliRunner
from compliant_sandbox import changed, compliant, results, without

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.cli.check.command import check
from claude_sandbox.compliance.reports.pods import findings
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.informers.informer import Timings
from claude_sandbox.localcluster.cluster import Cluster

Json = dict[str, Any]


def endpoint_slice(service: str, namespace: str = "agents", **endpoint: Any) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.9.9.9"], **endpoint}],
        "ports": [{"port": 8080}],
    }


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (
            endpoint_slice("door"),
            "the Service door, which is not the sandbox's own, leads to it by EndpointSlice door-1",
        ),
        (endpoint_slice("door", "others"), "the Service others/door"),
        # The name of the sandbox's own Service, in another namespace.
        (endpoint_slice("sandbox-alice", "others"), "the Service others/sandbox-alice"),
        ({**endpoint_slice("door"), "outsize": "it has 900 KiB"}, "the EndpointSlice door-1 is not judged"),
    ],
)
def test_what_endpoints_expose_is_exposed(one: Json, problem: str) -> None:
    world = compliant()
    world.slices.append(one)
    [verdict] = [found.verdict for found in findings(world.evidence()) if found.control.id == "NET-10"]
    assert verdict.result == "Fail"
    assert problem in verdict.message


def test_the_sandbox_s_own_service_may_lead_to_it() -> None:
    assert results(changed(lambda w: w.slices.append(endpoint_slice("sandbox-alice"))).evidence())["NET-10"] == "Pass"


def test_without_the_right_to_look_it_is_unknown() -> None:
    assert results(without(compliant().evidence(), "slices"))["NET-10"] == "Unknown"


@pytest.mark.parametrize(
    ("endpoint", "result"),
    [
        ({"targetRef": {"kind": "Pod", "namespace": "agents", "name": "sandbox-alice"}}, "Fail"),
        ({"targetRef": {"kind": "Pod", "name": "sandbox-alice"}}, "Fail"),
        ({"addresses": ["10.1.1.1"]}, "Fail"),
        ({"addresses": ["10.1.1.2"]}, "Pass"),
        ({"targetRef": {"kind": "Pod", "namespace": "agents", "name": "other"}}, "Pass"),
    ],
)
def test_check_sees_it(tmp_path: Any, endpoint: Json, result: str) -> None:
    cluster = with_sandbox()
    cluster.pods["sandbox-alice"]["status"]["podIPs"] = [{"ip": "10.1.1.1"}]
    cluster.slices.append(endpoint_slice("door", **endpoint))
    with serving(cluster, tmp_path) as kubeconfig:
        done = CliRunner().invoke(check, ["sandbox", "agents/alice", "--kubeconfig", kubeconfig])
    line = next(line for line in done.stdout.splitlines() if "NET-10" in line)
    assert result in line


@pytest_asyncio.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    async with Api(from_kubeconfig(str(control_plane.layout.kubeconfig))) as found:
        yield found


@pytest.mark.controlplane
async def test_the_operator_s_watches_find_it_and_wake_the_sandbox(api: Api) -> None:
    made = await api.create(r.NAMESPACES, {"metadata": {"generateName": "endpoints-"}})
    namespace = made["metadata"]["name"]
    woken: set[tuple[str, str]] = set()
    watches = Watches(
        api,
        (namespace,),
        secrets=False,
        wake=lambda *_: None,
        wake_soon=lambda *key: woken.add(key),
        wake_all=lambda _: None,
        wake_users=lambda *_: None,
        pace=Timings(),
    )
    following = asyncio.create_task(watches.run())
    try:
        await watches.settled()
        await api.create(r.SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace)
        pod = await api.create(
            r.PODS,
            {
                "metadata": {"name": "sandbox-alice", "labels": {meta.LABEL_SANDBOX: "alice"}},
                "spec": {"containers": [{"name": "agent", "image": "x"}], "automountServiceAccountToken": False},
            },
            namespace,
        )
        addresses = {"podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}]}
        await api.patch_status(r.PODS, "sandbox-alice", namespace, addresses)
        await _eventually(
            lambda: bool((watches.get(r.PODS, namespace, "sandbox-alice") or {}).get("status", {}).get("podIPs"))
        )
        by_address = endpoint_slice("door", namespace, addresses=["10.1.1.1"])
        by_name = endpoint_slice(
            "gate", namespace, targetRef={"kind": "Pod", "namespace": namespace, "name": "sandbox-alice"}
        )
        for one in (by_address, by_name, endpoint_slice("elsewhere", namespace)):
            woken.clear()
            await api.create(r.ENDPOINT_SLICES, one, namespace)
            name = one["metadata"]["name"]
            await _eventually(lambda name=name: watches.get(r.ENDPOINT_SLICES, namespace, name) is not None)  # type: ignore[misc]
            assert woken == ({(namespace, "alice")} if one["metadata"]["name"] != "elsewhere-1" else set())
        found = watches.slices(watches.get(r.PODS, namespace, "sandbox-alice") or pod)[1]
        assert {one["metadata"]["name"] for one in found} == {"door-1", "gate-1"}
        # Nothing but what is compared is kept.
        assert all(set(one) == {"apiVersion", "kind", "metadata", "endpoints"} for one in found)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await api.delete(r.NAMESPACES, namespace)


async def _eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
