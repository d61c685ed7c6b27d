"""What gateways report becomes the sandbox's status: at once where the agent can't work, else once a minute at most."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_place import define
from ledger import condition, says
from world import SECRET, World

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api

pytestmark = pytest.mark.controlplane
IMAGE = "registry.example.org/operator@sha256:" + "0" * 64
BROKERED: dict[str, Any] = {
    "credentials": {"apiKeySecretRef": {"name": SECRET}, "delivery": "Brokered"},
    "budget": {"maxCostUSD": "20", "window": "24h"},
}


def at(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def counts(requests: int) -> dict[str, Any]:
    return {"requests": requests, "inputTokens": 5, "outputTokens": 6, "cacheWriteTokens": 0, "cacheReadTokens": 0,
            "costUSD": "0.25"}  # fmt: skip


def used(requests: int) -> dict[str, Any]:
    return {"time": at(), "windowBegan": at(-60), "windowCostUSD": "0.25", "windowOutputTokens": 6,
            "total": counts(requests), "models": [{"model": "claude-sonnet-5-5", **counts(requests)}]}  # fmt: skip


def refused(generation: str, message: str = "invalid x-api-key") -> dict[str, Any]:
    return {"kind": "KeyRefused", "since": at(), "time": at(), "generation": generation, "status": 401,
            "type": "authentication_error", "message": message}  # fmt: skip


class Gateways:
    """Writes what the gateways of the sandbox alice would."""

    def __init__(self, world: World, uid: str) -> None:
        self.world = world
        self.uid = uid

    async def report(self, pod: str = "gateway-a", **said: Any) -> float:
        """One pod's part; the time at which it was written."""
        name, usages = meta.report_name(self.uid), r.USAGES
        parts = {pod: json.dumps({"version": 1, "at": at(), **said})}
        owner = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "name": "alice", "uid": self.uid}
        labels = {meta.LABEL_COMPONENT: meta.COMPONENT_REPORT}
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
        document = {"apiVersion": meta.API_VERSION, "kind": meta.USAGE_KIND, "metadata": metadata}
        api, namespace = self.world.api, self.world.namespace
        found = (await api.list(usages, namespace, label_selector=f"{meta.LABEL_COMPONENT}=report")).items
        if found:
            await api.patch(usages, name, namespace, {"spec": {"reports": parts}})
        else:
            await api.create(usages, {**document, "spec": {"sandbox": "alice", "reports": parts}}, namespace)
        return time.monotonic()


@pytest.fixture
async def gateways(world: World, api: Api) -> Gateways:
    """A sandbox with a gateway, Ready."""
    await define(api, r.USAGES)
    await world.operator(f"--gateway-image={IMAGE}").start()
    await world.create("alice", **BROKERED)
    ready = await world.ready("alice")
    assert meta.GATEWAY in condition(ready, "Ready")["message"]
    return Gateways(world, ready["metadata"]["uid"])


def generation(world: World) -> str:
    return str(world.sandbox("alice")["status"]["credentials"]["generation"])  # type: ignore[index]


async def test_a_refused_key_is_said_at_once_and_another_key_ends_it(world: World, gateways: Gateways) -> None:
    assert "no request was answered" in condition(world.sandbox("alice"), "CredentialsCurrent")["message"]
    first = generation(world)
    written = await gateways.report(trouble=refused(first))
    said = await world.said("alice", "Ready", "False", "KeyRefused")
    assert time.monotonic() - written < 5
    assert "401 authentication_error: invalid x-api-key" in said["message"]
    await world.said("alice", "Stalled", "True", "KeyRefused")
    await world.said("alice", "CredentialsCurrent", "False", "KeyRefused")
    await world.told("alice", "Refused", "invalid x-api-key")
    # Nobody has asked for anything since, and it is over.
    await world.change_secret(b"sk-ant-another-key")
    await world.said("alice", "Ready", "True", "SandboxReady")
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    await gateways.report(answered={"time": at(), "generation": generation(world)}, usage=used(1))
    await world.said("alice", "CredentialsCurrent", "True", "KeyUsed")
    await world.change_secret(b"sk-ant-a-third-key")
    await world.said("alice", "CredentialsCurrent", "Unknown", "KeyNotUsedYet")


async def test_a_service_without_a_credential_a_spent_budget_and_a_silent_provider_are_said_and_heal(
    world: World, gateways: Gateways
) -> None:
    header = {"valueFrom": {"secretKeyRef": {"name": "tracker"}}}
    service = {"name": "issues", "host": "issues.example.org", "header": header, "paths": ["/*"]}
    await world.edit("alice", services=[service])
    await gateways.report(unopened={"issues": "NotOptedIn"})
    await world.said("alice", "CredentialsCurrent", "False", "ServiceCredentialMissing")
    said = await world.said("alice", "Stalled", "True", "ServiceCredentialMissing")
    assert "Secret tracker has not opted in" in said["message"]
    await world.said("alice", "Ready", "True", "SandboxReady")
    await gateways.report(unopened={})
    await world.said("alice", "CredentialsCurrent", "True", "KeyMounted")
    await world.said("alice", "Stalled", "False", "NotStalled")
    budget = {"time": at(), "maxCostUSD": "20", "leftUSD": "0", "until": at(3600), "state": "Spent"}
    await gateways.report(budget=budget)
    await world.said("alice", "Ready", "False", "BudgetSpent")
    # A larger one is not spent by what was said of the smaller one.
    await world.edit("alice", budget={"maxCostUSD": "30"})
    await world.said("alice", "Ready", "True", "SandboxReady")
    await gateways.report(trouble={"kind": "NoAnswer", "since": at(-20), "time": at(), "message": "no connection"})
    await world.said("alice", "Ready", "False", "ProviderSilent")
    # What one gateway could not, another one can.
    await gateways.report("gateway-b", answered={"time": at(5), "generation": generation(world)})
    await world.said("alice", "Ready", "True", "SandboxReady")
    await gateways.report(usage=used(1), budget={**budget, "maxCostUSD": "30", "until": at(4)})
    await world.said("alice", "Ready", "False", "BudgetSpent")
    await world.said("alice", "Ready", "True", "SandboxReady")


