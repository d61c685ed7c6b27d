"""On Docker too, the level and the exceptions that a sandbox asks for decide which controls count."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from docker_world import CLUSTER, blueprint_of, spec_of
from test_docker_hostile import ANSWERS, LATER, Answers, NoSecrets

from claude_sandbox.api.spec import Level
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.pacing import Pacer


def measured(level: Level = Level.SANDBOX, exceptions: tuple[dict[str, str], ...] = ()) -> Compliance:
    async def measure() -> Compliance:
        backend = DockerBackend(Answers(ANSWERS), CLUSTER, "host", NoSecrets(), Pacer())  # type: ignore[arg-type]
        spec = spec_of(compliance={"level": level.value, "exceptions": list(exceptions)})
        outcome = await backend.ensure(blueprint_of(), KeyState("7"), spec, LATER)
        return (await backend.measure(blueprint_of(), spec, outcome))[0]

    return asyncio.run(measure())


@pytest.mark.parametrize("level", list(Level))
def test_the_level_of_the_spec_decides_how_many_controls_count(level: Level) -> None:
    lower = list(Level)[: list(Level).index(level)]
    counts = [int(measured(one).summary.required.partition("/")[2]) for one in (*lower, level)]
    assert counts == sorted(set(counts))


def test_the_exceptions_of_the_spec_count() -> None:
    failing = next(one.id for one in measured().controls if one.required and one.result in ("Fail", "Unknown"))
    until = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    told = {"control": failing, "reason": "x", "owner": "alice", "expires": until}
    [found] = [one for one in measured(exceptions=(told,)).controls if one.id == failing]
    assert (found.required, found.excepted_until) == (False, until)
