"""What people meet first: `make`, and its words where something is missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from repository import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a fresh clone as make needs to begin."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The tests may themselves have been started by make.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", "-C", directory, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_make_alone_teaches(clone: Path) -> None:
    done = make(clone)
    assert done.returncode == 0
    taught = set(re.findall(r"^  ([a-z0-9-]+) +\S", done.stdout, re.MULTILINE))
    assert {"demo", "demo-down", "test", "test-unit", "test-api", "test-e2e", "lint", "bench", "images"} <= taught
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("target", ["test", "lint", "demo", "lock"])
def test_without_a_usable_python_the_remedy_is_said(clone: Path, target: str) -> None:
    done = make(clone, target, "PYTHON=")
    assert done.returncode != 0
    assert "apt-get install python3 python3-venv" in done.stderr
    assert "make PYTHON=/path/to/python3" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_fresh_environment_is_not_touched(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/.installed").touch()
    done = make(clone, ".venv/.installed", "PYTHON=")
    assert done.returncode == 0, done.stderr


def test_what_make_starts_keeps_what_it_compiles(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    python = clone / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    (clone / ".venv/.installed").touch()
    done = make(clone, "programs")
    assert "PATH=" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
