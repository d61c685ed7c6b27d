"""DockerHosts in a report: their conditions, what their engines say of themselves, and which sandboxes they have."""

import json
from typing import Any

import pytest
from click import unstyle
from reported_sandboxes import ATTACKS, docker_host, on_docker, on_kubernetes, reported
from test_report_json import SCHEMA, problems

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats import documents, junit, markdown, oscal, policy_reports, sarif, terminal
from claude_sandbox.report.formats.html import page
from claude_sandbox.report.given import NotASandboxError
from claude_sandbox.report.model import Host, Report, Verdict


def placed(host: str, **metadata: Any) -> dict[str, Any]:
    found = on_docker(**metadata)
    found["status"]["placement"] = {"host": host}
    found["status"]["workload"] = {"host": host}
    return found


def of(report: Report) -> Host:
    (found,) = report.hosts
    return found


def test_it_tells_what_the_host_is_and_which_sandboxes_it_has() -> None:
    found = of(reported(placed("build-1"), placed("build-2", name="eve"), on_kubernetes(), hosts=[docker_host()]))
    assert found.verdict is Verdict.COMPLIANT
    assert found.required == (7, 7)
    assert (found.placed, found.sandboxes) == (3, ("agents/dora",))
    assert found.facts["Engine"] == "29.0.1"
    assert found.facts["Kernel"] == "6.12.8"
    assert found.facts["Cgroups"] == "2, systemd"
    assert found.facts["Protection"] == "seccomp (builtin), AppArmor, user namespaces"


def test_what_fails_is_told_with_its_remedy_and_makes_no_sandbox_worse() -> None:
    report = reported(placed("build-1"), hosts=[docker_host(version={"Version": "27.5.1"})])
    assert of(report).verdict is Verdict.NOT_COMPLIANT
    assert report.verdict is Verdict.COMPLIANT
    table = unstyle(terminal.written(report))
    assert "HOST-08  Ports on 127.0.0.1 are the host's alone (High)" in table
    assert "Remedy: Upgrade the engine to 28.0 or newer." in table


def test_what_is_not_measured_or_of_another_generation_or_without_an_operator_is_unknown() -> None:
    new, stale = docker_host("new"), docker_host("stale")
    del new["status"]
    stale["metadata"]["generation"] = 3
    found = reported(hosts=[new, stale]).hosts
    assert [one.verdict for one in found] == [Verdict.NOT_VERIFIED] * 2
    for one in found:
        assert {outcome.result for outcome in one.outcomes} == {Result.UNKNOWN}
        assert one.doubt


def test_a_control_that_the_status_does_not_have_is_unknown() -> None:
    host = docker_host()
    for group in host["status"]["compliance"]["passed"]:
        group["controls"].remove("HOST-01")
    (found,) = (one for one in of(reported(hosts=[host])).outcomes if one.control == "HOST-01")
    assert (found.result, found.required) == (Result.UNKNOWN, True)


def test_the_schema_has_it_and_without_hosts_nothing_is_said_of_any() -> None:
    failing = docker_host("build-2", info={"Warnings": ["WARNING: API is accessible on http://0.0.0.0:2375"]})
    found = json.loads(documents.written(reported(placed("build-1"), hosts=[docker_host(), failing])))
    assert problems(found, SCHEMA) == []
    assert [(one["name"], one["verdict"]) for one in found["hosts"]] == [
        ("build-1", "Compliant"),
        ("build-2", "NotCompliant"),
    ]
    assert "hosts" not in json.loads(documents.written(reported(on_kubernetes())))


@pytest.mark.parametrize("written", [terminal.written, markdown.written, page.written])
def test_it_is_in_every_format_for_people(written: Any) -> None:
    text = unstyle(written(reported(placed("build-1"), hosts=[docker_host()])))
    for word in ("Docker hosts", "build-1", "6.12.8", "29.0.1", "agents/dora", "Ready=True"):
        assert word in text
    assert "Docker hosts" not in unstyle(written(reported(on_kubernetes())))


@pytest.mark.parametrize(
    "written", [junit.written, sarif.written, oscal.written, policy_reports.openreports, policy_reports.policy_reports]
)
def test_what_is_about_sandboxes_alone_stays_the_same(written: Any) -> None:
    assert written(reported(placed("build-1"))) == written(reported(placed("build-1"), hosts=[docker_host()]))


@pytest.mark.parametrize("text", ATTACKS)
def test_a_hostile_host_stays_text(text: str) -> None:
    host = docker_host()
    host["spec"]["endpoint"] = host["metadata"]["uid"] = text
    host["status"]["engine"] = dict.fromkeys(host["status"]["engine"], text)
    host["status"]["engine"]["securityOptions"] = {"seccomp": text}
    host["status"]["conditions"].append({"type": text, "status": text, "reason": text, "message": text})
    report = reported(hosts=[host])
    found = page.written(report)
    assert "<script>attacked" not in found
    assert "<img" not in found
    assert "<iframe" not in found
    assert "\x1b" not in unstyle(terminal.written(report))
    assert "\x1b" not in markdown.written(report)


def test_what_is_no_host_is_refused_by_its_kind() -> None:
    host = docker_host()
    host["metadata"]["name"] = "../../etc"
    with pytest.raises(NotASandboxError, match="of a DockerHost"):
        reported(hosts=[host])
