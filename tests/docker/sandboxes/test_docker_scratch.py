"""Programs in scratch space on real engines, in the sandbox's real image: what tools make there runs, unless forbidden.

The control of each is the other choice, on the same engine.
"""

import json
from pathlib import Path

import pytest
from dockerkit import Sandbox, process_of, sandbox

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.status import Result
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

_SCRIPT = (Path(__file__).parents[1] / "inside" / "own_programs.py").read_text()


def made_there(one: Sandbox, *parts: str) -> dict[str, str]:
    """What became of the programs that the script of tests/docker/inside made in the sandbox."""
    container = one.sdk.containers.get(one.names.container)
    code, output = run_inside(container.client.api, container.id, "python3", "-c", _SCRIPT, *parts)
    assert code == 0, output
    found: dict[str, str] = json.loads(output)
    return found


async def test_what_tools_make_in_scratch_space_runs(host: EngineDescription, image: dict[str, str]) -> None:
    async with sandbox(host, image=image) as one:
        await one.made()
        found = made_there(one, "python")
        assert {name: answer for name, answer in found.items() if answer != "ok"} == {}
        # What the agent puts on its PATH stands behind everything that the image has.
        assert one.sh("echo $PATH").strip().endswith(":/home/claude/.local/bin")


async def test_where_it_is_forbidden_nothing_there_runs_and_the_controls_say_so(
    host: EngineDescription, image: dict[str, str]
) -> None:
    async with sandbox(host, image=image, security={"executableScratch": False}) as one:
        outcomes = await one.made()
        found = made_there(one)
        assert found.pop("a library in $TMPDIR") != "ok"
        assert set(found.values()) == {"PermissionError"}
        for line in (process_of(one) / "mountinfo").open():
            place, options = line.split()[4:6]
            assert place not in ("/tmp", "/home/claude") or "noexec" in options.split(",")
        compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        assert compliant[0] is ConditionStatus.TRUE, compliant
        assert "FS-07" in {id for passed in compliance.passed for id in passed.controls}


async def test_a_sandbox_whose_scratch_space_runs_programs_against_its_spec_is_told(
    host: EngineDescription, image: dict[str, str]
) -> None:
    """Made for the one choice, and measured by the other: what an engine is told is not taken for what is declared."""
    async with sandbox(host, image=image) as one:
        outcomes = await one.made()
        one.spec["security"] = {"executableScratch": False}
        compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        (told,) = [control for control in compliance.controls if control.id == "FS-07"]
        assert told.result is Result.FAIL
        assert "/tmp" in told.message
