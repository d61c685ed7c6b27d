"""What the stand-in for the Claude API has Claude Code do, as the Messages API and its streams have it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from claude_sandbox.demo import stand_in
from claude_sandbox.demo.work import server, show, task

QUESTION = {"role": "user", "content": [{"type": "text", "text": task.prompt(task.SCRIPTED_BRANCH)}]}


def events(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the stand-in says to a request, each event under its own name."""
    text = stand_in.answer(json.dumps({"model": "claude-test-1", "messages": messages}).encode()).decode()
    found = []
    for event in text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def block(*messages: dict[str, Any]) -> dict[str, Any]:
    """The one block of the answer, put together as a client does."""
    by_type = {one["type"]: one for one in events(*messages)}
    found: dict[str, Any] = by_type["content_block_start"]["content_block"]
    delta = by_type["content_block_delta"]["delta"]
    if found["type"] == "tool_use":
        assert by_type["message_delta"]["delta"]["stop_reason"] == "tool_use"
        return {**found, "input": json.loads(delta["partial_json"])}
    assert by_type["message_delta"]["delta"]["stop_reason"] == "end_turn"
    return {**found, "text": delta["text"]}


def turn(used: dict[str, Any], *, failed: bool = False, said: str = "done") -> list[dict[str, Any]]:
    """What a client sends back for a tool that was used."""
    result = {"type": "tool_result", "tool_use_id": used["id"], "content": said, "is_error": failed}
    return [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]


def test_the_task_is_done_step_by_step_and_then_it_is_said() -> None:
    talk, used = [QUESTION], []
    for _ in task.STEPS:
        used.append(block(*talk))
        talk += turn(used[-1])
    assert [(one["name"], one["input"]) for one in used] == [(step.tool, step.given) for step in task.STEPS]
    assert len({one["id"] for one in used}) == len(used)
    assert block(*talk) == {"type": "text", "text": task.DONE}


def test_each_message_is_one_of_its_own() -> None:
    first, second = (events(QUESTION)[0]["message"]["id"] for _ in range(2))
    assert first != second


def test_a_step_that_failed_is_the_last_and_nothing_is_claimed() -> None:
    used = block(QUESTION)
    said = block(QUESTION, *turn(used, failed=True, said="the file is not there"))["text"]
    assert "the file is not there" in said
    assert task.DONE not in said


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"messages": [{"role": "user", "content": "Answer with one word: pong"}]}),
        json.dumps({"messages": [{"role": "assistant", "content": task.TASK}]}),
        json.dumps([1]), json.dumps({"messages": 1}), json.dumps({"messages": ["x"]}), "no JSON", "",
    ],
)  # fmt: skip
def test_all_else_is_answered_with_the_same_word(body: str) -> None:
    assert json.dumps(stand_in.ANSWER) in stand_in.answer(body.encode()).decode()


def test_the_script_mends_what_the_repository_begins_with() -> None:
    (edit,) = (step for step in task.STEPS if step.tool == "Edit")
    name = edit.given["file_path"].removeprefix(f"{task.DIRECTORY}/")
    broken = server.FILES[name]
    assert broken.count(edit.given["old_string"]) == 1
    mended = broken.replace(edit.given["old_string"], edit.given["new_string"])
    assert greeted(mended).stdout.strip() == "Hello, Ada!"
    assert "NameError" in greeted(broken).stderr


def greeted(source: str) -> subprocess.CompletedProcess[str]:
    program = f"{source}\nprint(greeting('Ada'))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def stream(*events: Any) -> str:
    return "\n".join(json.dumps(one) for one in events)


def test_what_claude_code_did_is_told_a_line_each() -> None:
    use = {"type": "tool_use", "name": "Bash", "input": {"command": "make\ntest", "description": "Test"}}
    edit = {"type": "tool_use", "name": "Edit", "input": {"replace_all": False, "file_path": f"{task.DIRECTORY}/a.py"}}
    output = stream(
        {"type": "system", "subtype": "init", "tools": ["Bash"]},
        {"type": "assistant", "message": {"content": [{"type": "thinking", "thinking": "hm"}, use]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "no rule", "is_error": True}]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "fine"}]}},
        {"type": "assistant", "message": {"content": [edit, {"type": "text", "text": "It is done."}]}},
        {"type": "result", "result": "It is done."},
    )
    assert list(show.told(output)) == [
        "  Bash: make test", "    which failed: no rule", "  Edit: a.py", "It is done."
    ]  # fmt: skip


def test_what_an_agent_says_obeys_no_terminal_and_is_bounded() -> None:
    bad = {"type": "tool_use", "name": "Bash\x1b[2J", "input": {"command": "echo \x1b]0;title\x07" + "x " * 1000}}
    output = "\x1b[31mno stream at all\n" + stream(
        {"type": "assistant", "message": {"content": [bad]}}, {"type": "assistant", "message": "text"}, [1], 2
    )
    lines = list(show.told(output))
    assert len(lines) == 2
    assert not any(one in line for line in lines for one in "\x1b\x07")
    assert all(len(line) < 400 for line in lines)
