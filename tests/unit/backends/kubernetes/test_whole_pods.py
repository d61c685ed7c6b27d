"""Whatever is added to a pod is found, wherever it is; and what the API server fills in is not."""

import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import drift
from claude_sandbox.backends.kubernetes.admission import Pod, PodAdmission, fingerprint, revision
from claude_sandbox.backends.kubernetes.objects import pod as pod_of
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site

IDENTITY = Identity("agents", "alice", "11111111-1111-1111-1111-111111111111")
IMAGE = parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent")
SPEC = {
    "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"},
    "network": {"ports": [{"name": "web", "containerPort": 8080}]},
}
WANTED: Any = pod_of(build(IDENTITY, ClaudeSandboxSpec.model_validate(SPEC), Site(IMAGE)), "7")


def _places(value: Any) -> list[dict[str, Any]]:
    """Every map of a document."""
    below = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if isinstance(value, dict) else []) + [place for one in below for place in _places(one)]


@given(st.data())
def test_a_field_that_nobody_has_heard_of_is_a_difference_anywhere(data: st.DataObject) -> None:
    pod = copy.deepcopy(WANTED)
    places = _places(pod["spec"])
    place = data.draw(st.sampled_from(range(len(places))))
    places[place]["invented"] = data.draw(st.sampled_from(["x", 7, True, ["x"], {"a": "b"}, [{"name": "x"}]]))
    found = drift.pod_differences(WANTED, pod)
    assert len(found) == 1
    assert "invented" in found[0]


@given(st.data())
def test_a_field_that_is_taken_away_is_a_difference_anywhere(data: st.DataObject) -> None:
    pod = copy.deepcopy(WANTED)
    filled = [place for place in _places(pod["spec"]) if any(place.values())]
    place = data.draw(st.sampled_from(range(len(filled))))
    name = data.draw(st.sampled_from(sorted(key for key, value in filled[place].items() if value)))
    # An API server that does not know it yet drops it.
    assume(name != "supplementalGroupsPolicy")
    del filled[place][name]
    assert drift.pod_differences(WANTED, pod)


def test_an_api_server_may_not_know_the_policy_of_groups_but_nobody_may_choose_another() -> None:
    pod = copy.deepcopy(WANTED)
    context = pod["spec"]["securityContext"]
    context["supplementalGroupsPolicy"] = "Merge"
    assert drift.pod_differences(WANTED, pod) == ("spec.securityContext.supplementalGroupsPolicy",)
    del context["supplementalGroupsPolicy"]
    assert drift.pod_differences(WANTED, pod) == ()


def test_of_two_variables_of_one_name_neither_is_ours() -> None:
    pod = copy.deepcopy(WANTED)
    first = pod["spec"]["containers"][0]["env"][0]
    pod["spec"]["containers"][0]["env"].insert(0, first | {"value": "theirs"})
    assert drift.pod_differences(WANTED, pod)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("mirror.example/claude@sha256:" + "a" * 64, ()),
        ("example.org/claude@sha256:" + "b" * 64, ("spec.containers[agent].image",)),
        ("example.org/claude:latest", ("spec.containers[agent].image",)),
    ],
)
def test_the_same_image_may_come_from_another_registry(image: str, found: tuple[str, ...]) -> None:
    pod = copy.deepcopy(WANTED)
    pod["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": "Always"}
    assert drift.pod_differences(WANTED, pod) == found


def _live(uid: str) -> Any:
    return copy.deepcopy(WANTED) | {"metadata": WANTED["metadata"] | {"uid": uid}}


def test_a_pod_is_ours_by_our_own_create_or_by_the_status_and_of_that_very_sandbox_only() -> None:
    told: list[Pod | None] = [None]
    found = PodAdmission(None, lambda _: told[0])  # type: ignore[arg-type]
    assert found.ours(IDENTITY, _live("1")) is None
    found.made(IDENTITY, _live("1"))
    assert found.ours(IDENTITY, _live("1")) == Pod("1", revision(_live("1")))
    assert found.ours(IDENTITY, _live("2")) is None
    assert found.ours(Identity("agents", "alice", "another"), _live("1")) is None
    found.forget("agents", "alice")
    assert found.ours(IDENTITY, _live("1")) is None
    told[0] = Pod("2", "made/so")
    assert found.ours(IDENTITY, _live("2")) == Pod("2", "made/so")
    assert found.ours(IDENTITY, _live("1")) is None


def test_a_revision_is_short_enough_for_a_status_and_says_what_was_changed_since() -> None:
    assert len(revision(_live("1"))) <= 64
    assert revision(_live("1")).partition("/")[0] == WANTED["metadata"]["annotations"][meta.ANNOTATION_SPEC_HASH]
    changed = _live("1")
    changed["spec"]["containers"][0]["image"] = "example.org/theirs"
    assert fingerprint(changed) != fingerprint(_live("1"))
    placed = _live("1")
    placed["spec"] |= {"nodeName": "a", "tolerations": [{"key": "x"}]}
    assert fingerprint(placed) == fingerprint(_live("1"))


CHOSEN = SPEC | {
    "image": {"repository": "example.org/claude", "tag": "1", "pullSecretRefs": [{"name": "ghcr"}, {"name": "other"}]},
    "security": {"runtimeClassName": "gvisor", "userNamespace": True},
}


def test_what_only_some_sandboxes_ask_for_is_in_their_pods_alone() -> None:
    pod: Any = pod_of(build(IDENTITY, ClaudeSandboxSpec.model_validate(CHOSEN), Site(IMAGE)), "7")
    asked = {
        "imagePullSecrets": [{"name": "ghcr"}, {"name": "other"}],
        "runtimeClassName": "gvisor",
        "hostUsers": False,
    }
    assert {key: pod["spec"][key] for key in asked} == asked
    assert not asked.keys() & WANTED["spec"].keys()
    for key, other in (("imagePullSecrets", [{"name": "ghcr"}]), ("runtimeClassName", "runc"), ("hostUsers", True)):
        changed = copy.deepcopy(pod)
        changed["spec"][key] = other
        assert drift.pod_differences(pod, changed) == (f"spec.{key}",)
        del changed["spec"][key]
        assert drift.pod_differences(pod, changed) == (f"spec.{key}",)
    # Admission fills the first two in where nobody asked; that users are the node's is nobody's to change.
    filled = copy.deepcopy(WANTED)
    filled["spec"] |= asked
    assert drift.pod_differences(WANTED, filled) == ()
