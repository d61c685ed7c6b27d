"""The manifests: what `claude-sandbox install` renders is what kustomize makes of the same files."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_sandbox.api import meta
from claude_sandbox.api.validate import parse_host_spec, parse_spec, refused_host_metadata, refused_metadata
from claude_sandbox.backends.docker.gateway.settings import gateway_settings
from claude_sandbox.install.manifests import NAMESPACE, NODES, PROBES, Installation, render, sources
from claude_sandbox.localcluster.programs import toolchain

Manifest = dict[str, Any]


def kustomize(directory: Path) -> list[Manifest]:
    program = toolchain.kubectl(print)
    output = subprocess.run([program, "kustomize", directory], capture_output=True, text=True, check=True).stdout
    return list(yaml.safe_load_all(output))


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    named = {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): m for m in manifests}
    assert len(named) == len(manifests)
    return named


@pytest.mark.parametrize(
    ("directory", "wanted"),
    [
        (".", Installation()),
        ("overlays/without-secrets", Installation(secrets=False)),
        ("overlays/namespaced", Installation(namespaces=("agents",))),
        ("overlays/docker", Installation(docker=True)),
        ("overlays/audit-trail", Installation(trail="10Gi")),
        ("overlays/node-agent", Installation(node_agent=True)),
        ("overlays/policy-reports", Installation(policy_reports="Auto")),
        ("overlays/plugin-policies", Installation(plugin_policies=True)),
        ("overlays/volume-snapshots", Installation(volume_snapshots=True)),
    ],
)
def test_install_and_kustomize_give_the_same(directory: str, wanted: Installation) -> None:
    assert by_name(render(wanted)) == by_name(kustomize(sources() / directory))


IN_A_NAMESPACE = (
    "claude-sandbox-operator",
    "claude-sandbox-operator-namespace",
    "claude-sandbox-operator-secrets",
)


def test_every_namespace_that_is_looked_after_gets_its_rights_and_no_other() -> None:
    found = render(Installation(namespaces=("one", "two")))
    bound = {(m["metadata"]["namespace"], m["roleRef"]["name"]) for m in found if m["kind"] == "RoleBinding"}
    assert bound == {
        (NAMESPACE, "claude-sandbox-operator-leader-election"),
        (PROBES, "claude-sandbox-operator-probes"),
        *((name, role) for name in ("one", "two") for role in IN_A_NAMESPACE),
    }
    everywhere = [m["roleRef"]["name"] for m in found if m["kind"] == "ClusterRoleBinding"]
    assert everywhere == ["claude-sandbox-operator-rights", "claude-sandbox-operator-nodes"]
    assert arguments(found)[-2:] == ["--namespace=one", "--namespace=two"]


def test_agents_on_nodes_have_the_operators_image_and_are_off_by_default() -> None:
    found = render(Installation(operator_image="example.test/operator:1", node_agent=True, namespaces=("one",)))
    (agent,) = (m for m in found if m["kind"] == "DaemonSet")
    assert agent["spec"]["template"]["spec"]["containers"][0]["image"] == "example.test/operator:1"
    assert "--node-agent" in arguments(found)
    # Its rights are in the namespace of the agents alone, whichever is looked after.
    (role,) = (
        m for m in found if m["metadata"]["name"] == "claude-sandbox-operator-node-agent" and m["kind"] == "Role"
    )
    assert role["metadata"]["namespace"] == NODES
    without = render(Installation())
    assert "--node-agent" not in arguments(without)
    assert NODES not in json.dumps(without)


def test_an_agent_on_a_node_has_no_more_than_is_listed() -> None:
    """What docs/operations.md lists: a field that is not here is one more privilege, or one less wall."""
    (agent,) = (m for m in render(Installation(node_agent=True)) if m["kind"] == "DaemonSet")
    pod = agent["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {name for name in pod if name.startswith("host")} == {"hostPID"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"secret", "hostPath"}
    assert [one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one] == ["/sys/fs/cgroup"]


def test_images_are_those_that_were_asked_for() -> None:
    found = render(Installation(operator_image="example.test/operator:1", sandbox_image="example.test/sandbox:2"))
    assert deployment(found)["image"] == "example.test/operator:1"
    assert [a for a in arguments(found) if a.startswith("--sandbox-image")] == [
        "--sandbox-image=example.test/sandbox:2"
    ]


def test_what_holds_for_all_gateways_is_mounted_and_replaces_the_operators_pods() -> None:
    def rendered(**gateways: Any) -> tuple[Manifest, list[Manifest]]:
        found = render(Installation(gateways=gateways or None))
        (deployment,) = (one for one in found if one["kind"] == "Deployment")
        return deployment["spec"]["template"], [one for one in found if one["kind"] == "ConfigMap"]

    template, (configuration,) = rendered(limits={"requests": 7})
    assert gateway_settings(configuration["data"]["gateways.json"]) == {"limits": {"requests": 7}}
    pod = template["spec"]
    container = pod["containers"][0]
    (mount,) = container["volumeMounts"]
    assert f"--gateway-settings={mount['mountPath']}/gateways.json" in container["args"]
    assert pod["volumes"] == [{"name": mount["name"], "configMap": {"name": configuration["metadata"]["name"]}}]
    assert template["metadata"] != rendered(limits={"requests": 8})[0]["metadata"]
    without, none = rendered()
    assert (none, "volumes" in without["spec"], "annotations" in without["metadata"]) == ([], False, False)


def test_an_audit_trail_is_kept_on_the_volume_that_was_asked_for() -> None:
    found = by_name(render(Installation(trail="5Gi", trail_class="slow", gateways={"limits": {}})))
    claim = found["PersistentVolumeClaim", NAMESPACE, "claude-sandbox-trail"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "5Gi"
    assert claim["storageClassName"] == "slow"
    deployment = found["Deployment", NAMESPACE, "claude-sandbox-operator"]["spec"]
    assert deployment["replicas"] == 1
    assert {one["name"] for one in deployment["template"]["spec"]["volumes"]} == {"trail", "gateways"}
    assert not any(kind == "PersistentVolumeClaim" for kind, _, _ in by_name(render(Installation())))


def test_the_operator_may_connect_to_an_api_server_on_an_unusual_port() -> None:
    (policy,) = (
        m
        for m in render(Installation(api_server_ports=frozenset({8443})))
        if m["kind"] == "NetworkPolicy" and m["metadata"]["namespace"] == NAMESPACE
    )
    assert [one["port"] for one in policy["spec"]["egress"][0]["ports"]] == [443, 6443, 8443]


def test_rendering_twice_gives_the_same() -> None:
    wanted = Installation(namespaces=("one", "two"), secrets=False, api_server_ports=frozenset({8443}))
    assert json.dumps(render(wanted)) == json.dumps(render(wanted))


def test_the_manifests_know_the_current_image_and_version() -> None:
    project = (sources().parent / "pyproject.toml").read_text()
    version = next(line.split('"')[1] for line in project.splitlines() if line.startswith("version = "))
    assert deployment(render(Installation()))["image"].endswith(f"operator:{version}")


SAMPLES = [
    pytest.param(document, id=f"{file.stem}-{document['kind']}")
    for file in sorted((sources() / "samples").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]


@pytest.mark.parametrize("document", [param for param in SAMPLES if param.values[0]["kind"] == meta.KIND])
def test_samples_are_accepted_by_the_models(document: Manifest) -> None:
    assert refused_metadata(document) == ()
    assert parse_spec(document).credentials.api_key_secret_ref.name == "anthropic-api-key"


@pytest.mark.parametrize("document", [param for param in SAMPLES if param.values[0]["kind"] == meta.HOST_KIND])
def test_sample_hosts_are_accepted_by_the_models_and_are_for_some_only(document: Manifest) -> None:
    assert refused_host_metadata(document) == ()
    assert not parse_host_spec(document).allowed_namespaces.permits("default", {})


def test_no_sample_holds_a_secret() -> None:
    assert "Secret" not in {param.values[0]["kind"] for param in SAMPLES}


def deployment(manifests: list[Manifest]) -> Manifest:
    (found,) = (m for m in manifests if m["kind"] == "Deployment")
    container: Manifest = found["spec"]["template"]["spec"]["containers"][0]
    return container


def arguments(manifests: list[Manifest]) -> list[str]:
    return list(deployment(manifests)["args"])
