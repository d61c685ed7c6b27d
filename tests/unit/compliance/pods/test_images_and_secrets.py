"""What a credential looks like."""

from typing import Any

import pytest
from compliant_sandbox import World, changed, results

from claude_sandbox.api.credentials.measured import variable_holds_credential as looks_like_credential
from claude_sandbox.api.status import Result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "sk-ant-api03-" + "x9" * 20),
        ("X", "ghp_" + "a1" * 18),
        ("X", "AKIAIOSFODNN7EXAMPLE"),
        ("DATABASE", "postgres://user:hunter2@db.example/x"),
        ("X", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"),
        ("ANTHROPIC_API_KEY", "whatever-it-is"),
        ("anthropic_auth_token", "whatever-it-is"),
        ("DB_PASSWORD", "hunter2"),
        ("AWS_SECRET_ACCESS_KEY", "x" * 40),
    ],
)
def test_credentials_are_recognized_by_name_or_by_value(name: str, value: str) -> None:
    assert looks_like_credential(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "/home/claude"),
        ("CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "1000"),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "64000"),
        ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
        ("API_KEY_FILE", "/run/claude-sandbox/api-key/api-key"),
        ("TASK", "Write a risk-assessment-of-the-token-bucket-in-the-rate-limiter"),
        ("PASSWORD", ""),
    ],
)
def test_what_is_no_credential_is_not_taken_for_one(name: str, value: str) -> None:
    assert not looks_like_credential(name, value)


def _of_pod(**changes: Any) -> Result:
    def mutate(world: World) -> None:
        world.agent.update({key: value for key, value in changes.items() if key != "annotations"})
        world.pod["metadata"].setdefault("annotations", {}).update(changes.get("annotations") or {})

    return results(changed(mutate).evidence())["SEC-01"]


@pytest.mark.parametrize(
    ("header", "result"),
    [
        ({"name": "Authorization", "value": "Bearer hunter"}, Result.FAIL),
        ({"name": "X-Api-Key", "value": "hunter"}, Result.FAIL),
        ({"name": "Accept", "value": "text/html"}, Result.PASS),
        ({"name": "Idempotency-Key", "value": "1"}, Result.PASS),
    ],
)
@pytest.mark.parametrize("field", ["livenessProbe", "lifecycle"])
def test_a_header_that_the_kubelet_sends_is_there_for_all_to_read(
    field: str, header: dict[str, str], result: Result
) -> None:
    handler: dict[str, Any] = {"httpGet": {"path": "/", "port": 80, "httpHeaders": [header]}}
    assert _of_pod(**{field: {"preStop": handler} if field == "lifecycle" else handler}) is result


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/healthz?token=hunter2", Result.FAIL),
        ("/healthz?verbose=1&api_key=word", Result.FAIL),
        ("status?x=1#access_token=word", Result.FAIL),
        ("/healthz?page_token=1&verbose=1", Result.PASS),
        ("/token/healthz?for=password", Result.PASS),
    ],
)
def test_so_is_the_path_that_it_asks_for(path: str, result: Result) -> None:
    assert _of_pod(readinessProbe={"httpGet": {"path": path, "port": 80}}) is result


@pytest.mark.parametrize("where", ["livenessProbe", "startupProbe", "preStop", "postStart"])
@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["sh", "-c", "curl 'http://localhost/x?token=hunter2'"], Result.FAIL),
        (["curl", "-H", "Authorization:\\ Bearer\\ hunter2", "x"], Result.FAIL),
        (["curl", "-sf", "http://localhost/x?page=token"], Result.PASS),
    ],
)
def test_so_is_what_it_runs(where: str, words: list[str], result: Result) -> None:
    handler = {"exec": {"command": words}}
    assert _of_pod(**({"lifecycle": {where: handler}} if where.startswith("p") else {where: handler})) is result


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("x", "ghp_" + "a1" * 18, Result.FAIL),
        ("db-password", "hunter2", Result.FAIL),
        ("example.com/apiKey", "word", Result.FAIL),
        ("checksum/secret", "0f" * 32, Result.PASS),
        ("vault.hashicorp.com/agent-inject-secret-x", "secret/data/x", Result.PASS),
    ],
)
def test_so_is_an_annotation(name: str, value: str, result: Result) -> None:
    assert _of_pod(annotations={name: value}) is result
