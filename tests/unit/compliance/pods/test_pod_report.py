"""From results to the condition, the summary and the status."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from compliant_sandbox import MAX_AGE, NOW, World, changed, compliant, is_compliant, reported, without
from test_pod_mutations import MUTATIONS

from claude_sandbox.api.status import MAX_CONTROLS, ControlStatus, EvidenceSource, Result
from claude_sandbox.compliance.catalogue import POD_CONTROLS
from claude_sandbox.compliance.control import Unmeasured
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.pods import compliant as judged
from claude_sandbox.compliance.reports.pods import findings, isolation, measure


def condition(world: World, *unread: str) -> tuple[str, str, str]:
    return is_compliant(without(world.evidence(), *unread))


def test_compliant_is_true_when_every_required_control_passes() -> None:
    required = sum(bool(control.required_by(control.pod)) for control in POD_CONTROLS)
    assert condition(compliant()) == ("True", "AllControlsPass", f"{required}/{required} required controls pass")


def test_one_failing_required_control_makes_it_false_and_is_named() -> None:
    status, reason, message = condition(changed(MUTATIONS["privileged"][0]))
    assert (status, reason) == ("False", "ControlsFail")
    assert "PRIV-01 Not privileged: container agent is privileged" in message


def test_one_unknown_required_control_makes_it_unknown_and_is_named() -> None:
    status, reason, message = condition(compliant(), "services")
    assert (status, reason) == ("Unknown", "ControlsUnknown")
    assert "NET-10" in message
    assert "the namespace's Services could not be read: forbidden" in message


def test_a_failure_outweighs_what_is_unknown() -> None:
    assert condition(changed(MUTATIONS["privileged"][0]), "services")[0] == "False"


@pytest.mark.parametrize("name", ["no quota", "no RuntimeClass", "no user namespace", "no end"])
def test_what_has_to_be_opted_in_to_does_not_count(name: str) -> None:
    assert condition(changed(MUTATIONS[name][0]))[0] == "True"


def test_no_control_at_all_proves_nothing() -> None:
    assert judged([], reported(compliant().evidence()))[0] == "Unknown"


def test_the_summary_counts_each_result_and_the_required_ones() -> None:
    world = changed(MUTATIONS["privileged"][0], MUTATIONS["no quota"][0])
    world.declare(allowed_registries=())
    summary = reported(without(world.evidence(), "services")).summary
    unmeasured = sum(isinstance(control.pod, Unmeasured) for control in POD_CONTROLS)
    # On the Services rest NET-10, and OPS-04, which is about all evidence.
    assert (summary.fail, summary.not_applicable, summary.unknown) == (3, 1, unmeasured + 2)
    assert summary.pass_ == len(POD_CONTROLS) - unmeasured - 6
    required = sum(bool(control.required_by(control.pod)) for control in POD_CONTROLS)
    assert summary.required == f"{required - 4}/{required - 1}"


def test_a_control_that_is_not_measured_says_what_would_decide_it() -> None:
    found = {finding.control.id: finding for finding in findings(compliant().evidence())}
    for control in POD_CONTROLS:
        if isinstance(control.pod, Unmeasured):
            assert found[control.id].result is Result.UNKNOWN
            assert not found[control.id].required
            assert control.pod.how in found[control.id].verdict.message


def test_every_text_of_the_catalogue_fits_the_status() -> None:
    found = {finding.control.id: finding for finding in findings(compliant().evidence())}
    for control in POD_CONTROLS:
        message = found[control.id].verdict.message
        shown = ControlStatus(
            id=control.id,
            title=control.title,
            result=Result.FAIL,
            severity=control.severity,
            message=message,
            remedy=control.pod.remedy,
        )
        assert (shown.id, shown.title, shown.remedy) == (control.id, control.title, control.pod.remedy)
        assert not message.endswith("…")


def test_controls_are_reported_once_and_in_the_order_of_the_catalogue() -> None:
    ids = [finding.control.id for finding in findings(compliant().evidence())]
    assert ids == [control.id for control in POD_CONTROLS]
    assert len(ids) == len(set(ids)) <= MAX_CONTROLS
    for one, other in pairwise(ids):
        assert one.split("-")[0] != other.split("-")[0] or one < other


def test_the_report_stays_bounded_with_everything_wrong_at_once() -> None:
    world = compliant()
    for mutate, _ in MUTATIONS.values():
        try:
            mutate(world)
        except (KeyError, AttributeError, IndexError):
            continue
    long = "x" * 63
    world.spec["volumes"] += [{"name": f"{long}{i}", "hostPath": {"path": "/" + long}} for i in range(200)]
    world.spec["ephemeralContainers"] = [{"name": f"{long}{i}", "image": "x"} for i in range(200)]
    world.drift += [f"spec.{long}.{i}" for i in range(200)]
    for i in range(200):
        world.policies.append({"metadata": {"name": f"{long}{i}"}, "spec": {"podSelector": {}, "egress": [{}]}})
    evaluated = reported(world.evidence())
    assert evaluated.summary.fail > 30
    assert len(evaluated.model_dump_json(by_alias=True, exclude_none=True).encode()) < 26 * 1024


@pytest.mark.parametrize("name", ["privileged", "no policy", "no quota"])
def test_measuring_at_once_says_what_each_part_says(name: str) -> None:
    evidence = changed(MUTATIONS[name][0]).evidence()
    found, said = findings(evidence), reported(evidence)
    assert measure(evidence) == (said, judged(found, said), isolation(evidence))


@pytest.mark.parametrize("name", ["privileged", "no policy", "no quota"])
def test_each_control_is_in_the_status_once_with_what_it_rests_on(name: str) -> None:
    evidence = changed(MUTATIONS[name][0]).evidence()
    said = reported(evidence)
    passed = {(id, group.source) for group in said.passed for id in group.controls}
    others = {(control.id, control.result) for control in said.controls}
    found = findings(evidence)
    assert passed == {(one.control.id, one.source) for one in found if one.result is Result.PASS}
    assert others == {(one.control.id, one.result) for one in found if one.result is not Result.PASS}
    assert len(passed) + len(others) == len(POD_CONTROLS)


def test_passing_controls_are_as_old_as_the_oldest_reading_they_rest_on() -> None:
    evidence = compliant().evidence()
    assert {group.observed_at for group in reported(evidence).passed} == {None}
    earlier = NOW - timedelta(minutes=2)
    assert isinstance(evidence.services, Reading)
    evidence = replace(evidence, services=replace(evidence.services, observed_at=earlier))
    assert {group.source: group.observed_at for group in reported(evidence).passed} == {
        EvidenceSource.LIVE_OBJECT: earlier,
        EvidenceSource.ACCESS_REVIEW: None,
        EvidenceSource.NETWORK_PROBE: None,
        EvidenceSource.KERNEL_PROBE: None,
    }


def test_isolation_that_was_not_probed_is_not_verified() -> None:
    unprobed = without(compliant().evidence(), "probe")
    assert isolation(unprobed)[:2] == ("Unknown", "NotProbed")
    assert isolation(replace(unprobed, probe_under_way=True))[:2] == ("Unknown", "ProbeUnderWay")


def test_isolation_that_was_probed_is_verified_until_the_probe_is_too_old() -> None:
    evidence = compliant().evidence()
    assert isolation(evidence)[:2] == ("True", "PolicyInPlace")
    assert isinstance(evidence.probe, Reading)
    old = replace(evidence.probe, observed_at=NOW - MAX_AGE - timedelta(seconds=1))
    assert isolation(replace(evidence, probe=old))[:2] == ("Unknown", "NotProbed")


def test_what_was_reached_makes_isolation_false_though_the_policies_are_right() -> None:
    status, reason, message = isolation(changed(MUTATIONS["the API server is reached"][0]).evidence())
    assert (status, reason) == ("False", "DestinationReached")
    assert "the API server can be reached" in message


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("no policy", "PolicyMissing", "no NetworkPolicy of the namespace restricts the sandbox's ingress"),
        ("the policy is for ingress only", "PolicyMissing", "egress"),
        ("host network", "PolicyMissing", "node's network"),
        ("egress to everywhere, by another policy", "PolicyWidened", "NetworkPolicy other allows egress to everyone"),
        (
            "ingress from everyone, by another policy",
            "PolicyWidened",
            "NetworkPolicy other allows ingress from everyone",
        ),
        ("egress to one address more", "PolicyWidened", "198.51.100.1/32"),
        ("ingress from another namespace", "PolicyWidened", "all pods in namespaces with team=x on TCP 8080"),
    ],
)
def test_isolation_that_is_missing_or_widened_is_told_with_who_did_it(name: str, reason: str, told: str) -> None:
    found = isolation(changed(MUTATIONS[name][0]).evidence())
    assert found[:2] == ("False", reason)
    assert told in found[2]


@pytest.mark.parametrize("unread", ["pod", "policies"])
def test_isolation_is_unknown_without_the_evidence_for_it(unread: str) -> None:
    for world in (compliant(), changed(MUTATIONS["no policy"][0])):
        found = isolation(without(world.evidence(), unread))
        assert found[:2] == ("Unknown", "ObservationFailed")
        assert "could not be read: forbidden" in found[2]
