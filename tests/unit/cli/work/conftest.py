"""A sandbox whose commands run in a directory here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from exec_server import ExecServer, exec_server


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """What the sandbox has."""
    found = tmp_path / "inside"
    found.mkdir()
    return found


@pytest.fixture
def server(inside: Path, tmp_path: Path) -> Iterator[ExecServer]:
    with exec_server(inside, tmp_path) as found:
        yield found
