"""What a network probe proves: a denial only with a control, or where the kernel knows no way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from claude_sandbox.api.spec import SeccompProfileType
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.controls.judges.probed import denial, narrower, refusals
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence
from claude_sandbox.compliance.evidence.probes import Expected, KernelCall, ProbeReport, Tried
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.seccomp.profile import STRICT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GATEWAY = Tried("its gateway", Expected.ALLOWED, "connected")
METADATA = Tried("the metadata service", Expected.DENIED, "no-route", "ENETUNREACH")
NOBODY = Tried("the host", Expected.SILENT, "unreachable", "EHOSTUNREACH")
GOOD = ProbeReport(True, (GATEWAY, METADATA, NOBODY))


def result_of(*tried: Tried) -> Result:
    return denial(replace(GOOD, tried=tried)).result


def test_what_the_kernel_knows_no_way_to_is_denied() -> None:
    assert denial(GOOD).result is Result.PASS


@pytest.mark.parametrize("outcome", ["connected", "answered"])
@pytest.mark.parametrize("expected", [Expected.DENIED, Expected.SILENT])
def test_what_is_reached_fails_and_is_named(outcome: str, expected: Expected) -> None:
    found = denial(replace(GOOD, tried=(*GOOD.tried, Tried("the printer", expected, outcome))))
    assert found.result is Result.FAIL
    assert "the printer" in found.message


@pytest.mark.parametrize("outcome", ["timeout", "refused", "unreachable"])
def test_a_failed_connection_proves_a_denial_only_where_the_target_answers_elsewhere(outcome: str) -> None:
    one = Tried("10.0.0.5, port 443", Expected.DENIED, outcome)
    assert result_of(GATEWAY, replace(one, answers=True)) is Result.PASS
    assert result_of(GATEWAY, replace(one, answers=False)) is Result.UNKNOWN
    assert result_of(GATEWAY, one) is Result.UNKNOWN


def test_where_nobody_is_to_be_any_answer_is_one_too_many() -> None:
    assert result_of(GATEWAY, NOBODY) is Result.PASS
    assert result_of(GATEWAY, replace(NOBODY, outcome="refused")) is Result.FAIL
    assert result_of(GATEWAY, replace(NOBODY, outcome="timeout")) is Result.UNKNOWN


@pytest.mark.parametrize("outcome", ["failed", "timeout", "refused", "no-route", "a word of tomorrow"])
def test_where_not_even_what_is_allowed_can_be_reached_nothing_is_proven(outcome: str) -> None:
    assert result_of(replace(GATEWAY, outcome=outcome), METADATA) is Result.UNKNOWN


@pytest.mark.parametrize("outcome", ["failed", "a word of tomorrow"])
def test_what_could_not_be_tried_is_no_denial_even_if_the_target_answers(outcome: str) -> None:
    assert result_of(GATEWAY, replace(METADATA, outcome=outcome, answers=True)) is Result.UNKNOWN


def test_a_probe_that_could_connect_to_nothing_or_tried_nothing_proves_nothing() -> None:
    assert denial(replace(GOOD, able=False)).result is Result.UNKNOWN
    assert denial(replace(GOOD, tried=(GATEWAY,))).result is Result.UNKNOWN
    assert denial(replace(GOOD, ways=None)).result is Result.UNKNOWN


def test_a_way_to_somewhere_else_leaves_it_unknown() -> None:
    assert result_of(GATEWAY, replace(METADATA, outcome="routed")) is Result.UNKNOWN
    found = denial(replace(GOOD, ways=("172.17.0.0/16 by eth1",)))
    assert found.result is Result.UNKNOWN
    assert "172.17.0.0/16" in found.message


def of(evidence: DockerEvidence) -> Finding:
    return next(one for one in findings(evidence) if one.control.id == "NET-03")


def test_a_probe_counts_while_it_is_fresh_and_names_itself_as_the_source() -> None:
    container = Reading({"State": {"Running": True}}, EvidenceSource.INSPECT, NOW)
    probe = Reading(GOOD, EvidenceSource.NETWORK_PROBE, NOW - timedelta(minutes=20))
    evidence = DockerEvidence(Declared(), container, NOW, probe=probe, probe_max_age=timedelta(minutes=20))
    assert (of(evidence).result, of(evidence).source) == (Result.PASS, EvidenceSource.NETWORK_PROBE)
    assert of(evidence).observed_at == probe.observed_at
    stale = replace(evidence, now=NOW + timedelta(seconds=1))
    assert of(stale).result is Result.UNKNOWN
    unread = of(replace(evidence, probe=Unread("that is under way")))
    assert (unread.result, unread.source) == (Result.UNKNOWN, None)
    # What a later look says is the same for as long as its cause is.
    assert of(replace(stale, now=NOW + timedelta(hours=1))).verdict == of(stale).verdict


def test_a_way_that_ends_at_an_address_that_nobody_has_is_none() -> None:
    routed = Tried("the Internet", Expected.DENIED, "routed")
    lost = replace(METADATA, outcome="unreachable", error="EHOSTUNREACH")
    report = replace(GOOD, tried=(GATEWAY, routed, lost, NOBODY), dead_end=True)
    assert denial(report).result is Result.PASS
    # Another way beside it, one that could not be told, or none by which it could be explained.
    assert denial(replace(report, ways=("10.0.0.0/8 by eth1",))).result is Result.UNKNOWN
    assert denial(replace(report, ways=None)).result is Result.UNKNOWN
    assert denial(replace(report, dead_end=False)).result is Result.UNKNOWN
    # Who answers is reached all the same, and who may be silent is no proof.
    assert denial(replace(report, tried=(GATEWAY, replace(lost, outcome="connected"), NOBODY))).result is Result.FAIL
    assert denial(replace(report, tried=(GATEWAY, replace(lost, outcome="timeout"), NOBODY))).result is Result.UNKNOWN


@pytest.mark.parametrize(("outcome", "result"), [("connected", Result.PASS), ("timeout", Result.UNKNOWN)])
def test_of_all_that_is_allowed_one_has_to_be_reached(outcome: str, result: Result) -> None:
    """Else a network that is not there yet would pass for one that denies."""
    declared = Tried("93.184.216.34, port 443, which is declared", Expected.PERMITTED, outcome)
    assert result_of(declared, METADATA) is result
    away = replace(declared, outcome="timeout")
    assert result_of(GATEWAY, away, METADATA) is result_of(replace(declared, outcome="connected"), away, METADATA)
    assert result_of(GATEWAY, away, METADATA) is Result.PASS


CALLS = (KernelCall("mount", "denied", "EPERM"), KernelCall("bpf", "denied", "ENOSYS"))


def test_what_the_kernel_refuses_is_refused_and_nothing_else() -> None:
    assert refusals(replace(GOOD, kernel=CALLS)).result is Result.PASS
    found = refusals(replace(GOOD, kernel=(*CALLS, KernelCall("keyctl", "possible"))))
    assert (found.result, found.message) == (Result.FAIL, "keyctl is possible")
    for outcome in ("failed", "a word of tomorrow"):
        assert refusals(replace(GOOD, kernel=(*CALLS, KernelCall("setns", outcome)))).result is Result.UNKNOWN
    assert refusals(replace(GOOD, kernel=())).result is Result.UNKNOWN
    assert "is privileged" in refusals(replace(GOOD, kernel="it is privileged")).message


def test_a_filter_is_strict_where_all_is_refused_that_only_strict_refuses() -> None:
    calls = (KernelCall("adjtimex", "denied", "EPERM"), KernelCall("io_setup", "denied", "ENOSYS"))
    assert narrower(replace(GOOD, strict=calls)).result is Result.PASS
    found = narrower(replace(GOOD, strict=(*calls, KernelCall("ptrace", "possible", "ESRCH"))))
    assert (found.result, "ptrace" in found.message, "adjtimex" in found.message) == (Result.FAIL, True, False)
    assert narrower(replace(GOOD, strict=(*calls, KernelCall("ptrace", "failed")))).result is Result.UNKNOWN
    assert narrower(replace(GOOD, strict=())).result is Result.UNKNOWN
    assert narrower(GOOD).result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("outcome", "result"), [("denied", Result.PASS), ("possible", Result.FAIL), ("failed", Result.PASS)]
)
def test_an_engine_that_shows_strict_and_does_not_hold_to_it_is_found(outcome: str, result: Result) -> None:
    """Its document shows the whole filter, so that it takes no probe to believe it, and one to refute it."""
    host = {"SecurityOpt": [f"seccomp={STRICT}"], "Privileged": False}
    container = Reading({"State": {"Running": True}, "HostConfig": host}, EvidenceSource.INSPECT, NOW)
    report = replace(GOOD, strict=(KernelCall("adjtimex", outcome),))
    evidence = DockerEvidence(
        Declared(seccomp=SeccompProfileType.STRICT),
        container,
        NOW,
        probe=Reading(report, EvidenceSource.NETWORK_PROBE, NOW),
        probe_max_age=timedelta(minutes=20),
    )
    found = next(one for one in findings(evidence) if one.control.id == "KERN-01")
    assert (found.result, found.required) == (result, True)
    late = replace(evidence, probe=Unread("that is under way"))
    assert next(one for one in findings(late) if one.control.id == "KERN-01").result is Result.PASS


def test_what_can_be_reached_counts_as_soon_as_a_probe_tells_it_and_while_it_is_fresh() -> None:
    container = Reading({"State": {"Running": True}}, EvidenceSource.INSPECT, NOW)
    reached = replace(GOOD, tried=(*GOOD.tried, Tried("the printer", Expected.DENIED, "connected")), kernel=CALLS)
    probe = Reading(reached, EvidenceSource.NETWORK_PROBE, NOW)
    evidence = DockerEvidence(Declared(), container, NOW, probe=probe, probe_max_age=timedelta(minutes=20))
    assert (of(evidence).result, of(evidence).required) == (Result.FAIL, True)
    calls = next(one for one in findings(evidence) if one.control.id == "KERN-07")
    assert (calls.result, calls.source) == (Result.PASS, EvidenceSource.KERNEL_PROBE)
    for other in (replace(evidence, now=NOW + timedelta(hours=1)), replace(evidence, probe=Unread("it is under way"))):
        assert (of(other).result, of(other).required) == (Result.UNKNOWN, False)
