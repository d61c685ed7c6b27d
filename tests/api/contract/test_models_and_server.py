"""The models and the API server accept and refuse the same documents, and fill in the same defaults."""

import asyncio
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from contract_server import Server
from field_values import one_by_one
from host_documents import host_document, host_documents, hosts_one_by_one
from judgement import disagreement
from sandbox_documents import documents

pytestmark = pytest.mark.controlplane


async def disagreements(server: Server, judged: Iterable[Any]) -> tuple[list[str], int]:
    """All disagreements over the documents, and how many of those were accepted."""
    found: list[str] = []
    accepted = 0
    at_once = asyncio.Semaphore(24)

    async def compare(document: Any) -> None:
        nonlocal accepted
        async with at_once:
            answer = await server.create(document, dry_run=True)
        accepted += answer.accepted
        if problem := disagreement(document, answer):
            found.append(f"{problem[:3000]}\n  {json.dumps(document)[:2000]}")

    await asyncio.gather(*(compare(document) for document in judged))
    return found, accepted


async def check(server: Server, judged: Iterable[Any], count: int) -> None:
    found, accepted = await disagreements(server, judged)
    assert not found, f"{len(found)} of {count}:\n" + "\n".join(sorted(found, key=len)[:5])
    # Both kinds have to be there in numbers, or the test says nothing.
    assert 0.2 < accepted / count < 0.8


# Thousands of requests: each field that is added brings more. A third of them, and the rest where somebody asks for it.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("third", [0, *(pytest.param(third, marks=pytest.mark.slow) for third in (1, 2))])
async def test_models_and_server_agree_on_every_value_of_interest(server: Server, third: int) -> None:
    found, _ = await disagreements(server, itertools.islice(one_by_one(), third, None, 3))
    assert not found, f"{len(found)}:\n" + "\n".join(sorted(found, key=len)[:5])


async def test_models_and_server_agree_on_generated_documents(server: Server) -> None:
    await check(server, documents(seed=1, count=3000), 3000)


@pytest.mark.slow
async def test_models_and_a_newer_server_agree_on_generated_documents(newer_server: Server) -> None:
    await check(newer_server, documents(seed=2, count=500), 500)


async def test_models_and_server_agree_on_every_value_of_interest_of_a_host(hosts: Server) -> None:
    found, _ = await disagreements(hosts, hosts_one_by_one())
    assert not found, f"{len(found)}:\n" + "\n".join(sorted(found, key=len)[:5])


async def test_models_and_server_agree_on_generated_hosts(hosts: Server) -> None:
    await check(hosts, host_documents(seed=3, count=1500), 1500)


async def test_models_and_a_newer_server_agree_on_generated_hosts(newer_hosts: Server) -> None:
    await check(newer_hosts, host_documents(seed=4, count=500), 500)


async def test_a_newer_server_does_not_repeat_the_password_of_an_endpoint(newer_hosts: Server) -> None:
    document = host_document("leaky", {"endpoint": "ssh://docker:hunter2hunter2@build-1/x"})
    answer = await newer_hosts.create(document, dry_run=True)
    assert {field for field, _ in answer.causes} == {"spec.endpoint"}
    assert "hunter2" not in json.dumps(answer.body)


async def test_a_newer_server_does_not_repeat_a_credential_either(newer_server: Server) -> None:
    # From 1.37 on the API server repeats a refused text, unless told not to.
    key = "sk-ant-api03-abcdefgh"
    document = {
        "apiVersion": "claudesandbox.dev/v1alpha1",
        "kind": "ClaudeSandbox",
        "metadata": {"name": "leaky"},
        "spec": {
            "credentials": {"apiKeySecretRef": {"name": key, "key": f"{key}/x"}},
            "command": ["claude", key],
            "args": [f"--api-key={key}"],
            "env": [{"name": "EXTRA", "value": key}],
        },
    }
    answer = await newer_server.create(document, dry_run=True)
    assert {field for field, _ in answer.causes} == {
        "spec.credentials.apiKeySecretRef.name",
        "spec.credentials.apiKeySecretRef.key",
        "spec.command[1]",
        "spec.args[0]",
        "spec.env[0].value",
    }
    assert key not in json.dumps(answer.body)
