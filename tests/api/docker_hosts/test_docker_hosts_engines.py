"""Docker hosts whose engines are real ones, old and new: what is measured is what the engine was set up to be."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from docker_fleet import Fleet, condition, is_ready
from enginekit import own

from claude_sandbox.api.endpoints import parse
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.connect import connect
from claude_sandbox.backends.docker.material import TlsMaterial
from claude_sandbox.compliance.docker.host_evidence import HostEvidence
from claude_sandbox.compliance.docker.host_report import findings
from claude_sandbox.compliance.evidence import Reading
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription, Tcp

pytestmark = pytest.mark.engine


def report(line: str) -> None:
    print(line)


@pytest.fixture(scope="module")
def running(engine_release: str, state_home: Path) -> Iterator[EngineDescription]:
    """An engine as it is installed, that listens for mutual TLS as well."""
    name = own(f"hosts-{engine_release.replace('.', '-')}")
    try:
        yield engine.up(name, engine_release, tcp=Tcp.TLS, say=report)
    finally:
        engine.down(name, report)


def material(of: EngineDescription) -> TlsMaterial:
    return TlsMaterial(of.ca.read_bytes(), of.client.certificate.read_bytes(), of.client.key.read_bytes())


def measured(of: EngineDescription) -> dict[str, Result]:
    with connect(parse(of.socket)) as connected:
        now = datetime.now(UTC)
        reading = Reading(connected.documents(), EvidenceSource.INSPECT, now)
    evidence = HostEvidence("unix", False, reading, now, timedelta(minutes=1))
    return {finding.control.id: finding.result for finding in findings(evidence)}


def test_the_socket_and_mutual_tls_lead_to_the_same_engine(running: EngineDescription) -> None:
    with connect(parse(running.socket)) as near, connect(parse(running.endpoint), material(running)) as far:
        assert near.documents().info["ID"] == far.documents().info["ID"]
        assert near.version["Version"].startswith(running.release)


def test_an_engine_as_it_is_installed(running: EngineDescription) -> None:
    result = measured(running)
    for control in ("HOST-01", "HOST-02", "HOST-03", "HOST-12", "HOST-13"):
        assert result[control] is Result.PASS, control
    for control in ("HOST-05", "HOST-11", "HOST-14"):
        assert result[control] is Result.FAIL, control
    ports = Result.FAIL if running.release == "20.10" else Result.PASS
    assert result["HOST-08"] is result["HOST-09"] is ports


def test_what_was_set_is_what_is_measured(engine_release: str, state_home: Path) -> None:
    name = own(f"hosts-set-{engine_release.replace('.', '-')}")
    try:
        plain = engine.up(name, engine_release, say=report)
        socket = plain.socket
        engine.down(name, report)
        settings = {
            "hosts": [socket, "tcp://0.0.0.0:2375"],
            "insecure-registries": ["10.9.0.0/16"],
            "icc": False,
            "log-driver": "none",
            "experimental": True,
            "live-restore": True,
            "no-new-privileges": True,
        }
        result = measured(engine.up(name, engine_release, settings=settings, say=report))
    finally:
        engine.down(name, report)
    for control in ("HOST-01", "HOST-02", "HOST-12", "HOST-13"):
        assert result[control] is Result.FAIL, control
    for control in ("HOST-11", "HOST-14"):
        assert result[control] is Result.PASS, control
    # The old engine does not tell.
    assert result["HOST-15"] is (Result.UNKNOWN if engine_release == "20.10" else Result.PASS)


@pytest.mark.controlplane
@pytest.mark.usefixtures("operator")
async def test_an_engine_that_is_stopped_and_started_is_found_again(fleet: Fleet, running: EngineDescription) -> None:
    files = material(running)
    data = {"ca.crt": files.ca.decode(), "tls.crt": files.certificate.decode(), "tls.key": files.key.decode()}
    await fleet.secret("remote", data)
    await fleet.add("remote", running.endpoint, credentialsSecretRef={"name": "remote"})
    before = await fleet.comes_to("remote", is_ready)
    assert before["engine"]["version"].startswith(running.release)
    engine.kill(running)
    status = await fleet.comes_to("remote", lambda status: condition(status, "Ready")[0] == "Unknown", 75)
    assert condition(status, "Ready")[1] == "EngineUnreachable"
    engine.start(running)
    after = await fleet.comes_to("remote", is_ready)
    # A placement is bound to it.
    assert after["engine"]["id"] == before["engine"]["id"]
    assert files.key.decode()[40:80] not in str(after)
