"""The engine that images are built with leaves the machine as it was."""

from pathlib import Path

import pytest

from claude_sandbox.localcluster.images.engine import _private

pytestmark = pytest.mark.engine


def test_a_private_engine_leaves_nothing_in_the_machines_configuration(may_have_engines: None) -> None:
    directory = Path("/etc/docker")
    before = sorted(map(str, directory.glob("*"))), directory.exists()
    with _private(print) as client:
        assert client.ping()
    assert (sorted(map(str, directory.glob("*"))), directory.exists()) == before
