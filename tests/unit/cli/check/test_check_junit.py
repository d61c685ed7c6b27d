"""`claude-sandbox check` for CI systems: JUnit's XML, and texts that SARIF would take for more than text."""

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

from click.testing import CliRunner, Result
from compliant_container import World, changed, compliant
from hypothesis import given
from hypothesis import strategies as st
from test_container_guides import guide
from test_container_mutations import MUTATIONS

from claude_sandbox.cli.check.command import check


def run(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(check, ["--inspect", "-", *arguments], input=text)


def root_of(result: Result) -> ET.Element:
    return ET.fromstring(result.stdout)  # noqa: S314 - it was just written


def controls(text: str) -> list[dict[str, Any]]:
    [report] = json.loads(run(text, "-o", "json").stdout)
    found: list[dict[str, Any]] = report["controls"]
    return found


def documents(world: World) -> str:
    return json.dumps([world.container])


def kind_of(case: ET.Element) -> str:
    return next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "pass")


def test_each_control_is_a_case_and_is_counted() -> None:
    text = json.dumps(guide())
    root = root_of(run(text, "-o", "junit"))
    cases = {str(case.get("name")).split()[0]: case for case in root.iter("testcase")}
    found = {one["id"]: one for one in controls(text)}
    assert cases.keys() == found.keys()
    for identifier, one in found.items():
        expected = "pass" if one["result"] == "Pass" else "skipped"
        if one["required"]:
            expected = {"Fail": "failure", "Unknown": "error"}.get(one["result"], expected)
        assert kind_of(cases[identifier]) == expected, identifier
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert root.get(name) == str(sum(kind_of(case) == kind for case in cases.values()))
    assert root.get("tests") == str(len(found))
    assert int(str(root.get("failures"))) > 3


def test_a_failure_has_its_remedy() -> None:
    root = root_of(run(json.dumps(guide()), "-o", "junit"))
    for bad in root.iter("failure"):
        assert "Remedy: " in str(bad.text)


def test_what_may_be_unknown_fails_no_job() -> None:
    text = documents(compliant())
    wanted = {one["id"] for one in controls(text) if one["required"] and one["result"] == "Unknown"}
    assert root_of(run(text, "-o", "junit")).get("errors") == str(len(wanted))
    assert root_of(run(text, "-o", "junit", "--allow-unknown")).get("errors") == "0"


def test_only_failures_leaves_out_the_rest() -> None:
    root = root_of(run(json.dumps(guide()), "-o", "junit", "--only-failures"))
    assert {kind_of(case) for case in root.iter("testcase")} <= {"failure", "skipped"}


def test_no_secret_is_printed() -> None:
    for text in (json.dumps(guide()), documents(changed(MUTATIONS["the key in the command"][0]))):
        assert "sk-ant-api03" not in run(text, "-o", "junit").output


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(NAMES)
def test_a_name_is_text_whatever_is_in_it(name: str) -> None:
    world = guide() | {"Name": f"/{name}"}
    root = root_of(run(json.dumps(world), "-o", "junit"))
    assert len(list(root)) == 1
    log = json.loads(run(json.dumps(world), "-o", "sarif").stdout)
    for result in log["runs"][0]["results"]:
        text = result["message"]["text"]
        # §3.11.5 and §3.11.6: a brace that is single is a placeholder, a bracket without a backslash is a link.
        assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]]", text)
        assert "{" not in text.replace("{{", "")
        assert "}" not in text.replace("}}", "")
