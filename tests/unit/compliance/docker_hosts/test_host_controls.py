"""Each control of a host fails for what it is about, is Unknown where the engine does not tell, and passes else."""

from datetime import timedelta
from typing import Any

import pytest
from engine_documents import NOW, evidence, good_info, good_version
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.status import EvidenceSource, Remedy, Result, Title
from claude_sandbox.compliance.docker_hosts.controls import CONTROLS
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments, HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.docker_hosts import evaluate, findings


def results(given: HostEvidence) -> dict[str, Result]:
    return {finding.control.id: finding.result for finding in findings(given)}


def changed(given: HostEvidence) -> dict[str, Result]:
    """What does not pass."""
    return {id: result for id, result in results(given).items() if result is not Result.PASS}


def test_a_host_that_has_everything_passes_every_control() -> None:
    assert changed(evidence()) == {}
    assert evaluate(evidence()).summary.required == "7/7"


FAIL, UNKNOWN = Result.FAIL, Result.UNKNOWN
PLAIN = "WARNING: API is accessible on http://0.0.0.0:2375 without encryption.\n         Access to the remote API…"
ANYONE = "WARNING: API is accessible on https://0.0.0.0:2376 without TLS client verification."
REGISTRIES = {"InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {}}


def security(*options: str) -> dict[str, Any]:
    return {"SecurityOptions": [*good_info()["SecurityOptions"], *options]}


def without(name: str) -> dict[str, Any]:
    return {"SecurityOptions": [one for one in good_info()["SecurityOptions"] if not one.startswith(f"name={name}")]}


def runc(version: str) -> dict[str, Any]:
    return {"Components": [{"Name": "runc", "Version": version}]}


MUTATIONS: tuple[tuple[dict[str, Any], dict[str, Result]], ...] = (
    ({"scheme": "tcp"}, {"HOST-01": FAIL}),
    ({"scheme": "tcp", "mutual_tls": True}, {}),
    ({"scheme": "ssh"}, {}),
    ({"info": {"Warnings": [PLAIN]}}, {"HOST-01": FAIL}),
    ({"info": {"Warnings": [ANYONE]}, "scheme": "tcp", "mutual_tls": True}, {"HOST-01": FAIL}),
    ({"info": {"Warnings": ["WARNING: No swap limit support"]}}, {}),
    ({"info": {"Warnings": "x"}}, {"HOST-01": UNKNOWN}),
    ({"info": {"RegistryConfig": REGISTRIES | {"InsecureRegistryCIDRs": ["10.0.0.0/8"]}}}, {"HOST-02": FAIL}),
    (
        {"info": {"RegistryConfig": REGISTRIES | {"IndexConfigs": {"reg.example:5000": {"Secure": False}}}}},
        {"HOST-02": FAIL},
    ),
    *(
        ({"info": {"RegistryConfig": REGISTRIES | {"IndexConfigs": {name: {"Secure": False}}}}}, {})
        for name in ("127.0.0.1:5000", "localhost:5000", "[::1]:5000", "localhost")
    ),
    ({"info": {"RegistryConfig": None}}, {"HOST-02": UNKNOWN}),
    ({"info": without("seccomp")}, {"HOST-03": FAIL}),
    ({"info": security("name=seccomp,profile=unconfined")}, {"HOST-03": FAIL}),
    ({"info": security("name=seccomp,profile=/etc/docker/own.json")}, {"HOST-03": UNKNOWN}),
    ({"info": security("name=seccomp,profile=default")}, {}),
    ({"info": without("apparmor")}, {"HOST-04": FAIL}),
    ({"info": {"SecurityOptions": [*without("apparmor")["SecurityOptions"], "name=selinux"]}}, {}),
    ({"info": without("userns")}, {"HOST-05": FAIL}),
    ({"info": {"SecurityOptions": [*without("userns")["SecurityOptions"], "name=rootless"]}}, {}),
    ({"info": without("no-new-privileges")}, {"HOST-15": FAIL}),
    (
        {"info": without("no-new-privileges"), "version": {"Version": "20.10.24+dfsg1"}},
        {"HOST-15": UNKNOWN, "HOST-08": FAIL, "HOST-09": FAIL},
    ),
    (
        {"info": {"SecurityOptions": "none"}},
        dict.fromkeys(("HOST-03", "HOST-04", "HOST-05", "HOST-15"), UNKNOWN),
    ),
    ({"info": {"SwapLimit": False}}, {"HOST-06": FAIL}),
    ({"info": {"PidsLimit": False}}, {"HOST-06": FAIL}),
    ({"info": {"MemoryLimit": None}}, {"HOST-06": UNKNOWN}),
    ({"info": {"CgroupVersion": "1"}}, {"HOST-07": FAIL}),
    ({"info": {"CgroupVersion": None}}, {"HOST-07": UNKNOWN}),
    ({"version": {"Version": "27.5.1"}}, {"HOST-08": FAIL, "HOST-09": FAIL}),
    ({"version": {"Version": "20.10.24+dfsg1"}}, {"HOST-08": FAIL, "HOST-09": FAIL}),
    ({"version": {"Version": "28.0.0"}}, {}),
    ({"version": {"Version": "dev"}}, {"HOST-08": UNKNOWN, "HOST-09": UNKNOWN}),
    ({"version": runc("1.1.11")}, {"HOST-10": FAIL}),
    ({"version": runc("1.2.7")}, {"HOST-10": FAIL}),
    ({"version": runc("1.3.2")}, {"HOST-10": FAIL}),
    ({"version": runc("1.4.0-rc.1")}, {"HOST-10": FAIL}),
    ({"version": runc("1.2.8")}, {}),
    ({"version": runc("1.4.0")}, {}),
    # A distribution mends its package without a change of the leading numbers.
    ({"version": runc("1.1.5+ds1")}, {"HOST-10": UNKNOWN}),
    ({"version": {"Components": None}}, {"HOST-10": UNKNOWN}),
    ({"info": {"DefaultRuntime": "runsc"}, "version": runc("1.1.0")}, {"HOST-10": Result.NOT_APPLICABLE}),
    ({"info": {"LiveRestoreEnabled": False}}, {"HOST-11": FAIL}),
    ({"info": {"ExperimentalBuild": True}}, {"HOST-12": FAIL}),
    ({"info": {"LoggingDriver": "none"}}, {"HOST-13": FAIL}),
    ({"bridge": {"Options": {}}}, {"HOST-14": FAIL}),
    ({"bridge": {"Options": "x"}}, {"HOST-14": UNKNOWN}),
    ({"without_bridge": True}, {}),
)
"""What an engine says otherwise than a good one, and what changes then."""


@pytest.mark.parametrize(("changes", "expected"), MUTATIONS)
def test_a_control_answers_for_what_it_is_about_and_nothing_else(
    changes: dict[str, Any], expected: dict[str, Result]
) -> None:
    assert changed(evidence(**changes)) == expected


def test_what_is_old_or_was_not_read_is_unknown_throughout() -> None:
    old = evidence(now=NOW + timedelta(minutes=1, seconds=1))
    unread = HostEvidence("unix", False, Unread("it does not answer"), NOW, timedelta(minutes=1))
    for one in (old, unread):
        assert set(results(one).values()) == {Result.UNKNOWN}
        assert all(finding.verdict.message for finding in findings(one))


def test_a_failure_says_what_is_wrong_and_what_to_do() -> None:
    nothing = EngineDocuments(
        {"SecurityOptions": [], "ExperimentalBuild": True, "LiveRestoreEnabled": False, "LoggingDriver": "none"},
        good_version() | {"Version": "20.10.5"} | runc("1.0.0"),
        {"Options": {}},
    )
    reading = Reading(nothing, EvidenceSource.INSPECT, NOW)
    for finding in findings(HostEvidence("tcp", False, reading, NOW, timedelta.max)):
        assert bool(finding.remedy) == (finding.result is Result.FAIL)
        assert bool(finding.verdict.message) == (finding.result is not Result.PASS)


def test_titles_and_remedies_are_shown_whole() -> None:
    for control in CONTROLS:
        assert control.host is not None
        for text, kind in ((control.title, Title), (control.host.remedy, Remedy)):
            assert len(text.encode()) <= kind.__metadata__[0].limit, text


def test_no_two_controls_have_one_identifier() -> None:
    ids = [control.id for control in CONTROLS]
    assert len(set(ids)) == len(ids)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
odd = st.dictionaries(st.sampled_from([*good_info(), *good_version(), "Options", "Warnings"]), json_values)


@given(odd, odd, st.none() | odd)
def test_whatever_an_engine_answers_is_judged(info: Any, version: Any, bridge: Any) -> None:
    reading = Reading(EngineDocuments(info, version, bridge), EvidenceSource.INSPECT, NOW)
    judged = evaluate(HostEvidence("tcp", True, reading, NOW, timedelta.max))
    named = [id for group in judged.passed for id in group.controls] + [control.id for control in judged.controls]
    assert sorted(named) == sorted(control.id for control in CONTROLS)
