"""What is not known is never passed off as fine, and what is secret is never told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from compliant_sandbox import MAX_AGE, NOW, World, changed, compliant, is_compliant, reported, results, without
from hypothesis import given
from hypothesis import strategies as st
from test_pod_mutations import MUTATIONS, strict_is_tried

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.catalogue import POD_CONTROLS
from claude_sandbox.compliance.control import PROBES, Control, Evidence, PodCheck
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.probes import KernelCall
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.pods import findings, isolation

NAMES = [need.value for need in Evidence if need is not Evidence.KERNEL_PROBE]
"""What is read; the kernel is told of by the same probe."""
KEY = "sk-ant-api03-" + "Zq7" * 12


def needs_of(control: Control) -> tuple[Evidence, ...]:
    return control.pod.needs if isinstance(control.pod, PodCheck) else ()


def weighs_of(control: Control) -> tuple[Evidence, ...]:
    return control.pod.weighs if isinstance(control.pod, PodCheck) else ()


def stale(evidence: KubernetesEvidence, *names: str) -> KubernetesEvidence:
    """The evidence as if these readings were just too old."""
    then = NOW - MAX_AGE - timedelta(milliseconds=1)
    return replace(evidence, **{name: replace(getattr(evidence, name), observed_at=then) for name in names})


@given(
    mutations=st.lists(st.sampled_from(sorted(MUTATIONS)), max_size=3),
    unread=st.sets(st.sampled_from(NAMES), min_size=1),
    old=st.sets(st.sampled_from(NAMES)),
)
def test_less_evidence_never_makes_a_result_pass(mutations: list[str], unread: set[str], old: set[str]) -> None:
    evidence = _changed(mutations).evidence()
    before = results(evidence)
    after = results(without(stale(evidence, *old), *unread))
    for control in POD_CONTROLS:
        if after[control.id] is not before[control.id]:
            assert after[control.id] is Result.UNKNOWN
        if any(need.value in unread | old for need in needs_of(control)):
            assert after[control.id] is Result.UNKNOWN


@pytest.mark.parametrize("name", NAMES)
def test_one_missing_reading_makes_exactly_the_results_that_rest_on_it_unknown(name: str) -> None:
    # One that asks for all that rests on a reading.
    evidence = changed(strict_is_tried(KernelCall("adjtimex", "denied"))).evidence()
    before, after = results(evidence), results(without(evidence, name))
    lost = PROBES if Evidence(name) in PROBES else {Evidence(name)}
    resting = {control.id for control in POD_CONTROLS if lost & {*needs_of(control), *weighs_of(control)}}
    assert resting
    assert {id for id in before if before[id] is not after[id]} == resting


def test_nothing_read_is_nothing_known() -> None:
    nothing = without(compliant().evidence(), *NAMES)
    assert set(results(nothing).values()) == {Result.UNKNOWN}
    assert reported(nothing).passed == []
    assert all(control.evidence is None for control in reported(nothing).controls)
    assert is_compliant(nothing)[0] == "Unknown"
    assert isolation(nothing)[0] == "Unknown"


@pytest.mark.parametrize("age", [timedelta(0), MAX_AGE])
def test_evidence_is_good_until_it_is_older_than_allowed(age: timedelta) -> None:
    evidence = replace(compliant().evidence(), now=NOW + age)
    assert results(evidence) == results(compliant().evidence())


@pytest.mark.parametrize("missing", ["spec", "containers"])
def test_a_pod_that_was_read_in_part_proves_nothing(missing: str) -> None:
    world = compliant()
    del (world.pod if missing == "spec" else world.spec)[missing]
    found = results(world.evidence())
    assert {found[control.id] for control in POD_CONTROLS if Evidence.POD in needs_of(control)} == {Result.UNKNOWN}


def test_a_result_names_its_source_and_the_age_of_the_oldest_reading_it_rests_on() -> None:
    earlier = NOW - timedelta(minutes=1)
    evidence = compliant().evidence()
    assert isinstance(evidence.service_account, Reading)
    evidence = replace(evidence, service_account=replace(evidence.service_account, observed_at=earlier))
    found = {finding.control.id: finding for finding in findings(evidence)}
    rights, process = found["ID-03"], found["NS-01"]
    assert (rights.source, rights.observed_at) == (EvidenceSource.ACCESS_REVIEW, earlier)
    assert (process.source, process.observed_at) == (EvidenceSource.LIVE_OBJECT, NOW)


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_only_times_change_when_nothing_else_does(name: str) -> None:
    """Otherwise every reading would be a write, and every write a reason for watchers to wake."""
    mutate, _ = MUTATIONS[name]
    later = timedelta(seconds=97)
    evidence = changed(mutate).evidence()
    moved = {one: replace(getattr(evidence, one), observed_at=NOW + later) for one in NAMES}
    first, second = reported(evidence), reported(replace(evidence, now=NOW + later, **moved))
    assert _timeless(first.model_dump()) == _timeless(second.model_dump())
    old, older = stale(evidence, *NAMES), replace(stale(evidence, *NAMES), now=NOW + later)
    assert _timeless(reported(old).model_dump()) == _timeless(reported(older).model_dump())


@pytest.mark.parametrize(
    "put",
    [
        lambda world: world.agent["env"].append({"name": "X", "value": KEY}),
        lambda world: world.agent["env"].append({"name": "X", "value": f"https://user:{KEY}@example.com"}),
        lambda world: world.agent.update(args=[f"--api-key={KEY}"]),
        lambda world: world.agent.update(command=["sh", "-c", f"KEY={KEY} claude"]),
        lambda world: world.agent.update(livenessProbe={"exec": {"command": [KEY]}}),
        lambda world: world.agent.update(lifecycle={"postStart": {"exec": {"command": [KEY]}}}),
    ],
)
def test_a_credential_is_found_and_not_repeated(put: Any) -> None:
    evidence = changed(put).evidence()
    assert results(evidence)["SEC-01"] is Result.FAIL
    assert KEY not in reported(evidence).model_dump_json()
    assert KEY not in " ".join(is_compliant(evidence))


def test_what_is_required_in_development_can_be_met_on_a_plain_cluster() -> None:
    """A namespace without labels or quotas, an image by tag, no RuntimeClass, no user namespaces, no end."""
    world = changed(*(MUTATIONS[name][0] for name in _PLAIN))
    world.declare(image_digest=None, allowed_registries=(), claude_code=None)
    production = is_compliant(world.evidence())
    world.declare(profile=Profile.DEVELOPMENT)
    development = is_compliant(world.evidence())
    assert development[:2] == ("True", "AllControlsPass")
    assert production[:2] == ("False", "ControlsFail")


def test_an_image_that_a_policy_refuses_fails_wherever_it_is_from() -> None:
    world = changed()
    assert results(world.evidence())["IMG-02"] is Result.PASS
    world.declare(image_refused="ClaudeImagePolicy ours does not permit it")
    assert results(world.evidence())["IMG-02"] is Result.FAIL


_PLAIN = ("namespace enforces nothing", "no quota", "image by tag", "no RuntimeClass", "no user namespace", "no end")
_NEVER_REQUIRED = {"PRIV-06", "KERN-06", "RES-05", "RES-06", "KERN-07", "NET-04", "NET-05", "NET-07", "NET-09"}
_TOLERATED = {
    "Development": {*_NEVER_REQUIRED, "IMG-01", "SEC-05", "TEN-01", "TEN-02"},
    "Production": _NEVER_REQUIRED,
}


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_what_is_unsafe_is_compliant_in_no_profile(name: str, profile: Profile) -> None:
    mutate, failing = MUTATIONS[name]
    world = changed(mutate)
    world.declare(profile=profile)
    status, _, message = is_compliant(world.evidence())
    unsafe = set(failing.split()) - _TOLERATED[profile.value]
    # Of what is denied nothing is proven then.
    doubtful = name == "the gateway is not reached"
    assert status == ("False" if unsafe else "Unknown" if doubtful else "True")
    assert all(control in message for control in unsafe)


def _changed(mutations: list[str]) -> World:
    world = compliant()
    for name in mutations:
        try:
            MUTATIONS[name][0](world)
        except (KeyError, AttributeError, IndexError):
            # An earlier mutation took away what this one would change.
            continue
    return world


def _timeless(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _timeless(value) for key, value in document.items() if key not in ("observed_at", "evaluated_at")}
    return [_timeless(one) for one in document] if isinstance(document, list) else document
