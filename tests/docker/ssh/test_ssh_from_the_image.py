"""The operator's image can reach a Docker host by ssh, as locked down as its Deployment has it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from enginekit import own
from nodekit import report
from sshkit import DOCKER, SshServer, ssh_server

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.programs.os_packages import ensure

pytestmark = pytest.mark.engine

_CONNECT = """
import json, sys
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.backends.docker.engine.connection.client_credentials import SshCredentials
given = json.load(sys.stdin)
credentials = SshCredentials(given["key"].encode(), given["known"].encode())
with connect(parse(given["endpoint"]), credentials) as engine:
    print(engine.documents().info["ID"])
"""


@pytest.fixture
def made(may_have_engines: None, state_home: Path) -> Iterator[EngineDescription]:
    name = own("tests-from-the-image")
    try:
        yield engine.up(name, "29", say=report)
    finally:
        engine.down(name, report)


@pytest.fixture
def server(made: EngineDescription, tmp_path: Path) -> Iterator[SshServer]:
    """In the engine's own network, where its containers can reach it."""
    with ssh_server(tmp_path, made.names.sockets, made.netns) as running:
        yield running


@pytest.fixture
def image(made: EngineDescription) -> str:
    archive: ImageArchive = build_image("operator", report)
    return engine.load_image(made, archive)


def test_the_operators_image_reaches_a_host_by_ssh(made: EngineDescription, server: SshServer, image: str) -> None:
    credentials = server.credentials
    given = {
        "endpoint": server.endpoint,
        "key": credentials.private_key.decode(),
        "known": credentials.known_hosts.decode(),
    }
    docker = [str(ensure(DOCKER, report).path("docker")), "--host", made.socket]
    locked = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=65532:65532"]
    done = subprocess.run(
        [*docker, "run", "--rm", "--interactive", "--network=host", *locked, "--entrypoint=python3", image, "-c",
         _CONNECT],
        input=json.dumps(given), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    identifier = subprocess.run([*docker, "info", "--format={{.ID}}"], capture_output=True, text=True, check=True)
    assert done.stdout == identifier.stdout, done.stderr
