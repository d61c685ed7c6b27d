"""What a credential looks like."""

import pytest

from claude_sandbox.api.credentials.leaks import variable_holds_credential as looks_like_credential


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
