"""A host may be taken away while a pass is at work on it: that is a host which can't be asked, and nothing worse."""

import docker
import pytest

from claude_sandbox.backends.docker.engine import Engine
from claude_sandbox.backends.docker.errors import EngineError


async def test_what_is_asked_of_an_engine_that_was_given_up_is_answered_as_by_one_that_is_silent() -> None:
    client = docker.APIClient("unix:///nowhere", version="1.41")
    engine = Engine(lambda: client)
    engine.close()
    with pytest.raises(EngineError) as found:
        await engine.container("any")
    assert found.value.is_unreachable
    client.close()
