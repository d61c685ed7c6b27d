"""A pass that began before its host was given up ends as one that could not reach it."""

import docker
import pytest

from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError


async def test_a_call_to_an_engine_that_was_given_up_fails_as_one_that_is_away() -> None:
    client = docker.APIClient("unix:///nonexistent/docker.sock", version="1.41")
    engine = Engine(lambda: client)
    engine.close()
    with pytest.raises(EngineError) as error:
        await engine.networks()
    assert error.value.is_unreachable