async def test_what_was_used_is_written_once_a_minute_and_a_million_names_make_one_event(
    world: World, gateways: Gateways
) -> None:
    def usage() -> dict[str, Any]:
        return dict((world.sandbox("alice") or {}).get("status", {}).get("usage") or {})

    def denied(number: int) -> list[dict[str, Any]]:
        return [{"what": "Destination", "entry": f"n{number}-{part}.example.org", "count": 1, "first": at(),
                 "last": at()} for part in range(8)]  # fmt: skip

    await gateways.report(usage=used(1), denials=8, denied=denied(0))
    await world.ledger.until(lambda: usage().get("requests") == 1, "the first usage")
    assert (usage()["costUSD"], usage()["models"][0]["model"]) == ("0.25", "claude-sonnet-5-5")
    event = await world.told("alice", "Denied", "spec.network.egress.allowedDomains: - n0-")
    writes = len(world.gate.writes)
    for number in range(1, 40):
        await gateways.report(usage=used(number), denials=8 * number, denied=denied(number))
    # Something decisive comes after all of these, so what they had to say has been seen.
    await gateways.report(usage=used(40), trouble=refused(generation(world), "no\u202e \x1b[2J key"))
    said = await world.said("alice", "Ready", "False", "KeyRefused")
    assert said["message"].isprintable()
    assert usage()["requests"] == 40
    events = [one for one in world.ledger.all(r.EVENTS) if one.get("reason") == "Denied"]
    assert [one["metadata"]["name"] for one in events] == [event["metadata"]["name"]]
    # One status for what is decisive, and an Event for it; and for the rest nothing.
    assert len(world.gate.writes) - writes <= 4, world.gate.writes[writes:]
    assert not says(world.sandbox("alice"), "Ready", "True")


async def test_what_is_no_report_changes_nothing(world: World, gateways: Gateways) -> None:
    await gateways.report(answered={"time": at(), "generation": generation(world)})
    await world.said("alice", "CredentialsCurrent", "True", "KeyUsed")
    writes = len(world.gate.writes)
    for pod, said in (("b", {"trouble": 7}), ("c", {"usage": "x" * 3000}), ("d", {"denied": [{"what": "x"}] * 100})):
        await gateways.report(pod, **said)
    await gateways.report("e", trouble=refused(generation(world)) | {"time": "yesterday"})
    await gateways.report("f", trouble=refused(generation(world)))
    await world.said("alice", "Ready", "False", "KeyRefused")
    assert len(world.gate.writes) - writes <= 4


def _running(world: World) -> int:
    pods = [one for one in world.ledger.all(r.PODS) if one["metadata"]["name"].startswith(meta.GATEWAY)]
    return sum((one.get("status") or {}).get("phase") == "Running" for one in pods)


async def test_at_rest_nothing_is_written_for_what_was_reported(world: World, api: Api) -> None:
    await define(api, r.USAGES)
    operator = world.operator(f"--gateway-image={IMAGE}", "--resync=1")
    await operator.start()
    await world.create("alice", **BROKERED)
    ready = await world.ready("alice")
    gateways = Gateways(world, ready["metadata"]["uid"])
    budget = {"time": at(), "maxCostUSD": "20", "leftUSD": "19.75", "until": at(3600), "state": "Free"}
    answered = {"time": at(), "generation": generation(world)}
    said = {"usage": used(1), "budget": budget, "answered": answered, "denials": 9}
    await gateways.report(**said)
    await world.said("alice", "CredentialsCurrent", "True", "KeyUsed")
    # Both of the gateway's pods run by then, so that nothing else changes.
    await world.ledger.until(lambda: _running(world) == 2, "both pods of the gateway")
    await operator.has_looked(2)
    before, written = world.versions(), len(world.gate.writes)
    # Another pod has nothing new to say.
    await gateways.report("gateway-b")
    await operator.has_looked(5)
    assert world.gate.writes[written:] == []
    await operator.crash()
    operator = world.operator(f"--gateway-image={IMAGE}", "--resync=1")
    await operator.start()
    await operator.has_looked(3)
    assert world.gate.writes[written:] == []
    assert {name: version for name, version in before.items() if "Usage" not in name} == {
        name: version for name, version in world.versions().items() if "Usage" not in name
    }
