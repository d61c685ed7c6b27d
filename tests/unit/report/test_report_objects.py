"""The report as objects of Kubernetes: what viewers of policies show of each sandbox."""

import json
from typing import Any

import pytest
from reported_sandboxes import hostile_report, on_docker, on_kubernetes, reported, with_result

from claude_sandbox.api.status import Result
from claude_sandbox.report.formats.policy_reports import openreports, policy_reports


def results(*documents: Any) -> dict[str, dict[str, Any]]:
    (item,) = json.loads(openreports(reported(*documents)))["items"]
    return {one["rule"]: one for one in item["results"]}


@pytest.mark.parametrize(
    ("result", "required", "word"),
    [
        (Result.PASS, True, "pass"),
        (Result.FAIL, True, "fail"),
        (Result.FAIL, False, "warn"),
        (Result.UNKNOWN, True, "error"),
        (Result.UNKNOWN, False, "error"),
        (Result.NOT_APPLICABLE, True, "skip"),
    ],
)
def test_each_result_has_the_word_that_says_it(result: Result, required: bool, word: str) -> None:
    found = results(with_result(on_kubernetes(), "PRIV-01", result, "so it is", required=required))["PRIV-01"]
    assert (found["result"], found["scored"]) == (word, required)
    assert found["message"] == "Not privileged: so it is"
    assert found["severity"] == "critical"


@pytest.mark.parametrize(
    ("written", "version", "kind"),
    [
        (openreports, "openreports.io/v1alpha1", "Report"),
        (policy_reports, "wgpolicyk8s.io/v1alpha2", "PolicyReport"),
    ],
)
def test_there_is_one_for_each_sandbox_that_goes_with_it(written: Any, version: str, kind: str) -> None:
    items = json.loads(written(reported(on_kubernetes(), on_docker(namespace="build"))))["items"]
    assert [(one["apiVersion"], one["kind"]) for one in items] == [(version, kind)] * 2
    assert [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in items] == [
        ("agents", "claude-sandbox-alice"),
        ("build", "claude-sandbox-dora"),
    ]
    (owner,) = items[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ClaudeSandbox", "alice", "uid-of-agents-alice")


def test_the_summary_counts_the_results() -> None:
    (item,) = json.loads(openreports(reported(on_docker())))["items"]
    assert sum(item["summary"].values()) == len(item["results"])
    assert item["summary"]["pass"] == sum(one["result"] == "pass" for one in item["results"])


def test_names_that_are_too_long_stay_apart() -> None:
    names = ["a" * 253, "a" * 252 + "b"]
    items = json.loads(openreports(reported(*(on_kubernetes(name=name) for name in names))))["items"]
    found = {one["metadata"]["name"] for one in items}
    assert len(found) == 2
    assert max(map(len, found)) <= 253


def test_a_hostile_text_is_a_message_and_nothing_else() -> None:
    items = json.loads(openreports(hostile_report("\x1b[31m</script>")))["items"]
    assert any("\\x1b[31m</script>" in one["message"] for one in items[0]["results"])
