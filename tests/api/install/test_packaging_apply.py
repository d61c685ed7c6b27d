"""The real API server takes every manifest as it is, and the operator's pod where only restricted pods may be."""

import copy
import json
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from claude_sandbox.install.applying import superfluous
from claude_sandbox.install.crds import await_served
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl, as_list
from claude_sandbox.install.manifests import NAMESPACE, Installation, Manifest, render, sources
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.programs import toolchain

pytestmark = pytest.mark.controlplane


@pytest.fixture(scope="module")
def installed(control_plane_with_controllers: Cluster) -> Iterator[Kubectl]:
    kubectl = Kubectl(toolchain.kubectl(print), str(control_plane_with_controllers.kubeconfig))
    manifests = render(Installation())
    kubectl.apply(manifests, force=True)  # other tests may have brought the CRD
    await_served(kubectl, print)
    yield kubectl
    # The CRD may be in use by other tests.
    kubectl.delete(m for m in reversed(manifests) if m["kind"] not in ("CustomResourceDefinition", "Namespace"))


def operator_pod() -> Manifest:
    (deployment,) = (m for m in render(Installation()) if m["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "operator-by-hand", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


def test_applying_again_changes_nothing(installed: Kubectl) -> None:
    # The Deployment's controller writes to it at any time.
    wanted = [m for m in render(Installation()) if m["kind"] != "Deployment"]
    before = versions(installed, wanted)
    installed.apply(wanted, force=True)
    assert versions(installed, wanted) == before


def versions(kubectl: Kubectl, manifests: list[Manifest]) -> list[str]:
    found = json.loads(kubectl.run("get", "--filename=-", "--output=json", stdin=as_list(manifests)))["items"]
    return [one["metadata"]["resourceVersion"] for one in found]


def test_a_field_that_does_not_exist_is_refused(installed: Kubectl) -> None:
    policy = next(m for m in render(Installation()) if m["kind"] == "NetworkPolicy")
    policy["spec"]["ingres"] = []
    with pytest.raises(SetupError, match="ingres"):
        installed.apply([policy], dry_run=True)


def test_the_operators_pod_is_restricted(installed: Kubectl) -> None:
    space = installed.get("namespace", NAMESPACE)
    assert space is not None
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    installed.apply([operator_pod()], dry_run=True)


@pytest.mark.parametrize(
    "loosen",
    [
        lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
        lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        lambda spec: spec["securityContext"].pop("runAsNonRoot"),
        lambda spec: spec["securityContext"].pop("seccompProfile"),
    ],
    ids=["capabilities", "allowPrivilegeEscalation", "runAsNonRoot", "seccompProfile"],
)
def test_each_of_its_restrictions_is_needed(installed: Kubectl, loosen: Callable[[Manifest], object]) -> None:
    pod = operator_pod()
    loosen(pod["spec"])
    with pytest.raises(SetupError, match="violates PodSecurity"):
        installed.apply([pod], dry_run=True)


def test_the_samples_are_accepted(installed: Kubectl) -> None:
    files = sorted((sources() / "samples").glob("*.yaml"))
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    for document in documents:
        if document["kind"] not in ("Namespace", "DockerHost"):
            # Theirs is not there, and a dry run makes none.
            document["metadata"]["namespace"] = NAMESPACE
    said = installed.apply(documents, dry_run=True)
    assert len(said.splitlines()) == len(documents)


def ours(kubectl: Kubectl, role: str) -> list[Manifest]:
    found = kubectl.get("clusterrole", role)
    assert found is not None
    return [rule for rule in found["rules"] or () if rule["apiGroups"] == ["claudesandbox.dev"]]


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        ("view", {"get", "list", "watch"}),
        ("edit", {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}),
        ("admin", {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}),
    ],
)
def test_the_clusters_own_roles_come_to_know_sandboxes(installed: Kubectl, role: str, verbs: set[str]) -> None:
    # The aggregation controller adds the rules some time after the roles are there.
    deadline = time.monotonic() + 30
    while not (rules := ours(installed, role)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {verb for rule in rules if "claudesandboxes" in rule["resources"] for verb in rule["verbs"]} == verbs
    assert {verb for rule in rules if "claudesandboxes/status" in rule["resources"] for verb in rule["verbs"]} == {
        "get"
    }


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_nobody_comes_to_docker_hosts_by_a_role_in_a_namespace(installed: Kubectl, role: str) -> None:
    assert not [rule for rule in ours(installed, role) if {"dockerhosts", "*"} & set(rule["resources"])]


def test_rights_of_an_earlier_installation_are_found(installed: Kubectl) -> None:
    found = superfluous(installed, render(Installation(namespaces=("agents",), secrets=False)))
    assert {(one["kind"], one["metadata"]["name"]) for one in found} == {
        ("ClusterRole", "claude-sandbox-operator-cluster"),
        ("ClusterRoleBinding", "claude-sandbox-operator"),
        ("ClusterRoleBinding", "claude-sandbox-operator-cluster"),
        ("ClusterRoleBinding", "claude-sandbox-operator-secrets"),
    }
    assert superfluous(installed, render(Installation())) == []
