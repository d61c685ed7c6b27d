"""How much Claude Code's real program writes of what it does, by variables that a sandbox's spec may set."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from claude_lab import Lab, claude_lab
from test_gateway_claude_code import claude

from claude_sandbox.api.fields.environment import EnvVar

__all__ = ["claude"]

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


@pytest.fixture
def lab(claude: Path, needs_root: None) -> Iterator[Lab]:
    # Another user runs it.
    for place in list(claude.parents)[:3]:
        place.chmod(0o711)
    with claude_lab(claude) as made:
        yield made


def written(lab: Lab, **variables: str) -> set[str]:
    """The levels of the lines in its debug log."""
    for name, value in variables.items():
        EnvVar.model_validate_json(json.dumps({"name": name, "value": value}))
    lab.environment = variables
    found = lab.run({})
    assert found.api, found.output
    lines = (line for path in lab.home.rglob(".claude/debug/*.txt") for line in path.read_text().splitlines())
    return {level for line in lines for level in LEVELS if f"[{level}]" in line}


def test_it_writes_a_debug_log_where_it_is_told_to_and_nothing_below_the_level_that_is_asked_for(lab: Lab) -> None:
    assert written(lab) == set()
    assert "DEBUG" in written(lab, DEBUG="1")
    assert not {"DEBUG", "INFO"} & written(lab, DEBUG="1", CLAUDE_CODE_DEBUG_LOG_LEVEL="warn")
