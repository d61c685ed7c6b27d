"""Names of images, and what a credential looks like."""

import pytest

from claude_sandbox.compliance.images import repository_of
from claude_sandbox.compliance.secrets import looks_like_credential

DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.12", "docker.io/library/python"),
        (f"python:3.12{DIGEST}", "docker.io/library/python"),
        ("docker.io/python", "docker.io/library/python"),
        ("index.docker.io/me/claude", "docker.io/me/claude"),
        ("me/claude:1", "docker.io/me/claude"),
        ("localhost/claude", "localhost/claude"),
        ("localhost:5000/claude:1", "localhost:5000/claude"),
        (f"registry.example:5000/a/b/claude{DIGEST}", "registry.example:5000/a/b/claude"),
        ("ghcr.io/me/claude:v1", "ghcr.io/me/claude"),
    ],
)
def test_the_repository_is_read_from_a_reference_as_the_runtime_does(reference: str, repository: str) -> None:
    assert repository_of(reference) == repository


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
