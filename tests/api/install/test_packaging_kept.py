"""A new version of the CRD changes nothing for the sandboxes that are there, on a real API server."""

import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from claude_sandbox.api import meta
from claude_sandbox.install import crds
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import Installation, Manifest, render
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.programs import toolchain

pytestmark = pytest.mark.controlplane

NAMESPACE = "kept"
KEY = {"apiKeySecretRef": {"name": "key"}}
NOW = [one for one in render(Installation()) if one["kind"] == "CustomResourceDefinition"]
PATIENCE = 30.0


def without_a_default(credentials: dict[str, Any]) -> None:
    del credentials["properties"]["delivery"]["default"]


def without_the_field(credentials: dict[str, Any]) -> None:
    del credentials["properties"]["delivery"]


def earlier(spoil: Callable[[dict[str, Any]], None]) -> list[Manifest]:
    """The CRDs, of which that of sandboxes is as it was once."""
    found = copy.deepcopy(NOW)
    (sandboxes,) = (one for one in found if one["metadata"]["name"] == crds.CRD)
    spec = sandboxes["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    credentials = spec["properties"]["credentials"]
    spoil(credentials)
    for part in (spec, credentials):
        part["x-kubernetes-validations"] = [
            rule for rule in part["x-kubernetes-validations"] if "delivery" not in rule["rule"]
        ]
    return found


@pytest.fixture(params=[pytest.param(without_a_default, marks=pytest.mark.slow), without_the_field])
def before(request: pytest.FixtureRequest, control_plane: Cluster) -> Iterator[Kubectl]:
    """A cluster with an earlier CRD."""
    kubectl = Kubectl(toolchain.kubectl(print), str(control_plane.kubeconfig))
    kubectl.apply(earlier(request.param), force=True)
    crds.await_served(kubectl, print)
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    eventually(lambda: new_ones(kubectl) is None)
    try:
        yield kubectl
    finally:
        kubectl.run("delete", meta.PLURAL, "--all", f"--namespace={NAMESPACE}")
        # Other tests have it as it is now.
        kubectl.apply(NOW, force=True)
        eventually(lambda: new_ones(kubectl) == "Brokered")


def sandbox(name: str, **spec: Any) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": metadata} | {
        "spec": {"credentials": KEY, **spec}
    }


def new_ones(kubectl: Kubectl) -> str | None:
    """What is stored of a new sandbox that says nothing."""
    wanted = json.dumps(sandbox("new"))
    told = kubectl.run("create", "--dry-run=server", "--output=json", "--filename=-", stdin=wanted)
    found: str | None = json.loads(told)["spec"]["credentials"].get("delivery")
    return found


def deliveries(kubectl: Kubectl) -> dict[str, str | None]:
    found = kubectl.list(meta.PLURAL, NAMESPACE)
    return {one["metadata"]["name"]: one["spec"]["credentials"].get("delivery") for one in found}


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_sandbox_that_said_nothing_goes_on_holding_its_key(before: Kubectl) -> None:
    backup = {
        "schedule": "30 2 * * *",
        "target": {"type": "VolumeClaim", "claimName": "b"},
        "passwordSecretRef": {"name": "b"},
    }
    bounds = {"budget": {"maxOutputTokens": 1000}, "lifecycle": {"ttl": "30d"}, "backup": backup}
    live = sandbox("live", profile="Production", **bounds)
    before.apply([sandbox("silent"), sandbox("docker", backend={"type": "Docker"}), live])
    assert set(deliveries(before).values()) == {None}
    crds.bring(before, NOW, print, force=True)
    eventually(lambda: new_ones(before) == "Brokered")
    # In Production no sandbox may hold its key.
    assert deliveries(before) == {"silent": "Mounted", "docker": "Mounted", "live": "Brokered"}


def test_by_the_crd_alone_it_would_change(before: Kubectl) -> None:
    before.apply([sandbox("silent")])
    before.apply(NOW, force=True)
    eventually(lambda: deliveries(before) == {"silent": "Brokered"})


def test_a_cluster_that_is_up_to_date_is_left_alone(before: Kubectl) -> None:
    crds.bring(before, NOW, print, force=True)
    before.apply([sandbox("silent"), sandbox("mounted", credentials=KEY | {"delivery": "Mounted"})])
    versions = [one["metadata"]["resourceVersion"] for one in before.list(f"{meta.PLURAL},crd", NAMESPACE)]
    crds.bring(before, NOW, print, force=True)
    assert deliveries(before) == {"silent": "Brokered", "mounted": "Mounted"}
    assert [one["metadata"]["resourceVersion"] for one in before.list(f"{meta.PLURAL},crd", NAMESPACE)] == versions
