"""Sandboxes on rootless engines, old and new: the engine itself is nobody on the machine."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from dockerkit import KEY, counted, furnish, sandbox
from fault_place import ASK
from portkit import HTTP, dial, endpoints, heard, relay_on, serving
from provider_process import ADDRESS
from rootless import OTHERS, RootlessEngine, rootless
from slow_provider import slow_provider_in

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.compliance.evidence.docker_hosts import HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.docker_hosts import findings
from claude_sandbox.controller.docker_hosts.status import engine_of
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


@pytest.fixture(scope="module")
def of_a_user(
    engine_release: str, stand_in_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RootlessEngine]:
    with rootless(tmp_path_factory.mktemp("rootless"), engine_release) as made:
        furnish(made, stand_in_image)
        yield made


def test_what_it_is_and_can_do_is_measured(of_a_user: RootlessEngine) -> None:
    with connect(parse(of_a_user.socket)) as connected:
        documents = connected.documents()
    assert engine_of(documents).security_options.rootless
    now = datetime.now(UTC)
    read = Reading(documents, EvidenceSource.INSPECT, now)
    found = findings(HostEvidence("unix", False, read, now, timedelta.max))
    result = {finding.control.id: finding.result for finding in found}
    assert result["HOST-05"] is Result.PASS
    # Who may have no control groups of its own (without systemd, or of version 1) limits nothing.
    limits = documents.info["CgroupDriver"] != "none"
    assert result["HOST-06"] is (Result.PASS if limits else Result.FAIL)


async def test_a_sandbox_becomes_ready_with_its_key_and_leaves_nothing(of_a_user: RootlessEngine) -> None:
    before = counted(of_a_user)
    async with sandbox(of_a_user) as one:
        await one.made()
        state = await one.started()
        assert (state.status, state.reason) == (ConditionStatus.TRUE, Reason.SANDBOX_READY), state
        compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
        failing = {each.id for each in compliance.controls if each.result is Result.FAIL and each.required}
        if one.sdk.info()["CgroupDriver"] == "none":
            # The documents say that it has limits; nothing holds it to them.
            assert one.inspected["HostConfig"]["Memory"] > 0
            assert failing == {"RES-01", "RES-02", "RES-03"}
            assert compliant[0] is ConditionStatus.FALSE
        else:
            assert failing == set()
        assert "PRIV-06" in {id for group in compliance.passed for id in group.controls}
        assert not (await one.once()).wrote
        assert one.key_in_place() == KEY
        assert one.sh("stat -c '%a %u:%g' /run/claude-sandbox/api-key/api-key") == "400 1000:1000\n"
        assert "Read-only" in one.sh("touch /run/claude-sandbox/api-key/a")
        users = one.sh("cat /proc/self/uid_map").split()
        assert users[3:5] == ["1", str(OTHERS)]
        assert one.sh("touch /workspace/a /tmp/a && stat -c %u:%g /workspace") == "1000:1000\n"
        one.secrets.value, one.secrets.generation = b"another-key", "2"
        assert (await one.once()).key_sent
        assert one.key_in_place() == b"another-key"
        one.sdk.containers.get(one.names.container).kill()
        await one.settled()
        assert one.key_in_place() == b"another-key"
    assert counted(of_a_user) == before


async def test_declared_ports_are_published_where_the_engine_is(of_a_user: RootlessEngine) -> None:
    """From there on it is RootlessKit's to lead to the machine itself, if somebody has told it to."""
    before = counted(of_a_user)
    async with serving(of_a_user, relay_on(of_a_user), HTTP) as one:
        address = (await endpoints(one))["http"]
        found = await heard(lambda: from_beside(of_a_user, address))
        assert found == "hello\n", one.sdk.containers.get(one.names.relay).logs()
        assert not (await one.once()).wrote
    assert counted(of_a_user) == before


async def test_a_sandbox_works_by_its_gateway_and_the_gateway_heals(of_a_user: RootlessEngine, tmp_path: Path) -> None:
    before = counted(of_a_user)
    with slow_provider_in(of_a_user.network, tmp_path) as url:
        gateways = {"provider": {"baseURL": url}, "egress": {"privateNetworks": [f"{ADDRESS}/32"]}}
        credentials = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}
        async with sandbox(of_a_user, gateways=gateways, credentials=credentials) as one:
            await one.made()
            state = await one.started()
            assert (state.status, state.reason) == (ConditionStatus.TRUE, Reason.SANDBOX_READY), state
            assert sha256(KEY.strip()).hexdigest() in one.sh(ASK)
            assert not (await one.once()).wrote
            compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
            passed = {id for group in compliance.passed for id in group.controls}
            assert {"NET-12", "NET-13", "ID-04", "SEC-05"} <= passed, compliance
            one.secrets.value, one.secrets.generation = b"another-key", "2"
            await one.settled()
            assert sha256(b"another-key").hexdigest() in one.sh(ASK)
            agent = one.inspected["Id"]
            one.sdk.api.kill(one.names.gateway)
            healed = [heal.kind for outcome in await one.settled() for heal in outcome.healed]
            assert healed == ["Gateway"]
            assert (await one.started()).status is ConditionStatus.TRUE
            assert sha256(b"another-key").hexdigest() in one.sh(ASK)
            assert one.inspected["Id"] == agent
    assert counted(of_a_user) == before


def from_beside(of: RootlessEngine, address: str) -> str:
    """What a connection gets that is made where the engine is."""
    return subprocess.run(of.beside(dial(address)), capture_output=True, text=True, check=False).stdout
