"""By which way an engine is reached decides whose kernel may be asked; one that was given up is one that is silent."""

import contextlib
import shutil
from collections.abc import Iterator

import docker
import pytest

from claude_sandbox.api.docker_hosts.endpoints import Address
from claude_sandbox.backends.docker.engine.connection.ssh import SshAdapter
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError


@contextlib.contextmanager
def client(url: str) -> Iterator[docker.APIClient]:
    with contextlib.closing(docker.APIClient(url, version="1.41")) as made:
        yield made


def test_only_a_socket_of_this_machine_may_lead_to_an_engine_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/ssh")
    with client("unix:///nowhere") as socket, client("tcp://127.0.0.1:1") as tcp, client("unix:///unused") as ssh:
        ssh.mount("http+docker://", SshAdapter(Address("ssh", host="example.org"), None, 5, 1))
        assert Engine(lambda: socket).may_be_local
        assert not Engine(lambda: tcp).may_be_local
        assert not Engine(lambda: ssh).may_be_local

    def lost() -> docker.APIClient:
        raise EngineError(UNREACHABLE, "it does not answer")

    assert not Engine(lost).may_be_local


async def test_what_is_asked_of_an_engine_that_was_given_up_is_answered_as_by_one_that_is_silent() -> None:
    """Its host may be taken away while a pass is at work on it."""
    with client("unix:///nowhere") as connected:
        engine = Engine(lambda: connected)
        engine.close()
        with pytest.raises(EngineError) as found:
            await engine.container("any")
        assert found.value.is_unreachable
