"""What is written, in which order, and what never is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec, UpdateStrategyType
from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.kubernetes.plan import LEFTOVER_PATIENCE, Desired, Observed, Verb, desire, plan
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Identity, Site

IDENTITY = Identity("agents", "alice", "11111111-1111-1111-1111-111111111111")
IMAGE = parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent")
FIRST = Past(provisioned=False, ran=False, settled=False)
CHANGED = Past(provisioned=True, ran=True, settled=False)
DONE = Past(provisioned=True, ran=True, settled=True)
PARTS = ("baseline", "account", "policy", "service", "claim", "pod")


def desired(spec: dict[str, Any] | None = None, *, may_start: bool = True, generation: str | None = "7") -> Desired:
    document = {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}} | (spec or {})
    parsed = ClaudeSandboxSpec.model_validate(document)
    blueprint = build(IDENTITY, parsed, Site(IMAGE))
    return desire(blueprint, generation, may_start, parsed.update_strategy.type)


def live(manifest: Any, **metadata: Any) -> Any:
    """The manifest as if the API server had stored it."""
    return dict(manifest) | {"metadata": manifest["metadata"] | {"uid": "u", "resourceVersion": "1"} | metadata}


def all_live(wanted: Desired, **replaced: Any) -> Observed:
    parts = {part: getattr(wanted, part) for part in PARTS}
    found = {part: live(manifest) for part, manifest in parts.items() if manifest is not None}
    return Observed(**(found | replaced))


def steps(wanted: Desired, observed: Observed, past: Past = DONE) -> list[str]:
    result = plan(wanted, observed, past)
    return [f"{step.verb.value} {step.kind} {step.name}" for step in result.steps]


PORTS = {"network": {"ports": [{"name": "web", "containerPort": 8080}]}}


def test_what_denies_comes_first_and_the_pod_last() -> None:
    result = plan(desired(PORTS), Observed(), FIRST)
    kinds = [[step.kind for step in stage] for stage in result.stages]
    assert kinds == [
        ["NetworkPolicy"],
        ["ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim", "Service"],
        ["Pod"],
    ]
    assert {step.cause for step in result.steps} == {Cause.PROVISION}


def test_nothing_is_written_when_all_is_as_desired() -> None:
    wanted = desired(PORTS)
    assert steps(wanted, all_live(wanted)) == []


@given(st.sets(st.sampled_from(PARTS)))
def test_what_is_missing_is_made_and_nothing_else(missing: set[str]) -> None:
    wanted = desired(PORTS)
    observed = all_live(wanted, **dict.fromkeys(missing))
    result = plan(wanted, observed, DONE)
    assert {step.manifest["metadata"]["name"] + step.kind for step in result.steps} == {
        getattr(wanted, part)["metadata"]["name"] + getattr(wanted, part)["kind"] for part in missing
    }
    assert all(step.verb is Verb.CREATE and step.cause is Cause.HEAL for step in result.steps)


def test_without_its_key_everything_but_the_pod_is_made() -> None:
    assert not any("Pod" in step for step in steps(desired(may_start=False), Observed()))
    assert "create NetworkPolicy sandbox-alice" in steps(desired(may_start=False), Observed())


def test_a_running_pod_is_left_alone_when_its_key_goes_away() -> None:
    wanted = desired(may_start=False)
    assert steps(wanted, all_live(wanted)) == []


@pytest.mark.parametrize("part", [part for part in PARTS if part != "baseline"])
def test_an_object_of_somebody_else_is_refused_and_no_pod_is_started(part: str) -> None:
    wanted = desired(PORTS)
    mine = all_live(wanted, pod=None)
    theirs = live(getattr(wanted, part), ownerReferences=[{"kind": "Deployment", "uid": "x", "controller": True}])
    result = plan(wanted, all_live(wanted, **{"pod": None, part: theirs}), DONE)
    assert result.foreign == (f"{theirs['kind']} {theirs['metadata']['name']}",)
    assert result.steps == ()
    assert steps(wanted, mine) == ["create Pod sandbox-alice"]


def _owned_by(manifest: Any, **changed: Any) -> Any:
    """The object as another ClaudeSandbox would own it."""
    owner = dict(manifest["metadata"]["ownerReferences"][0]) | changed
    return live(manifest, ownerReferences=[owner])


@pytest.mark.parametrize("part", ["account", "policy", "service", "pod"])
def test_the_objects_of_an_earlier_sandbox_of_the_same_name_are_waited_for_but_not_for_ever(part: str) -> None:
    wanted = desired(PORTS)
    left = _owned_by(getattr(wanted, part), uid="an earlier one")
    observed = all_live(wanted, **{"pod": None, part: left})
    young = plan(wanted, observed, replace(FIRST, age=LEFTOVER_PATIENCE - 1))
    old = plan(wanted, observed, replace(FIRST, age=LEFTOVER_PATIENCE))
    name = f"{left['kind']} sandbox-alice"
    assert (young.foreign, young.leftover, young.steps) == ((), (name,), ())
    assert (old.foreign, old.leftover, old.steps) == ((name,), (), ())


def test_what_an_earlier_sandbox_had_and_no_watch_shows_any_more_is_not_waited_for() -> None:
    wanted = desired()
    left = _owned_by(wanted.account, uid="an earlier one")
    del left["metadata"]["labels"]
    result = plan(wanted, all_live(wanted, account=left, pod=None), FIRST)
    assert (result.foreign, result.leftover, result.steps) == (("ServiceAccount sandbox-alice",), (), ())


@pytest.mark.parametrize(
    "other", [{"uid": "bobs", "name": "bob"}, {"uid": "x", "kind": "Other"}, {"controller": False}]
)
def test_an_object_with_another_owner_is_foreign(other: dict[str, Any]) -> None:
    wanted = desired()
    observed = all_live(wanted, policy=_owned_by(wanted.policy, **other), pod=None)
    result = plan(wanted, observed, FIRST)
    assert (result.foreign, result.leftover, result.steps) == (("NetworkPolicy sandbox-alice",), (), ())


def test_a_retained_workspace_is_taken_up_again_by_the_next_sandbox_of_that_name() -> None:
    wanted = desired()
    labels = wanted.claim["metadata"]["labels"] | {meta.LABEL_SANDBOX_UID: "an earlier one"}  # type: ignore[index]
    observed = all_live(wanted, claim=live(wanted.claim, labels=labels))
    assert plan(wanted, observed, DONE).foreign == ()


WIDENED = [
    {"egress": [{}]},
    {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]},
    {"ingress": [{}]},
    {"policyTypes": ["Ingress"]},
    {"podSelector": {"matchLabels": {"app": "other"}}},
]


@pytest.mark.parametrize("change", WIDENED)
def test_a_policy_that_was_widened_is_put_back(change: dict[str, Any]) -> None:
    wanted = desired()
    policy = live(wanted.policy)
    policy["spec"] = policy["spec"] | change
    assert steps(wanted, all_live(wanted, policy=policy)) == ["apply NetworkPolicy sandbox-alice"]


def test_a_port_range_added_to_a_rule_is_noticed() -> None:
    wanted = desired(PORTS)
    policy = live(wanted.policy)
    rule = policy["spec"]["ingress"][0]
    policy["spec"] = policy["spec"] | {
        "ingress": [rule | {"ports": [rule["ports"][0] | {"endPort": 65535}]}],
    }
    assert steps(wanted, all_live(wanted, policy=policy)) == ["apply NetworkPolicy sandbox-alice"]


def test_a_changed_spec_is_an_update_and_not_a_heal() -> None:
    old = desired()
    new = desired({"network": {"egress": {"allowedCIDRs": ["192.0.2.0/24"]}}})
    result = plan(new, all_live(old, pod=None), CHANGED)
    assert [(step.kind, step.cause) for step in result.stages[0]] == [("NetworkPolicy", Cause.UPDATE)]


def test_a_pod_that_was_not_there_before_was_not_lost() -> None:
    wanted = desired()
    asleep = Past(provisioned=True, ran=False, settled=True)
    (woken,) = plan(wanted, all_live(wanted, pod=None), asleep).steps
    (lost,) = plan(wanted, all_live(wanted, account=None), asleep).steps
    assert [woken.cause, lost.cause] == [Cause.PROVISION, Cause.HEAL]


def test_a_service_for_the_first_port_was_not_lost() -> None:
    new = desired(PORTS)
    added = plan(new, all_live(new, service=None), CHANGED)
    lost = plan(new, all_live(new, service=None), DONE)
    assert [[step.cause for step in result.steps] for result in (added, lost)] == [[Cause.UPDATE], [Cause.HEAL]]


def test_a_new_key_touches_the_pod_and_replaces_nothing() -> None:
    before, after = desired(generation="7"), desired(generation="8")
    result = plan(after, all_live(before), DONE)
    assert [(step.verb, step.kind, step.cause) for step in result.steps] == [(Verb.APPLY, "Pod", Cause.UPDATE)]
    annotations = result.steps[0].manifest["metadata"]["annotations"]
    assert annotations[meta.ANNOTATION_KEY_GENERATION] == "8"
    assert "spec" not in result.steps[0].manifest


def test_a_pod_that_lost_the_label_by_which_its_policy_finds_it_gets_it_back() -> None:
    wanted = desired()
    result = plan(wanted, all_live(wanted, pod=live(wanted.pod, labels={})), DONE)
    assert [(step.verb, step.kind, step.cause) for step in result.steps] == [(Verb.APPLY, "Pod", Cause.HEAL)]


def _with_spec(pod: Any, **change: Any) -> Any:
    changed = live(pod)
    return changed | {"spec": changed["spec"] | change}


def _with_container(pod: Any, **change: Any) -> Any:
    container = pod["spec"]["containers"][0]
    return _with_spec(pod, containers=[container | change])


DRIFTED = {
    "ephemeral container": lambda pod: _with_spec(pod, ephemeralContainers=[{"name": "debug"}]),
    "host network": lambda pod: _with_spec(pod, hostNetwork=True),
    "another image": lambda pod: _with_container(pod, image="evil"),
    "sidecar": lambda pod: _with_spec(pod, containers=[*pod["spec"]["containers"], {"name": "sidecar"}]),
    "volume": lambda pod: _with_spec(pod, volumes=[*pod["spec"]["volumes"], {"name": "host", "hostPath": {}}]),
    "env from": lambda pod: _with_container(pod, envFrom=[{"secretRef": {"name": "x"}}]),
    "capability": lambda pod: _with_container(
        pod,
        securityContext=pod["spec"]["containers"][0]["securityContext"]
        | {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
    ),
    "less memory limit": lambda pod: _with_container(pod, resources={"limits": {}, "requests": {}}),
}


@pytest.mark.parametrize("how", DRIFTED)
def test_a_drifted_pod_is_reported_and_replaced_only_where_the_spec_says_so(how: str) -> None:
    for strategy, verbs in (("OnDelete", []), ("Recreate", [Verb.DELETE])):
        wanted = desired({"updateStrategy": {"type": strategy}})
        result = plan(wanted, all_live(wanted, pod=DRIFTED[how](wanted.pod)), DONE)
        assert result.drifted
        assert [step.verb for step in result.steps] == verbs
        assert all(step.paced for step in result.steps)


def test_what_the_api_server_adds_or_writes_in_its_own_way_is_no_drift() -> None:
    wanted = desired()
    container = wanted.pod["spec"]["containers"][0]
    defaulted = container | {
        "terminationMessagePath": "/dev/termination-log",
        "resources": {
            "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "8Gi"},
            "requests": {"cpu": "250m", "memory": "2Gi", "ephemeral-storage": "1Gi"},
        },
    }
    pod = _with_spec(wanted.pod, containers=[defaulted], dnsPolicy="ClusterFirst", nodeName="node", priority=0)
    assert plan(wanted, all_live(wanted, pod=pod), DONE).drifted == ()


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_is_replaced_at_a_bounded_pace(phase: str) -> None:
    wanted = desired()
    pod = live(wanted.pod) | {"status": {"phase": phase}}
    (step,) = plan(wanted, all_live(wanted, pod=pod), DONE).steps
    assert (step.verb, step.cause, step.paced) == (Verb.DELETE, Cause.HEAL, True)


def test_a_terminating_pod_is_waited_for() -> None:
    wanted = desired()
    assert steps(wanted, all_live(wanted, pod=live(wanted.pod, deletionTimestamp="2026-01-01T00:00:00Z"))) == []


def test_a_suspended_sandbox_keeps_everything_but_its_pod() -> None:
    wanted = desired({"operatingMode": "Suspended"})
    assert steps(wanted, all_live(wanted)) == ["delete Pod sandbox-alice"]
    assert steps(wanted, all_live(wanted, pod=None)) == []


def test_a_pod_of_an_earlier_spec_is_replaced_only_where_the_spec_says_so() -> None:
    old = desired()
    for strategy in UpdateStrategyType:
        new = desired({"resources": {"memory": "4Gi"}, "updateStrategy": {"type": strategy.value}})
        result = plan(new, all_live(old), CHANGED)
        assert result.spec_changed
        assert result.drifted == ()
        verbs = [(step.verb, step.kind) for step in result.steps]
        assert verbs == ([(Verb.DELETE, "Pod")] if strategy is UpdateStrategyType.RECREATE else [])


def test_ports_that_are_no_longer_declared_lose_their_service() -> None:
    old, new = desired(PORTS), desired()
    assert "delete Service sandbox-alice" in steps(new, all_live(new, service=live(old.service)), CHANGED)


def test_a_pod_that_the_operator_did_not_make_is_foreign_whatever_owner_it_names() -> None:
    wanted = desired({"updateStrategy": {"type": "Recreate"}})
    theirs = replace(all_live(wanted), pod_is_foreign=True)
    result = plan(wanted, theirs, DONE)
    assert (result.foreign, result.steps, result.drifted) == (("Pod sandbox-alice",), (), ())


def test_what_admission_does_is_told_and_not_undone() -> None:
    wanted = desired({"updateStrategy": {"type": "Recreate"}})
    pod = live(wanted.pod)
    pod["spec"] = pod["spec"] | {"hostAliases": [{"ip": "192.0.2.7"}]}
    imposed = {"Pod sandbox-alice": frozenset({"spec.hostAliases"})}
    assert steps(wanted, all_live(wanted, pod=pod)) == ["delete Pod sandbox-alice"]
    told = plan(wanted, all_live(wanted, pod=pod, imposed=imposed), DONE)
    assert (told.steps, told.imposed) == ((), ("Pod sandbox-alice: spec.hostAliases",))
    assert told.drifted == ("spec.hostAliases",)
    assert steps(wanted, all_live(wanted, pod=None, imposed=imposed)) == []


def test_settings_are_put_back_in_a_pod_of_an_earlier_spec_too() -> None:
    earlier, wanted = desired({"resources": {"cpu": "300m"}}), desired()
    pod = live(earlier.pod)
    pod["metadata"]["annotations"] = pod["metadata"]["annotations"] | {meta.ANNOTATION_MANAGED_SETTINGS: "{}"}
    result = plan(wanted, all_live(wanted, pod=pod), DONE)
    (step,) = result.steps
    written = step.manifest["metadata"]["annotations"]
    assert result.spec_changed
    assert (step.verb, step.cause) == (Verb.APPLY, Cause.HEAL)
    assert (
        written[meta.ANNOTATION_MANAGED_SETTINGS]
        == wanted.pod["metadata"]["annotations"][meta.ANNOTATION_MANAGED_SETTINGS]
    )
    assert written[meta.ANNOTATION_SPEC_HASH] == earlier.pod["metadata"]["annotations"][meta.ANNOTATION_SPEC_HASH]


def test_the_settings_of_now_name_a_file_that_a_pod_for_another_key_has_too() -> None:
    earlier, wanted = (
        desired({"credentials": {"apiKeySecretRef": {"name": "keys", "key": key}, "delivery": "Mounted"}})
        for key in ("old.txt", "new.txt")
    )
    assert plan(wanted, all_live(wanted, pod=live(earlier.pod)), DONE).steps == ()
    settings = wanted.pod["metadata"]["annotations"][meta.ANNOTATION_MANAGED_SETTINGS]
    (mount,) = (one for one in earlier.pod["spec"]["containers"][0]["volumeMounts"] if one["name"] == "api-key")
    (volume,) = (one for one in earlier.pod["spec"]["volumes"] if one["name"] == "api-key")
    (item,) = volume["secret"]["items"]
    assert item["key"] == "old.txt"
    assert f'/bin/cat {mount["mountPath"]}/{item["path"]}"' in settings


def test_a_pod_of_an_earlier_spec_that_was_changed_since_has_drifted() -> None:
    earlier, wanted = desired({"resources": {"cpu": "300m"}}), desired()
    observed = all_live(wanted, pod=live(earlier.pod))
    assert plan(wanted, observed, DONE).drifted == ()
    assert plan(wanted, replace(observed, changed_since=True), DONE).drifted == ("spec, since the pod was made",)


def test_what_a_pod_was_made_from_is_what_was_recorded_not_what_its_annotation_says() -> None:
    wanted = desired()
    pod = live(wanted.pod)
    pod["metadata"]["annotations"] = pod["metadata"]["annotations"] | {meta.ANNOTATION_SPEC_HASH: "another"}
    pod["spec"] = pod["spec"] | {"hostAliases": [{"ip": "192.0.2.7"}]}
    made_from = wanted.pod["metadata"]["annotations"][meta.ANNOTATION_SPEC_HASH]
    result = plan(wanted, all_live(wanted, pod=pod, made_from=made_from), DONE)
    assert (result.spec_changed, result.drifted) == (False, ("spec.hostAliases",))
