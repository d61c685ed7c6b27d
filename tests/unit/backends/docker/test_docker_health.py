"""Which container is restarted for not answering: one that can't run Claude Code, for long enough, and no other."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker_world import NEW, OLD, desired_of, live_of

from claude_sandbox.backends.base import Cause, Past
from claude_sandbox.backends.docker.documents.health import NOT_ALIVE
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.model import Observed, Plan, Verb
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.backends.docker.state import state_of

LATER = Past(provisioned=True, ran=True, settled=True)
DEAD, MUTE, REFUSES = {"ExitCode": NOT_ALIVE}, {"ExitCode": -1}, {"ExitCode": 1}


def planned(capabilities: EngineCapabilities = NEW, past: Past = LATER, may_start: bool = True, **state: Any) -> Plan:
    desired = replace(desired_of(capabilities), may_start=may_start)
    observed: Observed = live_of(desired)
    container = dict(observed.container or {})
    container["State"] = container["State"] | state
    return plan(desired, replace(observed, container=container), past)


def unhealthy(streak: int, *log: dict[str, int]) -> dict[str, Any]:
    return {"Status": "unhealthy", "FailingStreak": streak, "Log": list(log)}


@pytest.mark.parametrize("outcome", [DEAD, MUTE, {"ExitCode": 137}])
def test_what_does_not_answer_for_as_long_as_liveness_allows_is_restarted_and_paced(outcome: dict[str, int]) -> None:
    (step,) = planned(Health=unhealthy(4, *[outcome] * 4)).steps
    assert (step.verb, step.cause, step.paced, step.reason) == (Verb.RESTART, Cause.HEAL, True, "Unhealthy")


def test_two_minutes_are_as_long_on_an_engine_that_checks_more_often() -> None:
    assert not planned(OLD, Health=unhealthy(11, *[DEAD] * 5)).steps
    assert planned(OLD, Health=unhealthy(12, *[DEAD] * 5)).steps


@pytest.mark.parametrize(
    "health",
    [
        unhealthy(3, *[DEAD] * 3),
        # It answers that it has no key; restarting it would not help.
        unhealthy(100, *[REFUSES] * 5),
        unhealthy(100, DEAD, DEAD, DEAD, DEAD, REFUSES),
        # It could run a minute ago.
        unhealthy(100, DEAD, DEAD, REFUSES, DEAD, DEAD),
        {"Status": "starting", "FailingStreak": 100, "Log": [DEAD] * 5},
        {"Status": "healthy", "FailingStreak": 2, "Log": [DEAD] * 2},
        unhealthy(100),
        None,
    ],
)
def test_what_answers_or_only_just_fell_silent_is_left_alone(health: dict[str, Any] | None) -> None:
    assert not planned(Health=health).steps


def test_a_paused_container_is_resumed_and_not_restarted() -> None:
    (step,) = planned(Health=unhealthy(100, *[MUTE] * 5), Paused=True).steps
    assert step.verb is Verb.UNPAUSE


def test_without_a_key_it_is_not_ended() -> None:
    assert not planned(may_start=False, Health=unhealthy(100, *[MUTE] * 5)).steps


def test_one_that_ran_out_of_memory_is_started_again_for_that_reason() -> None:
    ended: dict[str, Any] = {"Running": False, "Status": "exited", "ExitCode": 137}
    (step,) = planned(**ended, OOMKilled=True).steps
    assert (step.verb, step.cause, step.reason, step.paths) == (
        Verb.START, Cause.HEAL, "OutOfMemory", ("State.OOMKilled",),
    )  # fmt: skip
    (step,) = planned(**ended, OOMKilled=False).steps
    assert (step.reason, step.paths) == ("", ("State.Status",))


def test_an_unhealthy_container_is_looked_at_again_for_no_event_tells_that_it_still_is() -> None:
    live = dict(live_of(desired_of()).container or {})
    for health, again in (({"Status": "healthy"}, None), (unhealthy(3, MUTE), 30.0), ({"Status": "starting"}, None)):
        live["State"] = live["State"] | {"Health": health}
        assert state_of(live, "host-1", "7", ()).again == again


@pytest.mark.parametrize(
    ("claude", "key", "code"),
    [
        ("exit 0", "key", 0),
        ("exit 3", "key", NOT_ALIVE),
        ("kill -9 $$", "key", NOT_ALIVE),
        ("exit 0", " \n", 1),
        ('[ "$1" = --version ]', "key", 1),
        (None, "key", NOT_ALIVE),
    ],
)
def test_the_check_tells_a_claude_that_can_not_run_from_one_that_is_not_ready(
    tmp_path: Path, claude: str | None, key: str, code: int
) -> None:
    _, shell, option, script = desired_of().documents.container["Healthcheck"]["Test"]
    if claude is not None:
        (tmp_path / "claude").write_text(f"#!/bin/sh\n{claude}\n")
        (tmp_path / "claude").chmod(0o755)
    (tmp_path / "key").write_text(key)
    script = script.replace("/run/claude-sandbox/api-key/api-key", str(tmp_path / "key"))
    done = subprocess.run([shell, option, script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert done.returncode == code
