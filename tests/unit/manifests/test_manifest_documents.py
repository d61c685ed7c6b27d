"""What is read of a file: each document by itself, and what is wrong with it by its line."""

import json
from typing import Any

import pytest

from claude_sandbox.manifests.documents import MOST_NODES, Text, documents


def read(text: str) -> tuple[list[tuple[int, Any]], list[tuple[int, str]]]:
    found, problems = documents(Text("x", text))
    return [(one.line, one.value) for one in found], [(one.line, one.message) for one in problems]


def test_each_document_has_its_line_and_empty_ones_are_none() -> None:
    found, problems = read("# a comment\n---\n---\n# Source: a\nkind: A\n---\n\n\nkind: B\n---\n")
    assert found == [(5, {"kind": "A"}), (9, {"kind": "B"})]
    assert problems == []


def test_a_broken_document_is_told_by_its_line_and_does_not_stop_the_others() -> None:
    found, problems = read("kind: A\n---\nx: y\nb: c: d\n---\nkind: B\n---\n{{ if }}\n---\nonly text\n")
    assert [value["kind"] for _, value in found] == ["A", "B"]
    assert [line for line, _ in problems] == [4, 8, 10]


def test_what_helm_prints_on_a_dry_run_is_read_without_its_notes() -> None:
    text = "NAME: x\nSTATUS: pending\nHOOKS:\nMANIFEST:\n---\n# Source: c/t.yaml\nkind: A\n\nNOTES:\n1. a: b: c\n"
    assert read(text) == ([(7, {"kind": "A"})], [])


@pytest.mark.parametrize(
    "text",
    ['{"kind": "A"}\n{"kind": "B"}', '[{"kind": "A"},\n{"kind": "B"}]', "{kind: A}\n---\n{kind: B}"],
)
def test_json_is_read_whether_it_is_one_text_or_several(text: str) -> None:
    found, problems = read(text)
    assert [value["kind"] for _, value in found] == ["A", "B"]
    assert problems == []


def test_yaml_is_read_as_kubectl_and_compose_read_it() -> None:
    [(_, value)], _ = read("date: 2026-01-31\nport: 22:22\nmode: 0440\nyes: yes\nnumber: 1_000\nfloat: 1.5\n")
    assert value == {"date": "2026-01-31", "port": "22:22", "mode": 0o440, True: True, "number": 1000, "float": 1.5}


def test_a_key_that_is_there_twice_is_told_since_readers_differ_on_which_counts() -> None:
    assert read("a: 1\nb: 2\na: 3\n") == ([], [(3, "it is not YAML: a key is there twice")])


def test_merged_keys_are_read() -> None:
    [(_, value)], _ = read("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n")
    assert value["b"] == {"x": 1, "y": 2}


def test_a_few_lines_that_would_be_billions_of_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    found, [(line, message)] = read("\n".join(lines))
    assert found == []
    assert line == 1
    assert str(MOST_NODES) in message


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 100_000, "[" * 100_000, "{" * 5000, "- " * 5000 + "x"]
)
def test_what_is_in_itself_or_too_deep_is_a_problem_and_no_crash(text: str) -> None:
    found, problems = read(text)
    assert found == []
    assert len(problems) == 1


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.system [id]", "!x a: b", "a: !!int x", "? [a]\n: b"])
def test_tags_make_nothing(text: str) -> None:
    found, problems = read(text)
    assert (found, len(problems)) == ([], 1)


def test_no_value_of_a_broken_document_is_repeated() -> None:
    _, problems = read('key: "sk-ant-api03-xxxx\n')
    assert "sk-ant" not in json.dumps(problems)
