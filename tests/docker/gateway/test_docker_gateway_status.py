"""What a gateway on a real engine sees becomes the sandbox's status, by the health check that is made anyway."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest
from anthropic_stand_in import HANGS
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, event_notes, get_sandbox, is_ready, prepare
from dockerkit import IMAGE
from provider_process import ProviderProcess, provider_on

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.recipes import recipe

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]

KEY, ANOTHER = "sk-ant-api03-not-really-a-key-0815", "sk-ant-api03-another-one-that-is-none"
PATIENCE = 75.0
"""Seconds: two health checks and some more."""


def asking(tokens: int = 10, wait: int = 3) -> list[str]:
    """A request to the model, by the smallest client; what it is answered is on standard output."""
    body = json.dumps({"model": "claude-test-1", "max_tokens": tokens, "messages": [{"role": "user", "content": "p"}]})
    script = f"""{{ printf 'POST /v1/messages HTTP/1.1\\r\\nHost: claude-sandbox-gateway:8080\\r\\n'
printf 'Connection: close\\r\\n'
printf 'x-api-key: %s\\r\\n' "$(cat /run/claude-sandbox/api-key/api-key)"
printf 'Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n%s' '{body}'
sleep {wait}
}} | nc -w {wait + 5} claude-sandbox-gateway 8080"""
    return ["sh", "-c", script]


class Place:
    """A sandbox with a gateway on an engine, an operator, and a provider that does what it is told."""

    def __init__(self, api: Api, host: EngineDescription, provider: ProviderProcess, operator: Operator) -> None:
        self.api, self.provider, self.operator = api, provider, operator
        self.sdk = docker.DockerClient(base_url=host.socket, timeout=90, version="auto")
        self.container = ""

    async def says(self, kind: str, status: str, reason: str) -> Obj:
        """Wait until a condition says this; the sandbox."""
        found: Obj | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await get_sandbox(self.api, "alice")
                    told = (found or {}).get("status") or {}
                    if found and told.get("conditions") and condition(told, kind) == (status, reason):
                        return found
                    await asyncio.sleep(0.1)
        raise AssertionError(f"never {kind}={status} {reason}: {found}\n{self.operator.log.read_text()}")

    async def run(self, command: list[str]) -> str:
        done = await asyncio.to_thread(self.sdk.containers.get(self.container).exec_run, command)
        return str(done.output.decode(errors="replace"))


@pytest.fixture
def provider(host: EngineDescription, tmp_path: Path) -> Iterator[ProviderProcess]:
    with provider_on(host, tmp_path) as found:
        yield found


@pytest.fixture
async def place(
    control_plane: Cluster, host: EngineDescription, provider: ProviderProcess, tmp_path: Path
) -> AsyncIterator[Place]:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    settings = tmp_path / "gateways.json"
    settings.write_text(
        json.dumps({"provider": {"baseURL": provider.url}, "egress": {"privateNetworks": ["10.0.0.0/8"]}})
    )
    options = (f"--sandbox-image={IMAGE}", f"--relay-image={recipe('operator').reference}")
    operator = Operator(control_plane, tmp_path / "log", *options, f"--gateway-settings={settings}")
    operator.start()
    await operator.is_ready()
    async with Api(credentials, user_agent="tests") as api:
        fleet = Fleet(api)
        made = Place(api, host, provider, operator)
        try:
            await fleet.add("engine-1", host.socket, allowedNamespaces={"names": [OWN]})
            await fleet.comes_to("engine-1", is_ready)
            await fleet.secret("alice", {"api-key": KEY}, meta.SECRET_TYPE)
            await create_sandbox(
                api, "alice", workspace={"type": "EmptyDir", "size": "16Mi"}, budget={"maxOutputTokens": 1000},
                credentials={"apiKeySecretRef": {"name": "alice"}, "delivery": "Brokered"},
            )  # fmt: skip
            found = await made.says("Ready", "True", "SandboxReady")
            made.container = found["status"]["workload"]["uid"]
            yield made
        finally:
            await api.delete(SANDBOXES, "alice", OWN)
            async with asyncio.timeout(PATIENCE):
                while await get_sandbox(api, "alice") is not None:  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.1)
            await fleet.close()
            assert operator.stop() == 0, operator.log.read_text()
            made.sdk.close()
    log = operator.log.read_text()
    assert "Traceback" not in log
    assert KEY not in log
    assert ANOTHER not in log


def words(found: Obj) -> str:
    return json.dumps(found["status"])


@pytest.mark.slow
async def test_a_refused_key_is_in_the_status_and_another_one_ends_that(place: Place) -> None:
    # First what is told with the next that is decisive: alone it would be in the status a minute or two later.
    assert "403" in await place.run(["sh", "-c", "wget -q -O - http://pypi.example.org/ 2>&1"])
    place.provider.answers(401)
    assert "invalid x-api-key" in await place.run(asking())
    found = await place.says("Ready", "False", "KeyRefused")
    (message,) = (one["message"] for one in found["status"]["conditions"] if one["type"] == "Ready")
    assert "401 authentication_error: invalid x-api-key" in message
    assert KEY not in words(found)
    assert condition(found["status"], "CredentialsCurrent") == ("False", "KeyRefused")
    assert found["status"]["usage"]["denied"][0]["entry"] == "pypi.example.org"
    (note,) = await event_notes(place.api, "alice", "Denied", uid=found["metadata"]["uid"])
    assert "spec.network.egress.allowedDomains: - pypi.example.org" in note
    # The provider takes the other key; nobody has to ask for anything until the status says so.
    place.provider.answers(200)
    await place.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": ANOTHER}})
    found = await place.says("Ready", "True", "SandboxReady")
    assert "pong" in await place.run(asking())
    found = await place.says("CredentialsCurrent", "True", "KeyUsed")
    assert found["status"]["usage"]["lastAnswered"]["generation"] == found["status"]["credentials"]["generation"]
    assert found["status"]["usage"]["requests"] == 1


@pytest.mark.slow
async def test_a_provider_that_hangs_and_a_spent_budget_are_in_the_status_and_heal(place: Place) -> None:
    assert "pong" in await place.run(asking())
    place.provider.answers(HANGS)
    asked = asyncio.create_task(place.run(asking(wait=45)))
    await place.says("Ready", "False", "ProviderSilent")
    place.provider.answers(200)
    await asked
    await place.says("Ready", "True", "SandboxReady")
    assert "billing_error" in await place.run(asking(5000))
    found = await place.says("Ready", "False", "BudgetSpent")
    assert found["status"]["usage"]["budget"]["state"] == "Short"
    await place.api.patch(SANDBOXES, "alice", OWN, {"spec": {"budget": {"maxOutputTokens": 9000}}})
    await place.says("Ready", "True", "SandboxReady")
