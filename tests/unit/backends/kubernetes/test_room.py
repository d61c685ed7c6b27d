"""A pod without room for files is not ready, and its probe says where; with room, all else of the probe counts."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.room import with_room
from claude_sandbox.backends.kubernetes.state import state_of
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.blueprint.tools import BUSYBOX

IMAGE = parse_image("example.org/claude@sha256:" + "a" * 64, "IfNotPresent")
HEAD = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"


def blueprint(**spec: Any) -> Blueprint:
    parsed = ClaudeSandboxSpec.model_validate({"credentials": {"apiKeySecretRef": {"name": "key"}}} | spec)
    return build(Identity("agents", "alice", "1"), parsed, Site(IMAGE))


def probed(directory: Path, lines: str, command: tuple[str, ...] = ("sh", "-c", "echo asked")) -> tuple[int, str, str]:
    """How the probe ends and what it says, where `df` says these lines; and what `df` was asked."""
    (directory / "df").write_text(f'#!/bin/sh\necho "$@" > {directory}/asked\nprintf "{lines}"\n')
    (directory / "df").chmod(0o755)
    environment = {"PATH": f"{directory}:{os.environ['PATH']}"}
    done = subprocess.run(with_room(blueprint(), command), env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, (directory / "asked").read_text().strip()


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        (f"{HEAD}tmpfs 100 98 2 98%% /tmp\n/dev/a b 9 9 9 9%% /workspace\n", 0, "asked\n"),
        (f"{HEAD}tmpfs 100 99 1 99%% /tmp\n", 0, "asked\n"),
        (f"{HEAD}tmpfs 100 100 0 100%% /tmp\n", 1, "no room left in /tmp\n"),
        (f"{HEAD}t 1 1 0 100%% /tmp\nt 1 1 0 100%% /workspace\n", 1, "no room left in /tmp /workspace\n"),
        # Whoever has no df, or one that says something else, is not held to be without room.
        ("", 0, "asked\n"),
        (f"{HEAD}- - - - - /tmp\n", 0, "asked\n"),
    ],
)
def test_without_room_it_is_not_ready_and_says_where(tmp_path: Path, lines: str, code: int, said: str) -> None:
    found = probed(tmp_path, lines)
    assert found == (code, said, "-P /tmp /home/claude /workspace")


def test_with_room_all_else_counts(tmp_path: Path) -> None:
    assert probed(tmp_path, HEAD, ("sh", "-c", 'exit "$1"', "x", "7"))[0] == 7


def test_what_it_may_not_write_to_does_not_matter_and_what_is_kept_does() -> None:
    assert "/workspace" not in " ".join(with_room(blueprint(workspace={"readOnly": True}), ("x",)))
    assert "/home/claude/.claude" in " ".join(with_room(blueprint(workspace={"keepHome": {"size": "1Gi"}}), ("x",)))


def test_in_an_image_that_is_anybody_s_it_takes_nothing_of_it() -> None:
    image = {"repository": "x", "digest": "sha256:" + "b" * 64}
    container = objects.pod(blueprint(image=image), "1")["spec"]["containers"][0]
    command = container["readinessProbe"]["exec"]["command"]
    assert command[:2] == [BUSYBOX, "sh"]
    assert f"{BUSYBOX} df -P" in command[3]


def test_the_condition_says_what_it_may_be_and_where_that_is_told() -> None:
    pod = objects.pod(blueprint(), "1")
    pod["metadata"] |= {"name": "sandbox-" + "a" * 53, "uid": "u"}
    running = {"name": "agent", "started": True, "ready": False, "state": {"running": {}}}
    pod["status"] = {"phase": "Running", "containerStatuses": [running]}
    state = state_of(pod)
    assert "no room" in state.message
    assert len(json.dumps(state.message)) <= 384, "it would be cut"


def test_it_has_its_time_where_the_agent_uses_all_of_the_least_cpu_there_may_be() -> None:
    """A quarter of a second, of a tenth of a processor, beside eight programs of the agent's own."""
    found = blueprint(resources={"cpu": "100m", "memory": "256Mi"})
    probe = objects.pod(found, None)["spec"]["containers"][0]["readinessProbe"]
    share = found.limits.cpu_millicores / 1000 / (8 + 1)
    assert 0.25 / share <= probe["timeoutSeconds"] < probe["periodSeconds"]
