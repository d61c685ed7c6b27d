"""Whatever the spec asks for, the workload is hardened."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.claudecode import pinned
from claude_sandbox.compliance.pods.pod_security import violations

IDENTITY = Identity("agents", "alice", "11111111-1111-1111-1111-111111111111")
IMAGE = parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent")

MOUNTED = {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}

specs = st.fixed_dictionaries(
    {"credentials": st.sampled_from([{"apiKeySecretRef": {"name": "key"}}, MOUNTED])},
    optional={
        "resources": st.fixed_dictionaries({"memory": st.sampled_from(["256Mi", "300M", "2Gi", "64Gi"])}),
        "workspace": st.sampled_from([{"type": "EmptyDir", "size": "1Gi"}, {"retention": "Delete"}]),
        "network": st.fixed_dictionaries(
            {
                "egress": st.sampled_from(
                    [{}, {"dns": False}, {"allowedCIDRs": []}, {"allowedCIDRs": ["192.0.2.0/24"]}]
                ),
                "ports": st.sampled_from([[], [{"name": "web", "containerPort": 8080}]]),
            }
        ),
        "command": st.lists(st.text(min_size=1, max_size=5), max_size=2),
        "env": st.sampled_from([[], [{"name": "LANG", "value": "C"}]]),
    },
)


PRODUCTION = {
    "credentials": {"apiKeySecretRef": {"name": "key"}},
    "profile": "Production",
    "budget": {"maxCostUSD": "20"},
    "lifecycle": {"ttl": "30d"},
    "backup": {
        "schedule": "30 2 * * *",
        "target": {"type": "VolumeClaim", "claimName": "b"},
        "passwordSecretRef": {"name": "b"},
    },
}
specs = specs | st.just(PRODUCTION)


def blueprint(spec: dict[str, Any]) -> Blueprint:
    parsed = ClaudeSandboxSpec.model_validate({"image": {"repository": "x", "digest": "sha256:" + "b" * 64}} | spec)
    return build(IDENTITY, parsed, Site(IMAGE))


def of_the_operators_image(spec: dict[str, Any]) -> Blueprint:
    return build(IDENTITY, ClaudeSandboxSpec.model_validate(spec), Site(IMAGE))


@given(specs, st.sampled_from([34, 35, 36, 37]))
def test_every_pod_passes_the_restricted_standard(spec: dict[str, Any], minor: int) -> None:
    assert violations(objects.pod(blueprint(spec), "1"), "restricted", minor) == ()


@given(specs)
def test_every_policy_denies_both_directions_by_default(spec: dict[str, Any]) -> None:
    policy = objects.network_policy(blueprint(spec))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for rule in policy["ingress"]:
        assert rule["from"]
        assert rule["ports"]
    for rule in policy["egress"]:
        assert rule["to"]
        assert rule["ports"]


@given(specs)
def test_a_policy_selects_the_sandbox_and_no_other(spec: dict[str, Any]) -> None:
    made = blueprint(spec)
    selector = objects.network_policy(made)["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= objects.pod(made, None)["metadata"]["labels"].items()
    assert IDENTITY.uid in selector.values()


@given(specs)
def test_files_in_memory_can_never_fill_the_memory_limit(spec: dict[str, Any]) -> None:
    made = blueprint(spec)
    assert sum(scratch.size for scratch in made.scratch) < made.limits.memory / 2


@given(specs)
def test_the_key_is_mounted_as_a_file_and_appears_nowhere_else(spec: dict[str, Any]) -> None:
    pod = objects.pod(blueprint(spec), "1")["spec"]
    container = pod["containers"][0]
    assert all(set(variable) == {"name", "value"} for variable in container["env"])
    assert "envFrom" not in container
    secrets = [volume for volume in pod["volumes"] if "secret" in volume]
    if spec["credentials"] == MOUNTED:
        assert [volume["secret"]["defaultMode"] for volume in secrets] == [0o440]
        (volume,) = secrets
    else:
        # A token that its gateway takes, and nobody else.
        assert not secrets
        (volume,) = (one for one in pod["volumes"] if "serviceAccountToken" in json.dumps(one))
        assert volume["projected"]["defaultMode"] == 0o440
        assert [one["serviceAccountToken"]["audience"] for one in volume["projected"]["sources"]] == [meta.GATEWAY]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
    assert mount["readOnly"]
    assert "subPath" not in mount


def test_a_repository_can_not_send_the_key_elsewhere() -> None:
    made = of_the_operators_image({"credentials": MOUNTED})
    settings = json.loads(made.settings.content)
    assert settings["apiKeyHelper"] == f"/bin/cat {made.key.path}"
    assert settings["env"]["ANTHROPIC_BASE_URL"] == "https://api.anthropic.com"
    assert settings == pinned.managed_settings(made.key.path)


def test_an_editor_that_the_sandbox_chooses_is_the_one_that_no_repository_can_change() -> None:
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "env": [{"name": "EDITOR", "value": "nano"}]}
    made = blueprint(spec)
    assert ("EDITOR", "nano") in made.environment
    assert json.loads(made.settings.content)["env"]["EDITOR"] == "nano"


def test_production_keeps_the_workspace_read_only() -> None:
    key = {"credentials": {"apiKeySecretRef": {"name": "key"}}}
    assert blueprint(PRODUCTION).workspace.read_only
    assert not blueprint(key).workspace.read_only
