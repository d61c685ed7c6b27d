"""Docker hosts whose engines are real ones, old and new: what is measured is what the engine was set up to be."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import Fleet, condition, is_ready
from enginekit import own, remapping, run_inside

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.engine.connection.client_credentials import TlsCredentials
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.compliance.evidence.docker_hosts import HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.docker_hosts import findings
from claude_sandbox.controller.docker_hosts.status import engine_of
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription, Tcp

pytestmark = pytest.mark.engine

PASS, FAIL, UNKNOWN = Result.PASS, Result.FAIL, Result.UNKNOWN
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()


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


def credentials(of: EngineDescription) -> TlsCredentials:
    return TlsCredentials(of.ca.read_bytes(), of.client.certificate.read_bytes(), of.client.key.read_bytes())


def measured(of: EngineDescription) -> dict[str, Result]:
    with connect(parse(of.socket)) as connected:
        now = datetime.now(UTC)
        reading = Reading(connected.documents(), EvidenceSource.INSPECT, now)
    evidence = HostEvidence("unix", False, reading, now, timedelta(minutes=1))
    return {finding.control.id: finding.result for finding in findings(evidence)}


def differences(before: dict[str, Result], after: dict[str, Result]) -> dict[str, Result]:
    """The results that are not what they were."""
    return {control: result for control, result in after.items() if result is not before[control]}


def test_the_socket_and_mutual_tls_lead_to_the_same_engine(running: EngineDescription) -> None:
    with connect(parse(running.socket)) as near, connect(parse(running.endpoint), credentials(running)) as far:
        assert near.documents().info["ID"] == far.documents().info["ID"]
        assert near.version["Version"].startswith(running.release)


def test_an_engine_as_it_is_installed(running: EngineDescription) -> None:
    result = measured(running)
    for control in ("HOST-01", "HOST-02", "HOST-03", "HOST-12", "HOST-13"):
        assert result[control] is PASS, control
    for control in ("HOST-05", "HOST-11", "HOST-14"):
        assert result[control] is FAIL, control
    old = running.release == "20.10"
    assert result["HOST-08"] is result["HOST-09"] is (FAIL if old else PASS)
    # Debian mends its runc without another number, and the old engine does not tell of its setting.
    assert result["HOST-10"] is (UNKNOWN if old else PASS)
    assert result["HOST-15"] is (UNKNOWN if old else FAIL)
    # What the machine has no engine can change.
    confined = Path("/sys/kernel/security/apparmor").exists() or Path("/sys/fs/selinux/enforce").exists()
    assert result["HOST-04"] is (PASS if confined else FAIL)
    assert result["HOST-07"] is (PASS if UNIFIED else FAIL)


@pytest.fixture(scope="module")
def changing(engine_release: str, state_home: Path) -> Iterator[tuple[EngineDescription, dict[str, Result]]]:
    """An engine whose settings each test changes, and what is measured of it without any."""
    name = own(f"hosts-set-{engine_release.replace('.', '-')}")
    try:
        made = engine.up(name, engine_release, tcp=Tcp.TLS, say=report)
        yield made, measured(made)
    finally:
        engine.down(name, report)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Result]]] = {
    "tcp without TLS": (
        {"hosts": ["tcp://127.0.0.1:2375"], "tls": False, "tlsverify": False},
        {"HOST-01": FAIL},
    ),
    "TLS without certificates of clients": (
        {"hosts": ["tcp://127.0.0.1:2376"], "tls": True, "tlsverify": False},
        {"HOST-01": FAIL},
    ),
    "networks of insecure registries": ({"insecure-registries": ["10.9.0.0/16"]}, {"HOST-02": FAIL}),
    "an insecure registry": ({"insecure-registries": ["registry.example:5000"]}, {"HOST-02": FAIL}),
    "a registry on loopback": ({"insecure-registries": ["127.0.0.1:5000"]}, {}),
    "a seccomp profile of its own": ({"seccomp-profile": "{profile}"}, {"HOST-03": UNKNOWN}),
    "another runtime": (
        {"runtimes": {"runsc": {"path": "/bin/true"}}, "default-runtime": "runsc"},
        {"HOST-10": Result.NOT_APPLICABLE},
    ),
    "live restore": ({"live-restore": True}, {"HOST-11": PASS}),
    "experimental features": ({"experimental": True}, {"HOST-12": FAIL}),
    "no logs": ({"log-driver": "none"}, {"HOST-13": FAIL}),
    "logs of another kind": ({"log-driver": "local"}, {}),
    "a bridge that keeps apart": ({"icc": False}, {"HOST-14": PASS}),
    "no bridge": ({"bridge": "none"}, {"HOST-14": PASS}),
    "no new privileges": ({"no-new-privileges": True}, {"HOST-15": PASS}),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_setting_changes_its_own_control_and_no_other(
    changing: tuple[EngineDescription, dict[str, Result]], what: str, tmp_path: Path
) -> None:
    made, before = changing
    settings, expected = SETTINGS[what]
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    wanted = json.loads(json.dumps(settings).replace("{profile}", str(profile)))
    if "hosts" in wanted:
        wanted["hosts"].append(made.socket)
    after = measured(engine.up(made.name, settings=wanted, say=report))
    if made.release == "20.10":
        # It does not tell.
        expected = {control: result for control, result in expected.items() if control != "HOST-15"}
    assert differences(before, after) == expected


@pytest.mark.parametrize("engine_release", ["29"], indirect=True)  # the older one knows no such setting
def test_an_engine_that_filters_no_system_calls_fails(
    changing: tuple[EngineDescription, dict[str, Result]],
) -> None:
    made, before = changing
    after = measured(engine.up(made.name, settings={"seccomp-profile": "unconfined"}, say=report))
    assert differences(before, after) == {"HOST-03": FAIL}


# What can't be set is made so in the engine's own view of the machine.
_OLD_RUNC = """
printf '#!/bin/sh\necho "runc version 1.1.11"\n' >/run/runc
chmod 0755 /run/runc
mount --bind /run/runc {runc}
"""
MACHINES: dict[str, tuple[str, dict[str, Result]]] = {
    "a flawed runc": (_OLD_RUNC, {"HOST-10": FAIL}),
    "no limit for processes": ("umount /sys/fs/cgroup/pids", {"HOST-06": FAIL}),
    "no limit for memory": ("umount /sys/fs/cgroup/memory", {"HOST-06": FAIL}),
    "control groups of version 2": ("mount -t cgroup2 own /sys/fs/cgroup", {"HOST-06": FAIL, "HOST-07": PASS}),
}


@pytest.mark.parametrize("what", MACHINES)
def test_what_the_machine_lacks_or_has_is_measured(engine_release: str, state_home: Path, what: str) -> None:
    script, expected = MACHINES[what]
    if UNIFIED and "cgroup" in script:
        pytest.skip("this machine's control groups are of version 2 already, whose controllers can't be taken away")
    name = own("hosts-lacking")
    try:
        made = engine.up(name, engine_release, say=report)
        before = measured(made)
        run_inside(made, script.format(runc=engine.build(engine_release, report).path("runc")))
        after = measured(engine.up(name, settings={"debug": True}, say=report))
    finally:
        engine.down(name, report)
    assert differences(before, after) == expected


def test_users_that_are_remapped_are_measured(engine_release: str, state_home: Path) -> None:
    name = own("hosts-remapped")
    try:
        made = remapping(name, engine_release)
        assert measured(made)["HOST-05"] is PASS
        with connect(parse(made.socket)) as connected:
            assert engine_of(connected.documents()).security_options.user_namespaces
    finally:
        engine.down(name, report)


@pytest.mark.controlplane
@pytest.mark.usefixtures("operator")
@pytest.mark.by_turns
async def test_an_engine_that_is_stopped_and_started_is_found_again(fleet: Fleet, running: EngineDescription) -> None:
    files = credentials(running)
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
