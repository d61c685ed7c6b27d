"""The report for programs: its schema is kept, and it has everything."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from reported_sandboxes import fleet, on_docker, on_kubernetes, reported, unmeasured, with_result
from repository import ROOT

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.policy import Exemption, Policy
from claude_sandbox.report.changes import changes
from claude_sandbox.report.formats import documents
from claude_sandbox.report.policies import by_policy

SCHEMA = json.loads(Path(ROOT, "docs/reference/report.schema.json").read_text())
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def problems(value: Any, schema: Any, where: str = "$") -> list[str]:
    """Where the value is not as the schema says, by the words that the schema uses."""
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "const" in schema:
        return [] if value == schema["const"] else [f"{where} is {value!r}"]
    if type(value) is not _TYPES[schema["type"]]:
        return [f"{where} is no {schema['type']}"]
    if value not in schema.get("enum", [value]):
        return [f"{where} is {value!r}"]
    found = []
    if isinstance(value, dict):
        found += [f"{where} has no {name}" for name in schema["required"] if name not in value]
        for name, one in value.items():
            known = schema["properties"].get(name)
            found += problems(one, known, f"{where}.{name}") if known else [f"{where}.{name} is not in the schema"]
    if isinstance(value, list):
        for one in value:
            found += problems(one, schema["items"], f"{where}[]")
    return found


@pytest.mark.parametrize(
    "sandboxes",
    [
        (),
        (on_kubernetes(), on_docker(), unmeasured()),
        (with_result(on_kubernetes(), "NEW-01", Result.FAIL, "it is new", required=True),),
        tuple(fleet(20)),
    ],
    ids=["none", "each backend", "a newer operator's", "many"],
)
def test_it_is_as_its_schema_says(sandboxes: tuple[Any, ...]) -> None:
    assert problems(json.loads(documents.written(reported(*sandboxes))), SCHEMA) == []


def test_every_result_of_every_sandbox_is_in_it() -> None:
    report = reported(on_kubernetes(), on_docker())
    document = json.loads(documents.written(report))
    assert [len(one["results"]) for one in document["sandboxes"]] == [len(one.outcomes) for one in report.sandboxes]
    assert {one["control"] for sandbox in document["sandboxes"] for one in sandbox["results"]} == {
        one["id"] for one in document["controls"]
    }


def test_with_changes_it_is_as_its_schema_says() -> None:
    earlier = json.loads(documents.written(reported(on_kubernetes(), on_docker())))
    bad = with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "it is", required=True)
    report = reported(bad, unmeasured())
    document = json.loads(documents.written(replace(report, changes=changes(earlier, report))))
    assert document["changes"]["worse"]
    assert problems(document, SCHEMA) == []


def test_with_an_exception_it_is_as_its_schema_says() -> None:
    bad = with_result(on_kubernetes(), "PRIV-01", Result.FAIL, "it is", required=True)
    one = Exemption("PRIV-01", "It builds.", "team", date(9999, 12, 31))
    report, _ = by_policy(reported(bad), Policy(exceptions=(one,)), date(2026, 3, 1))
    text = documents.written(report)
    assert '"exception": {' in text
    assert problems(json.loads(text), SCHEMA) == []
