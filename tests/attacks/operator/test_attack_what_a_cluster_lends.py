"""A person who may create sandboxes names what the cluster lends to others: a login, a RuntimeClass, a profile.

What it would gain: with any login of the namespace whatever image it can pull runs and can be read, also those of
other teams; with any RuntimeClass a pod comes to nodes, and under a handler, that were made for what is trusted. No
field named either before. Closed by asking who administers them: the namespace's annotation names the Secrets
(`backends/kubernetes/watches/secret_opt_in.py`), the operator's option the RuntimeClasses
(`controller/sandboxes/accepted_specs.py`). Against a real API server: tests/operator/sandboxes/test_operator_room.py.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.validate import InvalidSpec
from claude_sandbox.backends.kubernetes.watches.secret_opt_in import refused_pull_secrets
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Identity, Site
from claude_sandbox.controller.sandboxes.accepted_specs import AcceptedSpecs

IDENTITY = Identity("agents", "alice", "11111111-1111-1111-1111-111111111111")
IMAGE = parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent")
NAMES = st.lists(st.sampled_from(["ghcr", "ghcr2", "registry.example", "api-key"]), max_size=4, unique=True)


def namespace(listed: str | None) -> dict[str, Any]:
    annotations = {} if listed is None else {meta.ANNOTATION_NAMESPACE_PULL_SECRETS: listed}
    return {"metadata": {"name": "agents", "annotations": annotations}}


@given(asked=NAMES, listed=NAMES)
def test_a_login_is_used_exactly_where_the_namespace_names_it(asked: list[str], listed: list[str]) -> None:
    found = refused_pull_secrets(asked, "agents", "alice", namespace(" , ".join(listed)))
    assert (found is None) == (set(asked) <= set(listed))
    if found is not None:
        assert (found.reason, found.permanent) == (Reason.PULL_SECRET_NOT_ALLOWED, True)
        assert all(name in found.message for name in set(asked) - set(listed))


@pytest.mark.parametrize("live", [None, namespace(None), namespace(""), namespace("ghc"), namespace("ghcr2 ghcr")])
def test_nor_where_that_is_not_known_or_another_is_named(live: dict[str, Any] | None) -> None:
    assert refused_pull_secrets(["ghcr"], "agents", "alice", live) is not None
    assert refused_pull_secrets([], "agents", "alice", live) is None


def test_that_a_secret_may_be_used_as_a_key_does_not_make_it_a_login() -> None:
    live = {"metadata": {"annotations": {meta.ANNOTATION_NAMESPACE_SECRETS: "ghcr"}}}
    assert refused_pull_secrets(["ghcr"], "agents", "alice", live) is not None


def refused(security: dict[str, Any], **site: Any) -> str:
    """Why the operator does not accept it; empty where it does."""
    raw = {
        "metadata": {"name": "alice", "namespace": "agents", "uid": IDENTITY.uid, "generation": 1},
        "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}, "security": security},
    }
    try:
        AcceptedSpecs(Site(IMAGE, **site), docker=False).of(json.loads(json.dumps(raw)), IDENTITY)
    except InvalidSpec as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "allowed"), [("kata", {"kata", "gvisor"}), ("privileged", {"kata"}), ("kata", set()), ("kat", {"kata"})]
)
def test_a_runtime_class_is_one_of_those_that_the_operator_was_told(name: str, allowed: set[str]) -> None:
    found = refused({"runtimeClassName": name}, runtime_classes=frozenset(allowed))
    assert ("spec.security.runtimeClassName" in found) is (name not in allowed)
    assert all(one in found for one in allowed) or name in allowed


def test_strict_is_a_file_of_which_the_operator_was_told_where_nodes_have_it() -> None:
    strict = {"seccompProfile": {"type": "Strict"}}
    found = refused(strict)
    for word in ("spec.security.seccompProfile.type", "--strict-seccomp-profile", "use RuntimeDefault, or set spec"):
        assert word in found
    assert refused(strict, strict_profile="strict.json") == ""
    assert refused({}) == ""


def test_a_profile_of_app_armor_is_one_of_those_that_the_operator_was_told() -> None:
    """One may be there that lets everything pass, on a node or a Docker host."""
    profile = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "lxc-container-default"}}
    found = refused(profile, app_armor_profiles=frozenset({"claude"}))
    assert "spec.security.appArmorProfile.localhostProfile" in found
    assert "(--apparmor-profile): write one of claude, or" in found
    assert refused(profile, app_armor_profiles=frozenset({"lxc-container-default"})) == ""
    assert refused({"appArmorProfile": {"type": "RuntimeDefault"}}) == ""


@pytest.mark.parametrize("name", ["unconfined", "Unconfined", "", "a b", "a,b", "../a", None])
def test_nor_does_a_name_turn_it_off(name: str | None) -> None:
    profile = {"appArmorProfile": {"type": "Localhost", "localhostProfile": name}}
    assert refused(profile, app_armor_profiles=frozenset({str(name)}))


def test_all_that_is_not_lent_is_told_at_once() -> None:
    found = refused({"runtimeClassName": "kata", "seccompProfile": {"type": "Strict"}})
    assert "spec.security.runtimeClassName" in found
    assert "spec.security.seccompProfile.type" in found
