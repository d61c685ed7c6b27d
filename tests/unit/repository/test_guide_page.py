"""docs/guide.md claims only what tests saw."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.guide import page
from tests.guide.lines import SECTIONS, Done, Line

TESTS = Path("tests")


def test_the_page_is_that_of_its_lines_and_results() -> None:
    assert page.main(["--check"]) == 0


def test_what_a_line_names_is_there() -> None:
    for one in page.references():
        file, _, test = one.partition("::")
        assert (TESTS / file).exists(), one
        assert not test or f"def {test}" in (TESTS / file).read_text(), one


def report(path: Path, *cases: tuple[str, str, str]) -> Path:
    suite = ElementTree.Element("testsuite")
    for module, name, outcome in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"tests.{module}", name=name)
        if outcome != "passed":
            ElementTree.SubElement(case, outcome)
    ElementTree.ElementTree(suite).write(path)
    return path


def test_what_passed_counts_and_what_was_skipped_does_not(tmp_path: Path) -> None:
    (one, *_) = SECTIONS[0][1][0].tests
    file, _, test = one.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    seen = page.seen([report(tmp_path / "a", (module, f"{test}[29]@x", "passed"), (module, f"{test}[x]", "skipped"))])
    assert seen[one] == 1


def test_a_test_that_failed_and_a_claim_that_none_saw_make_no_page(tmp_path: Path) -> None:
    (one, *_) = SECTIONS[0][1][0].tests
    file, _, test = one.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    with pytest.raises(ValueError, match="failed"):
        page.seen([report(tmp_path / "a", (module, test, "failure"))])
    counts = json.loads(page.RESULTS.read_text())
    with pytest.raises(ValueError, match="no test has seen"):
        page.to_markdown(counts | {one: 0})


def test_a_line_that_claims_something_names_a_test() -> None:
    unproven = [line.said for _, lines in SECTIONS for line in lines if line.done is not Done.LEFT and not line.tests]
    assert unproven == []
    with pytest.raises(ValueError, match="names no test"):
        page._tests(Line("x", Done.SAME, "y"), {})
