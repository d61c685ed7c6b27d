"""Which Secrets a namespace's gateway needs, as sandboxes come, change and go."""

from typing import Any

from claude_sandbox.controller.sandboxes.gateways.brokered import BrokeredSecrets
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes


def raw(name: str, version: int, *, delivery: str = "Brokered", backend: str = "Kubernetes", **named: str) -> Any:
    metadata = {"namespace": "agents", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    references = {kind: {"name": secret} for kind, secret in named.items()}
    return {
        "metadata": metadata | {"generation": 1, "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {"credentials": {"delivery": delivery, **references}, "backend": {"type": backend}},
    }


def test_it_follows_what_sandboxes_name() -> None:
    sandboxes = Sandboxes()
    brokered = BrokeredSecrets(sandboxes)
    assert brokered.of("agents") is None
    sandboxes.put(raw("alice", 1, apiKeySecretRef="one"))
    sandboxes.put(raw("bob", 2, oauthTokenSecretRef="two"))
    sandboxes.put(raw("carol", 3, apiKeySecretRef="three", delivery="Mounted"))
    sandboxes.put(raw("dave", 4, apiKeySecretRef="four", backend="Docker"))
    assert brokered.of("agents") == {"one", "two"}
    assert brokered.of("others") is None
    sandboxes.put(raw("bob", 5, apiKeySecretRef="one"))
    assert brokered.of("agents") == {"one"}
    gone = raw("alice", 6, apiKeySecretRef="one")
    gone["metadata"]["deletionTimestamp"] = "2026-11-02T00:00:00Z"
    sandboxes.put(gone)
    sandboxes.put(raw("bob", 7, apiKeySecretRef="one", delivery="Mounted"))
    assert brokered.of("agents") is None
    sandboxes.put(raw("bob", 8, apiKeySecretRef="one"))
    sandboxes.remove(Key("agents", "bob"))
    assert brokered.of("agents") is None


def test_it_knows_whose_services_secrets_are_needed_and_that_they_are_lent_by_address() -> None:
    sandboxes = Sandboxes()
    brokered = BrokeredSecrets(sandboxes)
    one = raw("alice", 1, apiKeySecretRef="one")
    one["spec"]["services"] = [{"header": {"valueFrom": {"secretKeyRef": {"name": "service"}}}}, {"name": "open"}]
    sandboxes.put(one)
    sandboxes.put(raw("bob", 2, apiKeySecretRef="one"))
    assert brokered.of("agents") == {"one", "service"}
    assert brokered.lent_by_address("agents")
    assert not brokered.lent_by_address("others")
    sandboxes.put(raw("alice", 3, apiKeySecretRef="one"))
    assert brokered.of("agents") == {"one"}
    assert not brokered.lent_by_address("agents")


def test_what_names_nothing_yet_has_a_gateway_all_the_same() -> None:
    sandboxes = Sandboxes()
    brokered = BrokeredSecrets(sandboxes)
    sandboxes.put(raw("alice", 1))
    assert brokered.of("agents") == frozenset()
