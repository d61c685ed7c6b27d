"""What of the home outlives the workload, and what never does."""

from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.docker import objects as docker
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.keys.delivery import settings_archive
from claude_sandbox.backends.kubernetes import objects as kubernetes
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site

KEPT = {"keepHome": {"size": "2Gi"}}


def blueprint(**workspace: Any) -> Blueprint:
    spec = {"credentials": {"apiKeySecretRef": {"name": "key"}}, "workspace": workspace}
    identity = Identity("agents", "alice", "1", "2")
    site = Site(parse_image("x@sha256:" + "a" * 64, "Always"))
    return build(identity, ClaudeSandboxSpec.model_validate(spec), site)


def test_nothing_is_kept_where_nobody_asked() -> None:
    bare = blueprint()
    assert bare.kept_home is None
    assert kubernetes.home_claim(bare) is None
    assert docker.documents(bare, "c", EngineCapabilities()).home is None
    assert "CLAUDE_CONFIG_DIR" not in dict(bare.environment)


def test_what_claude_code_keeps_is_kept_and_what_it_signs_in_with_is_not() -> None:
    environment = dict(blueprint(**KEPT).environment)
    assert environment["CLAUDE_CONFIG_DIR"] == agent.CONFIG_DIRECTORY
    # In the home, which is in memory, and not below what is kept.
    credentials = environment["CLAUDE_SECURESTORAGE_CONFIG_DIR"]
    assert credentials.startswith(f"{agent.HOME}/")
    assert not credentials.startswith(f"{agent.CONFIG_DIRECTORY}/")


def test_on_kubernetes_it_is_a_claim_of_its_own_with_the_workspace_s_class_and_retention() -> None:
    made = blueprint(**KEPT, storageClassName="fast")
    claim = kubernetes.home_claim(made)
    assert claim is not None
    assert claim["metadata"]["name"] == meta.home_name("alice") == "sandbox-alice-home"
    assert "ownerReferences" not in claim["metadata"]
    assert (claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]["storage"]) == ("fast", "2Gi")
    owned = kubernetes.home_claim(blueprint(**KEPT, retention="Delete"))
    assert owned is not None
    assert owned["metadata"]["ownerReferences"][0]["uid"] == "1"
    spec = kubernetes.pod(made, "1")["spec"]
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert "readOnly" not in mounts[agent.CONFIG_DIRECTORY]
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert volumes[mounts[agent.CONFIG_DIRECTORY]["name"]]["persistentVolumeClaim"]["claimName"] == "sandbox-alice-home"
    assert volumes[mounts[agent.HOME]["name"]]["emptyDir"]["medium"] == "Memory"


def test_on_docker_it_is_a_volume_of_its_own_that_the_agent_may_write_to_whatever_the_workspace_is() -> None:
    for read_only in (False, True):
        made = blueprint(**KEPT, readOnly=read_only)
        documents = docker.documents(made, "c", EngineCapabilities())
        mounts = {one["Target"]: one for one in documents.container["HostConfig"]["Mounts"]}
        assert mounts[agent.CONFIG_DIRECTORY]["Source"] == documents.names.home
        assert mounts[agent.CONFIG_DIRECTORY]["ReadOnly"] is False
        assert agent.CONFIG_DIRECTORY.encode().lstrip(b"/") in settings_archive(made)
