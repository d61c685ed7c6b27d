"""What is measured of a sandbox with a gateway, on a real engine: it passes, and what is done to it is told."""

from collections.abc import AsyncIterator

import pytest
from checkkit import checked
from dockerkit import PRODUCTION, Sandbox, sandbox

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

CONTROLS = ("NET-06", "NET-12", "NET-13", "ID-04", "SEC-05")
BROKERED = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}


@pytest.fixture
async def one(host: EngineDescription) -> AsyncIterator[Sandbox]:
    async with sandbox(host, credentials=BROKERED, gateways={}, **PRODUCTION) as made:
        await made.made()
        await made.started()
        yield made


async def results(one: Sandbox) -> dict[str, str]:
    return {id: finding.result for id, finding in (await checked(one)).items()}


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
