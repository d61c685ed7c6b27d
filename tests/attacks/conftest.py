"""Fixtures for the attacks: a sandbox's image on the engines, and Claude Code's own program."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from claude_lab import Lab, claude_lab
from dockerkit import host, stand_in_image
from nodekit import report

from claude_sandbox.localcluster.images.recipes import fetch_claude

__all__ = ["host", "stand_in_image"]


@pytest.fixture(scope="session")
def claude_program(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program that the sandbox's image has; 400 MB, gone when the tests are over."""
    directory = tmp_path_factory.mktemp("claude")
    # Another user runs it.
    for place in (directory, directory.parent, directory.parent.parent):
        place.chmod(0o711)
    program = fetch_claude(directory, report)
    yield program
    program.unlink()


@pytest.fixture(scope="session")
def lab(claude_program: Path) -> Iterator[Lab]:
    with claude_lab(claude_program) as made:
        yield made
