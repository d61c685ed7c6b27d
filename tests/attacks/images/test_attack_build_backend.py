"""A package index hands out another build backend, or another part of one, than was locked.

Where the interpreter had no hatchling, pip fetched one for the operator's wheel by its version alone, and what that
needs in whatever version there was: who answers for the index ran code in the build. Now all of it comes by the hashes
of requirements-build.lock, and pip fetches nothing while it builds.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from claude_sandbox.localcluster.images import recipes, wheels


def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    ran: list[list[str]] = []

    def run(command: Sequence[str | Path], *_: object, **__: object) -> str:
        ran.append([str(part) for part in command])
        return ""

    for module in (recipes, wheels):
        monkeypatch.setattr(module, "run", run)
    # None has been fetched yet.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "pip.txt").write_text("pip==1\n")
    # An interpreter of a user, which has no backend.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "hatchling" else object())
    recipes.recipe("operator").fetch(directory, "3.11", lambda _line: None)
    return ran


def test_all_that_pip_fetches_for_the_operators_image_is_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = _commands(tmp_path, monkeypatch)
    assert any("wheel" in command for command in commands)
    for command in commands:
        assert "--require-hashes" in command or {"--no-index", "--no-build-isolation"} <= set(command), command


def test_the_locks_have_one_version_of_the_backend_and_of_what_it_needs() -> None:
    root = recipes.project()
    pins = {name: dict(_pins(root / name)) for name in ("requirements-build.lock", "requirements-dev.lock")}
    build = pins["requirements-build.lock"]
    assert build.items() <= pins["requirements-dev.lock"].items()
    system = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]
    assert system["requires"] == [f"hatchling=={build['hatchling']}"]


def _pins(lock: Path) -> list[tuple[str, str]]:
    return re.findall(r"^([\w-]+)==(\S+)", lock.read_text(), re.MULTILINE)
