"""What the agent is asked for, and what the stand-in for the Claude API has Claude Code do about it. Pure.

Which tools Claude Code has, and what each is given, is as of the version in the sandbox's image (2.1.331).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DIRECTORY = "/workspace/project"
TASK = "The test fails. Mend greeting.py, see that the test passes, commit, and push to the branch"
BRANCH, SCRIPTED_BRANCH = "claude/mended", "claude/mended-by-script"
"""What the model's work is pushed to, and what the stand-in's is."""
DONE = "The test passes, and the change is pushed (said by the demo's stand-in for the Claude API)."
_FILE = f"{DIRECTORY}/greeting.py"


@dataclass(frozen=True)
class Step:
    """One use of a tool."""

    tool: str
    given: Mapping[str, str]


STEPS = (
    Step("Read", {"file_path": _FILE}),
    Step("Edit", {"file_path": _FILE, "old_string": "nmae", "new_string": "name"}),
    Step("Bash", {"command": "python3 -m unittest", "description": "Run the test"}),
    Step(
        "Bash",
        {
            "command": f"git checkout -qb {SCRIPTED_BRANCH} && git commit -qam 'Spell the name as it is given'"
            " && git push -q origin HEAD",
            "description": "Commit, and push",
        },
    ),
)


def prompt(branch: str) -> str:
    """What Claude Code is asked."""
    return f"{TASK} {branch}."


def next_step(request: Mapping[str, Any]) -> Step | str | None:
    """What the stand-in answers to a request of the Messages API: the next step, or the last word; None where it was
    not asked for the task. A step that failed is the last.
    """
    blocks = list(_blocks(request))
    if not any(TASK in str(block.get("text") or "") for block in blocks):
        return None
    results = [block for block in blocks if block.get("type") == "tool_result"]
    if results and results[-1].get("is_error"):
        return f"The demo's stand-in for the Claude API knows no way around this: {_text(results[-1])}"
    return STEPS[len(results)] if len(results) < len(STEPS) else DONE


def _blocks(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of what the user's side has said, in order."""
    for message in request.get("messages") or ():
        if message.get("role") == "user":
            content = message.get("content")
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content or ()


def _text(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    return content if isinstance(content, str) else " ".join(str(one.get("text") or "") for one in content or ())
