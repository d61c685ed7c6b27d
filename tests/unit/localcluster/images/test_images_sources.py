"""How the images' ingredients are chosen, named and refused."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.images import NAMES, recipes, wheels
from claude_sandbox.localcluster.images.base import Source, packages, sources
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "claude-sandbox"


@pytest.mark.parametrize("name", NAMES)
def test_the_dockerfile_installs_just_the_packages_that_a_bootstrapped_base_has(name: str, tmp_path: Path) -> None:
    """A package that only one of them read from the list would be fetched in a build that has no network."""
    recipe = recipes.recipe(name)
    programs = tmp_path / "bin"
    programs.mkdir()
    _script(programs / "dpkg-query", "exit 1")
    _script(programs / "apt-get", f'[ "$1" = install ] && echo "$@" >{tmp_path}/asked; exit 0')
    _script(programs / "rm", "exit 0")
    _script(programs / "grep", "exit 1")
    subprocess.run(
        ["/bin/sh", recipes.project() / "images/install-packages", recipe.sources[0] / "packages.txt"],
        env={"PATH": str(programs)},
        check=True,
    )
    asked = {word for word in (tmp_path / "asked").read_text().split()[1:] if not word.startswith("-")}
    assert asked == set(recipe.packages())


def test_packages_leave_out_comments_and_conditions() -> None:
    assert packages("# all\n\nbash\npython3 unless=python3 # why\n#git\ncurl# transfer\n") == (
        "bash",
        "python3",
        "curl",
    )


def test_only_the_distributions_own_sources_make_a_base_image() -> None:
    targets = (
        "Debian|http://mirror.test/debian/|bookworm|main\n"
        "Other Vendor|http://vendor.test/|bookworm|main\n"
        "Debian|http://mirror.test/security/|bookworm-security|main\n"
        "Debian|http://mirror.test/debian/|bookworm|main\n"
    )
    assert sources(targets, "debian") == (
        Source("http://mirror.test/debian/", "bookworm", "main"),
        Source("http://mirror.test/security/", "bookworm-security", "main"),
    )


def test_an_image_is_built_anew_when_one_of_its_files_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recipes.project()
    for part in (
        "images",
        "pyproject.toml",
        "requirements.lock",
        "requirements-build.lock",
        "operator/claude_sandbox/cli",
    ):
        copy = shutil.copytree if (root / part).is_dir() else shutil.copy
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy(root / part, tmp_path / part)
    monkeypatch.setattr(recipes, "project", lambda: tmp_path)
    before = {name: recipes.recipe(name).key() for name in NAMES}
    assert before == {name: recipes.recipe(name).key() for name in NAMES}

    with (tmp_path / "images/sandbox/entrypoint").open("a") as file:
        file.write("\n# changed\n")
    assert recipes.recipe("sandbox").key() != before["sandbox"]
    assert recipes.recipe("operator").key() == before["operator"]

    (tmp_path / "operator/claude_sandbox/new.py").write_text("")
    assert recipes.recipe("operator").key() != before["operator"]


def test_a_claude_code_package_with_another_hash_is_refused_and_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    _script(programs / "npm", "echo tampered >package.tgz")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    directory = tmp_path / "context"
    directory.mkdir()
    with pytest.raises(LocalClusterError, match="is not what was published"):
        recipes.recipe("sandbox").stage(directory, "3.11", lambda _line: None)
    assert list((cache / "npm").iterdir()) == []
    assert not (directory / "claude").exists()


def test_a_machine_without_apt_is_told_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("claude_sandbox.localcluster.programs.os_packages._SYSTEM_PATH", "/nonexistent")
    with pytest.raises(LocalClusterError) as error:
        ensure(Needed(("containerd",), ("containerd", "ctr")), lambda _line: None)
    assert error.value.message == "These are not installed: containerd, ctr."
    assert "containerd" in error.value.remedy


def test_the_wheels_of_a_list_are_fetched_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "requirements.lock"
    listed.write_text("click==8.1.7 --hash=sha256:00")
    asked = _pip(tmp_path, monkeypatch, 'echo wheel >"$dest/click.whl"')
    first = wheels.fetched([listed], "3.11", _quiet)
    assert (first / "click.whl").exists()
    assert wheels.fetched([listed], "3.11", _quiet) == first
    assert len(asked()) == 1
    assert all(
        option in asked()[0] for option in ("--require-hashes", "--python-version 3.11", f"--requirement {listed}")
    )
    assert wheels.fetched([listed], "3.12", _quiet) != first
    listed.write_text("click==8.1.8 --hash=sha256:00")
    assert wheels.fetched([listed], "3.11", _quiet) != first
    assert len(asked()) == 3


def test_wheels_that_are_not_what_was_asked_for_are_not_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "requirements.lock"
    listed.write_text("click==8.1.7 --hash=sha256:00")
    _pip(tmp_path, monkeypatch, 'echo wheel >"$dest/other.whl"; exit 1')
    with pytest.raises(LocalClusterError):
        wheels.fetched([listed], "3.11", _quiet)
    _pip(tmp_path, monkeypatch, 'echo wheel >"$dest/click.whl"')
    assert [one.name for one in wheels.fetched([listed], "3.11", _quiet).iterdir()] == ["click.whl"]


def _pip(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Callable[[], list[str]]:
    """A pip that does this with the directory that it is to write to; gives what was asked of it."""
    asked = directory / "asked"
    directories = 'for one; do [ "$before" != --dest ] || dest=$one; before=$one; done'
    _script(directory / "pip", f'echo "$*" >>{asked}\n{directories}\n{body}')
    monkeypatch.setattr(wheels, "pip", lambda: [str(directory / "pip")])
    return lambda: asked.read_text().splitlines()


def _quiet(line: str) -> None:
    pass
