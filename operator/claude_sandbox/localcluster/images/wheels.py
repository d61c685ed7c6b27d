"""The wheels that an image installs: fetched once for each list of them, and checked against its hashes then."""

import hashlib
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from claude_sandbox.localcluster.images.progress import run
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import toolchain

REMEDY = "Let pip reach a package index (PIP_INDEX_URL), and try again."
# glibc of the wheels that the operator's image may hold: its base is Debian 12 (2.36) or newer.
_PLATFORMS = tuple(
    f"{tag}_{platform.machine()}" for tag in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
)


def pip() -> list[str]:
    """The command, which asks nobody and says little."""
    return [*toolchain.pip(), "--quiet", "--disable-pip-version-check", "--no-input"]


def fetched(lists: Sequence[Path], python: str, report: Callable[[str], None]) -> Path:
    """A directory with the wheels of all lists, each with its hash, for that version of Python (`3.11`): to be read.

    Raises LocalClusterError where one can't be had, or is not what its hash says.
    """
    made_of = (python, *_PLATFORMS, *(one.read_text() for one in lists))
    parent = cache_dir() / "wheels"
    target = parent / hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    with locked(parent):
        if not target.exists():
            _fetch(lists, python, target, report)
    return target


def _fetch(lists: Sequence[Path], python: str, target: Path, report: Callable[[str], None]) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    run(
        [*pip(), "download", "--require-hashes", "--only-binary=:all:", "--python-version", python,
         *(f"--platform={one}" for one in _PLATFORMS), "--dest", partial,
         *(word for one in lists for word in ("--requirement", one))],
        "Fetching the operator's wheels", report, remedy=REMEDY,
    )  # fmt: skip
    partial.rename(target)
