"""An engine that listens on a port: who gets in, and that it is the same port after a restart."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException
from docker.tls import TLSConfig
from dockerkit import IMAGE
from enginekit import own
from nodekit import report
from requests.exceptions import RequestException

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.spec import BackendType
from claude_sandbox.backends.docker.engine.connection.client_credentials import TlsCredentials
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.copying import Limits, copy_in, copy_out
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.containers import container_place
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription, Tcp
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.pki.pki import Files

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def remote(engine_release: str, state_home: Path) -> Iterator[EngineDescription]:
    name = own(f"tests-tls-{engine_release.replace('.', '-')}")
    yield engine.up(name, engine_release, tcp=Tcp.TLS, say=report)
    engine.down(name, report)


def _connects(of: EngineDescription, ca: Path, pair: Files | None) -> bool:
    assert of.endpoint is not None
    client_cert = None if pair is None else (str(pair.certificate), str(pair.key))
    tls = TLSConfig(client_cert=client_cert, ca_cert=str(ca), verify=True)
    connected = docker.DockerClient(base_url=of.endpoint, tls=tls, version="1.41", timeout=30)
    # The environment's REQUESTS_CA_BUNDLE would otherwise win over the authority that was named.
    connected.api.trust_env = False
    try:
        return bool(connected.ping())
    except (DockerException, RequestException):
        return False
    finally:
        connected.close()


def test_only_who_has_a_certificate_of_the_engines_authority_gets_in(remote: EngineDescription, tmp_path: Path) -> None:
    assert _connects(remote, remote.ca, remote.client)
    assert not _connects(remote, remote.ca, None)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=client", "-keyout", tmp_path / "foreign.key", "-out", tmp_path / "foreign.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    foreign = Files(tmp_path, "foreign")
    assert not _connects(remote, remote.ca, foreign)
    assert not _connects(remote, foreign.certificate, remote.client)
    # The server's own certificate doesn't speak for a client.
    assert not _connects(remote, remote.ca, Files(remote.ca.parent, "server"))


async def test_files_are_copied_into_a_container_though_tls_closes_no_direction_alone(
    remote: EngineDescription, stand_in_image: ImageArchive, tmp_path: Path
) -> None:
    assert remote.endpoint is not None
    engine.load_image(remote, stand_in_image)
    pair = remote.client
    credentials = TlsCredentials(remote.ca.read_bytes(), pair.certificate.read_bytes(), pair.key.read_bytes())
    where = EngineAddress(remote.endpoint, parse(remote.endpoint), credentials)
    (tmp_path / "up/deep").mkdir(parents=True)
    (tmp_path / "up/deep/file").write_bytes(os.urandom(2_000_003))
    with connect(where.address, where.credentials) as connection:
        made = connection.api.create_container(IMAGE, ["sleep", "600"], user="0:0", working_dir="/tmp")["Id"]
        connection.api.start(made)
        try:
            async with container_place(where, Target("agents", "a", "u", BackendType.DOCKER, made)) as place:
                session = await place.run(["true"], stdin=True)
                assert not session.can_end_input
                await session.close()
                await copy_in(place, tmp_path / "up", "", "/tmp")
                await copy_out(place, "up", tmp_path / "down", "/tmp", Limits(1 << 30))
        finally:
            connection.api.remove_container(made, force=True)
    assert (tmp_path / "down/deep/file").read_bytes() == (tmp_path / "up/deep/file").read_bytes()


def test_the_port_is_the_same_after_a_restart(remote: EngineDescription) -> None:
    engine.kill(remote)
    assert not _connects(remote, remote.ca, remote.client)
    engine.start(remote)
    assert _connects(remote, remote.ca, remote.client)
    assert engine.up(remote.name, say=report) == remote


def test_an_engine_can_be_open_to_everyone_on_the_machine_for_the_sake_of_tests(engine_release: str) -> None:
    name = own("tests-plain")
    try:
        made = engine.up(name, engine_release, tcp=Tcp.PLAIN, say=report)
        connected = docker.DockerClient(base_url=made.endpoint)
        assert connected.ping()
        connected.close()
    finally:
        engine.down(name, report)
