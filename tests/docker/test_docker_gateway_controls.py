"""What is measured of a sandbox with a gateway, on a real engine: it passes, and what is done to it is told."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from dockerkit import Sandbox, sandbox

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.spec import Profile
from claude_sandbox.backends.docker.evidence.single_container import survey
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

CONTROLS = ("NET-06", "NET-12", "NET-13", "ID-04", "SEC-05")
BROKERED = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}


@pytest.fixture
async def one(host: EngineDescription) -> AsyncIterator[Sandbox]:
    async with sandbox(host, credentials=BROKERED, gateways={}, profile="Production") as made:
        await made.made()
        await made.started()
        yield made


async def results(one: Sandbox) -> dict[str, str]:
    """What an engine tells now, before the operator mends it: `claude-sandbox check container` asks the same."""

    async def declared(identity: Identity) -> dict[str, Any]:
        metadata = {"namespace": identity.namespace, "name": identity.name, "uid": identity.uid}
        return {"metadata": metadata, "spec": one.parsed.model_dump(mode="json", by_alias=True, exclude_none=True)}

    standard = Standard(profile=Profile.PRODUCTION)
    found = await survey(one.engine, one.names.container, standard, Declared(), declared, local=False)
    assert found is not None
    assert not found.note
    return {finding.control.id: finding.result for finding in findings(found.evidence)}


async def test_it_is_compliant_in_production_by_the_operators_word_and_by_that_of_who_checks(one: Sandbox) -> None:
    outcome = await one.once()
    compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    assert compliant[0] is ConditionStatus.TRUE, compliant
    assert set(CONTROLS) <= {id for group in compliance.passed for id in group.controls}
    found = await results(one)
    assert {found[id] for id in CONTROLS} == {"Pass"}


async def test_another_network_is_told(one: Sandbox) -> None:
    one.sdk.api.connect_container_to_network(one.names.container, "bridge")
    found = await results(one)
    assert (found["NET-08"], found["NET-13"]) == ("Fail", "Fail")


async def test_who_joins_its_network_is_told(one: Sandbox) -> None:
    guest = one.sdk.containers.create(one.image, ["sleep", "60"], network=one.names.network)
    try:
        guest.start()
        found = await results(one)
        assert (found["ID-04"], found["NET-13"]) == ("Fail", "Fail")
    finally:
        guest.remove(force=True)
    found = await results(one)
    assert (found["ID-04"], found["NET-13"]) == ("Pass", "Pass")
