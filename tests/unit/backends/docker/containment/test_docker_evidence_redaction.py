"""What of an engine's answers is kept as evidence: all but the credentials that programs were started with."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.credentials.evidence import shown_command, shown_document, shown_line
from claude_sandbox.backends.containment import as_file
from claude_sandbox.backends.docker.containment.redaction import shown_file

KEY = "sk-ant-" + "not-a-real-key-1"
PASSWORD = "hunter2" + "hunter2"
TITLES = ["PID", "USER", "COMMAND"]


def listed(*lines: str) -> bytes:
    return json.dumps(
        {"Processes": [[str(number), "1000", line] for number, line in enumerate(lines)], "Titles": TITLES},
        separators=(",", ":"),
    ).encode()


def shown(content: bytes, path: str = "agent/processes.json") -> tuple[Any, str]:
    found, why = shown_file(path, content)
    return json.loads(found), why


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python3 -c 'trap TERM' --to 192.0.2.1", "python3 -c 'trap TERM' --to 192.0.2.1"),
        (f"tool --api-key {KEY}", "tool [redacted]"),
        (f"curl -H Authorization: Bearer {KEY} https://example.org", "curl [redacted]"),
        (f"psql postgres://me:{PASSWORD}@example.org/db", "psql [redacted]"),
        (f"mysql --password={PASSWORD}", "mysql [redacted]"),
        (KEY, "[redacted]"),
        ("", ""),
    ],
)
def test_of_a_process_the_program_is_left_where_its_arguments_have_a_credential(line: str, expected: str) -> None:
    found, why = shown(listed("init", line))
    assert [row[-1] for row in found["Processes"]] == ["init", expected]
    assert (found["Titles"], why) == (TITLES, "")


def test_the_rows_that_are_whole_are_kept_of_an_answer_that_was_cut_off() -> None:
    whole = listed("one", f"two {KEY}", "three")
    found, _ = shown(whole[: whole.index(b"three") + 2])
    assert [row[-1] for row in found["Processes"]] == ["one", "two [redacted]"]


def test_what_is_nested_too_deep_is_left_out_as_what_was_cut_off_is() -> None:
    deep = b"[" * 100_000
    answer = b'{"Titles":' + deep + b',"Processes":[["root","one"],["root",' + deep
    found, _ = shown(answer)
    assert (found["Titles"], [row[-1] for row in found["Processes"]]) == (None, ["one"])


def test_long_and_many_arguments_are_cut_and_not_kept_unseen() -> None:
    found, why = shown(listed("x" * 4090 + f" --api-key {KEY}", "y" * 9000, f"z {KEY}"))
    assert [row[-1][:14] for row in found["Processes"]] == ["x" * 14, "y" * 14, "z [redacted]"]
    assert KEY[:9] not in json.dumps(found)
    assert why == ""
    found, why = shown(listed(*["y " * 5000] * 40, f"z {KEY}", "end"))
    assert [row[-1] for row in found["Processes"]][-2:] == ["[not looked through]"] * 2
    assert why == "processes' arguments beyond 256 KiB"


INSPECTED = {
    "Path": "/bin/tini",
    "Args": ["--", "tool", "--api-key", KEY],
    "Config": {
        "Env": ["PATH=/bin", f"GITHUB_TOKEN={PASSWORD}", f"OTHER={KEY}", "EMPTY"],
        "Entrypoint": ["tool", "--password"],
        "Cmd": [PASSWORD],
        "Healthcheck": {"Test": ["CMD-SHELL", f"probe --token={KEY}"]},
        "Labels": {"a": "b", "token": PASSWORD},
    },
    "HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": PASSWORD, "tag": "x"}}},
    "State": {"Paused": True},
}


def test_of_a_container_neither_variables_nor_command_lines_are_kept_with_a_credential() -> None:
    found, _ = shown(json.dumps(INSPECTED).encode(), "agent/inspect.json")
    assert (found["Path"], found["Args"]) == ("/bin/tini", ["[redacted]"])
    assert found["Config"] == {
        "Env": ["PATH=/bin", "GITHUB_TOKEN=[redacted]", "OTHER=[redacted]", "EMPTY"],
        "Entrypoint": ["tool", "[redacted]"],
        "Cmd": ["[redacted]"],
        "Healthcheck": {"Test": ["CMD-SHELL", "[redacted]"]},
        "Labels": {"a": "b", "token": "[redacted]"},
    }
    assert found["HostConfig"]["LogConfig"]["Config"] == {"splunk-token": "[redacted]", "tag": "x"}
    assert found["State"] == {"Paused": True}


def test_of_a_pod_and_its_sandbox_they_are_not_either() -> None:
    container = {
        "name": "agent",
        "env": [{"name": "GITHUB_TOKEN", "value": PASSWORD}, {"name": "MODE", "value": "quiet"}],
        "command": ["tool"],
        "args": ["--api-key", KEY],
        "livenessProbe": {"exec": {"command": ["probe", f"--token={KEY}"]}},
    }
    written = as_file(
        {"metadata": {"annotations": {"last": json.dumps(container)}}, "spec": {"containers": [container]}}
    )
    assert KEY.encode() not in written
    assert PASSWORD.encode() not in written
    [found] = json.loads(written)["spec"]["containers"]
    assert found["env"][1] == {"name": "MODE", "value": "quiet"}
    assert (found["command"], found["args"]) == (["tool", "[redacted]"], ["[redacted]"])


def test_what_somebody_ran_in_it_is_told_by_events_without_what_it_was_started_with() -> None:
    events = [
        {"Action": "pause", "status": "pause", "Actor": {"ID": "1", "Attributes": {"name": "csb", "token": PASSWORD}}},
        {"Action": f"exec_create: tool --api-key {KEY}", "status": f"exec_create: tool --api-key {KEY}"},
    ]
    content, why = shown_file("events.jsonl", b"".join(json.dumps(one).encode() + b"\n" for one in events) + b'{"Act')
    first, second = (json.loads(line) for line in content.splitlines())
    assert first == {**events[0], "Actor": {"ID": "1", "Attributes": {"name": "csb", "token": "[redacted]"}}}
    assert second == {"Action": "exec_create: tool [redacted]", "status": "exec_create: tool [redacted]"}
    assert why == "events that are no JSON"


def test_a_document_that_is_none_is_not_kept_unseen() -> None:
    content, why = shown_file("agent/inspect.json", f'{{"Config":{{"Env":["A={KEY}'.encode())
    assert (content, why) == (b"", "it is no JSON, so that no credential in it could be left out")


@pytest.mark.parametrize("path", ["agent/log", "agent/changed-files.json", "agent/usage.json"])
def test_other_files_stay_as_they_are(path: str) -> None:
    assert shown_file(path, KEY.encode()) == (KEY.encode(), "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["Env", "Cmd", "Args", "Path", "Test", "Labels", "LogConfig", "name", "value", "Command", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_it_is_it_stays_a_document_and_what_has_no_credential_stays_the_same(document: Any) -> None:
    json.dumps(shown_document(document))
    assert shown_document({"x": document, "Env": ["A=1"]})["Env"] == ["A=1"]


@given(st.lists(st.sampled_from(["tool", "--api-key", KEY, "--to", "x", ""]), max_size=5))
def test_no_credential_is_left_by_words_or_by_their_line(words: list[str]) -> None:
    assert KEY not in shown_command(words)
    assert KEY not in shown_line(" ".join(words))
