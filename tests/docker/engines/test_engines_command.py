"""`claude-sandbox engine`, as a person uses it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from enginekit import own
from nodekit import report

from claude_sandbox.localcluster import engine

pytestmark = pytest.mark.engine


@pytest.fixture
def name(may_have_engines: None, state_home: Path) -> Iterator[str]:
    chosen = own("tests-command")
    yield chosen
    engine.down(chosen, report)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "claude_sandbox.cli.main", "engine", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_engine_is_brought_up_seen_and_removed(name: str, engine_release: str) -> None:
    up = _run("up", "--name", name, "--release", engine_release, "--tls")
    assert up.returncode == 0, up.stderr
    status = _run("status", "--name", name, "--output", "json")
    assert status.returncode == 0
    document = json.loads(status.stdout)
    assert document["version"].startswith(f"{engine_release}.")
    assert document["healthy"] is True
    assert f"export DOCKER_HOST={document['socket']}" in up.stdout
    assert document["endpoint"] in up.stdout
    table = _run("status", "--name", name).stdout
    assert all(str(component["pid"]) in table for component in document["components"])
    assert f"--net={document['networkNamespace']}" in table

    engine.kill(engine.status(name).engine)
    broken = _run("status", "--name", name)
    assert broken.returncode == 1
    assert f"claude-sandbox engine up --name {name}" in broken.stderr

    down = _run("down", "--name", name)
    assert (down.returncode, down.stdout) == (0, f"The engine {name!r} is gone.\n")
    again = _run("down", "--name", name)
    assert (again.returncode, again.stdout) == (0, f"There was no engine {name!r}.\n")
    gone = _run("status", "--name", name)
    assert gone.returncode == 1
    assert "Remedy: Make it" in gone.stderr
