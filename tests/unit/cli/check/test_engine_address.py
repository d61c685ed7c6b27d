"""Which engine is measured where none is named: the one that the docker command would speak to."""

import hashlib
import json
from pathlib import Path

import pytest

from claude_sandbox.api.docker_hosts.endpoints import Address
from claude_sandbox.backends.docker.engine.connection.client_credentials import TlsCredentials
from claude_sandbox.cli.local.engine_address import AddressError, Tls, engine_address

NO_TLS = Tls()
FILES = ("ca.pem", "cert.pem", "key.pem")


def context(home: Path, name: str, host: str, *, tls: bool = False) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = home / "contexts/meta" / digest
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if tls:
        pems(home / "contexts/tls" / digest / "docker", name)


def pems(directory: Path, content: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        (directory / file).write_text(f"{content} {file}")


def test_without_anything_it_is_the_local_socket(tmp_path: Path) -> None:
    found = engine_address(None, NO_TLS, {"HOME": str(tmp_path)})
    assert found.address == Address("unix", path="/var/run/docker.sock")
    assert found.credentials is None


def test_the_option_wins_over_the_environment_and_that_over_the_context(tmp_path: Path) -> None:
    context(tmp_path, "far", "ssh://me@far")
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "far"}))
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    assert engine_address(None, NO_TLS, environment).endpoint == "ssh://me@far"
    environment["DOCKER_HOST"] = "unix:///a.sock"
    assert engine_address(None, NO_TLS, environment).endpoint == "unix:///a.sock"
    assert engine_address("unix:///b.sock", NO_TLS, environment).endpoint == "unix:///b.sock"


def test_a_context_brings_its_certificates_along(tmp_path: Path) -> None:
    context(tmp_path, "far", "tcp://far:2376", tls=True)
    found = engine_address(None, NO_TLS, {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far"})
    assert found.credentials == TlsCredentials(b"far ca.pem", b"far cert.pem", b"far key.pem")


def test_a_context_that_is_not_there_is_not_replaced_by_another_engine(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="context 'gone' can't be read"):
        engine_address(None, NO_TLS, {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "gone"})


def test_files_that_are_not_named_are_dockers_own(tmp_path: Path) -> None:
    pems(tmp_path / "certs", "usual")
    (tmp_path / "mine").write_text("mine")
    environment = {"DOCKER_HOST": "tcp://x:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path / "certs")}
    assert engine_address(None, NO_TLS, environment).credentials == TlsCredentials(
        b"usual ca.pem", b"usual cert.pem", b"usual key.pem"
    )
    mine = Tls(verify=True, ca=str(tmp_path / "mine"))
    assert engine_address(None, mine, environment).credentials == TlsCredentials(
        b"mine", b"usual cert.pem", b"usual key.pem"
    )


def test_certificates_that_are_to_be_used_and_are_not_there_are_no_reason_to_go_without(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match=r"ca.pem can't be read: No such file"):
        engine_address("tcp://x:1", Tls(verify=True), {"HOME": str(tmp_path)})


def test_what_is_wrong_with_an_endpoint_is_said_without_it(tmp_path: Path) -> None:
    with pytest.raises(AddressError) as caught:
        engine_address("tcp://me:secret@x:1", NO_TLS, {"HOME": str(tmp_path)})
    assert "secret" not in str(caught.value)
