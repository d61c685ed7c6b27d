"""The gateway on a real node: Claude Code works through it, the sandbox holds no key and gets out no other way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from credential_search import is_with_the_gateway_alone
from nodekit import Kubectl, eventually
from provider_process import ProviderProcess
from sandboxkit import Sandbox, sandbox

pytestmark = pytest.mark.node

GATEWAY = "claude-sandbox-gateway"
KEY = "sk-ant-not-a-real-key-1"
SERVICE_TOKEN = "not-the-token-of-a-real-service-1"
AUTHORITY = "/run/claude-sandbox/gateway/ca.crt"
PARTS = ("networkpolicy", "role", "rolebinding", "pdb", "deployment", "service")


def spec(**egress: Any) -> dict[str, Any]:
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Brokered"}
    return {"credentials": credentials, "network": {"egress": egress}}


def of_the_service(namespace: str, host: str) -> dict[str, Any]:
    """The Secret with the service's credential."""
    metadata = {"name": "issues", "namespace": namespace}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "claudesandbox.dev/service"}
    return kind | {"metadata": metadata, "stringData": {"token": SERVICE_TOKEN, "host": host}}


@pytest.fixture
def made(kubectl: Kubectl, sandboxes: str, provider: ProviderProcess, service: ProviderProcess) -> Iterator[Sandbox]:
    destination = f"www.example.org:{urlsplit(provider.url).port}"
    at = f"issues.example.org:{urlsplit(service.url).port}"
    kubectl.apply(of_the_service(sandboxes, at))
    header = {"prefix": "Bearer ", "valueFrom": {"secretKeyRef": {"name": "issues"}}}
    services = [{"name": "issues", "host": at, "header": header, "paths": ["/v1/models"]}]
    with sandbox(kubectl, sandboxes, "brokered", **spec(allowedDomains=[destination]), services=services) as found:
        yield found


def test_claude_code_works_through_it(
    made: Sandbox, provider: ProviderProcess, service: ProviderProcess, operator_log: Path
) -> None:
    def presented(after: int) -> set[tuple[str | None, str]]:
        return {(one["key"], one["token"]) for one in provider.requests()[after:]}

    before = len(provider.requests())
    found = json.loads(made.run("claude", "-p", "ping", "--output-format", "json"))
    assert (found["result"], found["is_error"]) == ("pong", False)
    eventually("the provider was asked with the key", lambda: presented(before) == {(KEY, "")})
    # And what is declared by name, by the proxy that every program finds.
    asked = len(provider.requests())
    url = f"http://www.example.org:{urlsplit(provider.url).port}/v1/messages"
    made.run("curl", "-sS", "-o", "/dev/null", "-d", "{}", url)
    eventually("it was asked by name, without a key", lambda: presented(asked) == {(None, "")})
    _a_service_gets_its_credential(made, service)
    _a_service_without_its_secret_is_told_of(made, service)
    for held in (KEY, SERVICE_TOKEN):
        is_with_the_gateway_alone(held, made, operator_log)


def _a_service_gets_its_credential(made: Sandbox, service: ProviderProcess) -> None:
    """By the variables of every program, the pod being known by its address."""
    to = ("-sS", "-o", "/dev/null", "-w", "%{http_code}")
    assert made.run("curl", *to, "http://issues.services/v1/models") == "200"
    eventually(
        "the service was asked with its credential",
        lambda: [(one["path"], one["token"]) for one in service.requests()][-1:] == [("/v1/models", SERVICE_TOKEN)],
    )
    assert made.run("curl", *to, "http://issues.services/v1/messages") == "403"


def _a_service_without_its_secret_is_told_of(made: Sandbox, service: ProviderProcess) -> None:
    """With what to do, while all else works; and it heals by itself."""
    made.kubectl("delete", "secret", "issues", "-n", made.namespace)
    made.wait("CredentialsCurrent", "False", "ServiceCredentialMissing")
    told = made.condition("CredentialsCurrent")["message"]
    assert "spec.services[0].header.valueFrom.secretKeyRef" in told
    assert "there is no Secret issues" in told
    made.wait("Stalled", "True", "ServiceCredentialMissing")
    assert made.is_("Ready")
    made.kubectl.apply(of_the_service(made.namespace, f"issues.example.org:{urlsplit(service.url).port}"))
    made.wait("CredentialsCurrent")
    made.wait("Stalled", "False")


def test_a_sandbox_has_a_gateway_and_no_key(kubectl: Kubectl, sandboxes: str, made: Sandbox) -> None:
    made.wait("Compliant")
    held = made.run("sh", "-c", "cat /run/claude-sandbox/api-key/*; env; cat /etc/claude-code/*; cat /etc/hosts")
    assert "sk-ant-" not in held
    assert GATEWAY in held
    # There is no resolver to ask for its name, and it is found all the same; only its own authority is believed.
    to = ("-sS", "-o", "/dev/null", "-w", "%{http_code}", f"https://{GATEWAY}:8443/v1/models")
    assert made.run("curl", "--cacert", AUTHORITY, *to) == "401"
    assert made.fails("curl", *to)
    denied = made.run("sh", "-c", "curl -sS https://other.example.org 2>&1 || true")
    assert "403" in denied
    # No packet gets out past it.
    assert made.fails("curl", "-sS", "--noproxy", "*", "-m", "3", "https://1.1.1.1")
    role = json.loads(kubectl("get", "role", GATEWAY, "-n", sandboxes, "-o", "json").stdout)
    of_secrets = [rule for rule in role["rules"] if "secrets" in rule["resources"]]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in of_secrets] == [(["issues", "key"], ["get", "watch"])]


def test_what_is_taken_from_it_comes_back(kubectl: Kubectl, sandboxes: str, made: Sandbox) -> None:
    def seen(kind: str) -> list[str]:
        path = "jsonpath={.metadata.uid} {.spec.clusterIP}"
        return kubectl("get", kind, GATEWAY, "-n", sandboxes, "-o", path, check=False).stdout.split()

    for kind in PARTS:
        uid, *address = seen(kind)
        kubectl("delete", kind, GATEWAY, "-n", sandboxes, "--wait=false")

        def back(kind: str = kind, uid: str = uid, address: list[str] = address) -> bool:
            found = seen(kind)
            return bool(found) and found[0] != uid and found[1:] == address

        eventually(f"{kind} is back", back)
    made.wait("Ready")


def test_it_is_gone_after_the_last(kubectl: Kubectl, sandboxes: str) -> None:
    with sandbox(kubectl, sandboxes, "brokered-once", **spec()):
        pass
    for kind in (*PARTS, "serviceaccount"):

        def gone(kind: str = kind) -> bool:
            return not kubectl("get", kind, GATEWAY, "-n", sandboxes, "--ignore-not-found").stdout

        eventually(f"{kind} is gone", gone)
    secret = ("get", "secret", f"{GATEWAY}-tls", "-n", sandboxes, "--ignore-not-found")
    eventually("its certificate is gone", lambda: not kubectl(*secret).stdout)
