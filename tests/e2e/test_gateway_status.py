"""What the gateway of a namespace sees, on a real node, becomes the sandbox's status within seconds, and heals."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from anthropic_stand_in import HANGS
from nodekit import Kubectl, eventually
from provider_process import ProviderProcess
from sandboxkit import Sandbox, sandbox

pytestmark = pytest.mark.node

KEY = "sk-ant-not-a-real-key-1"
ASK = """curl -sS -m {seconds} --cacert /run/claude-sandbox/gateway/ca.crt \
 -H "x-api-key: $(cat /run/claude-sandbox/api-key/*)" -H 'content-type: application/json' \
 -d '{body}' https://claude-sandbox-gateway:8443/v1/messages 2>&1 || true"""


@pytest.fixture
def made(kubectl: Kubectl, sandboxes: str, provider: ProviderProcess) -> Iterator[Sandbox]:
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
    try:
        with sandbox(
            kubectl, sandboxes, "reported", credentials=credentials, budget={"maxOutputTokens": 1000}
        ) as found:
            yield found
    finally:
        provider.answers(200)


def asked(made: Sandbox, tokens: int = 10, seconds: int = 20) -> str:
    body = {"model": "claude-sonnet-5-5", "max_tokens": tokens, "messages": [{"role": "user", "content": "ping"}]}
    return made.run("sh", "-c", ASK.format(body=json.dumps(body), seconds=seconds))


def asked_within(made: Sandbox) -> str:
    """Ask until the gateway has heard of the budget that was raised: the operator may have heard of it before."""
    while "billing_error" in (said := asked(made, seconds=40)):
        time.sleep(0.2)
    return said


def test_what_the_gateway_sees_is_said_within_seconds_and_heals(
    kubectl: Kubectl, sandboxes: str, made: Sandbox, provider: ProviderProcess
) -> None:
    def patched(**spec: Any) -> None:
        kubectl("patch", "csb", made.name, "-n", sandboxes, "--type=merge", "-p", json.dumps({"spec": spec}))

    def took(status: str, reason: str) -> float:
        began = time.monotonic()
        made.wait("Ready", status, reason)
        return time.monotonic() - began

    seen: dict[str, float] = {}
    provider.answers(401)
    assert "invalid x-api-key" in asked(made)
    seen["refused"] = took("False", "KeyRefused")
    text = kubectl("get", "csb", made.name, "-n", sandboxes, "-o", "yaml").stdout
    assert "401 authentication_error: invalid x-api-key" in text
    assert KEY not in text

    provider.answers(200)
    assert "pong" in asked(made)
    seen["taken again"] = took("True", "SandboxReady")
    made.wait("CredentialsCurrent", "True", "KeyUsed")

    assert "billing_error" in asked(made, tokens=5000)
    seen["short"] = took("False", "BudgetSpent")
    patched(budget={"maxOutputTokens": 9000})
    seen["raised"] = took("True", "SandboxReady")

    # What is denied comes along with the next that is decisive.
    assert "403" in made.run("sh", "-c", "curl -sS https://pypi.example.org 2>&1 || true")
    provider.answers(HANGS)
    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(asked_within, made)
        seen["silent"] = took("False", "ProviderSilent")
        provider.answers(200)
        seen["answers again"] = took("True", "SandboxReady")
        assert "pong" in asking.result()

    def told() -> bool:
        events = json.loads(kubectl("get", "events", "-n", sandboxes, "-o", "json").stdout)["items"]
        return any("allowedDomains: - pypi.example.org" in (one.get("message") or "") for one in events)

    eventually("an Event has the line to add", told)
    print(json.dumps({what: round(seconds, 1) for what, seconds in seen.items()}))
    # The gateway's part, the operator's and kubectl's; a provider is given 10 seconds, and as many before that.
    slow = {what: seconds for what, seconds in seen.items() if seconds > (60 if what == "silent" else 20)}
    assert not slow
