"""Credentials are recognised in what users write freely, and ordinary settings are not taken for them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.credentials.leaks import (
    NAME_IS_FREE,
    NAME_IS_NO_CREDENTIAL,
    NO_ASSIGNMENT,
    VALUES,
    looks_like_credential,
)
from claude_sandbox.blueprint import agent

# Invented, in the form of the real ones. Written in two parts, so that scanners do not take this file for a leak.
CREDENTIALS = {
    "Anthropic": "sk-ant-" + "api03-Zm9vYmFy",
    "OpenAI": "sk-" + "proj-0123456789abcdefghij",
    "GitHub classic": "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345",
    "GitHub app": "ghs_" + "0123456789abcdefghijABCDEFGHIJ012345",
    "GitHub fine-grained": "github_pat_" + "11AAAAAAA0123456789abc_def",
    "GitLab": "glpat-" + "0123456789abcdefghij",
    "AWS": "AKIA" + "IOSFODNN7EXAMPLE",
    "AWS session": "ASIA" + "IOSFODNN7EXAMPLE",
    "Google": "AIza" + "SyA0123456789abcdefghijklmnopqrstuv",
    "Google OAuth": "ya29." + "a0AfH6SMBx0123456789abc",
    "Slack bot": "xoxb-" + "123456789012-abcdef",
    "Slack app": "xapp-" + "1-A0123456789-abc",
    "npm": "npm_" + "0123456789abcdefghijABCDEFGHIJ012345",
    "PyPI": "pypi-" + "AgEIcHlwaS5vcmcCJDAxMjM0NTY3LTg5YWItY2RlZi0wMTIz",
    "Hugging Face": "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "Docker Hub": "dckr_pat_" + "0123456789abcdefghijklmnopq",
    "Stripe": "sk_live_" + "0123456789abcdefghijklmn",
    "SendGrid": "SG." + "0123456789abcdefghijkl.0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
    "DigitalOcean": "dop_v1_" + "0123456789abcdef" * 4,
    "Vault": "hvs." + "CAESIJ0123456789abcdefghij",
    "Azure storage": "AccountName=x;AccountKey=" + "MDEyMzQ1Njc4OWFiY2RlZg+/MDEyMzQ1Njc4OQ==",
    "age": "AGE-SECRET-KEY-" + "1QQQQQQQQQQQQ",
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE",
    "PKCS 8": "-----BEGIN " + "PRIVATE KEY-----",
    "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl",
    "header": "Authorization: Bearer " + "0123456789abcdefghij",
    "URL": "postgres://me:" + "hunter2@db.example.com/app",
}

ORDINARY = [
    "",
    "claude-sonnet-4-5",
    "fix the task-tracker's sk-etch of a long-winded-multi-part-name",
    "https://example.com:8443/path?at=@me",
    "http://proxy.example.com:3128",
    "ssh://git@github.com/team/project.git",
    "user@example.com:path",
    "-----BEGIN CERTIFICATE-----",
    "The bearer of this note is basic training",
    "eyJub3QiOiJhIHRva2VuIn0",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "550e8400-e29b-41d4-a716-446655440000",
    "MSG.subject-of-the-message-here",
]


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("around", ["{}", "key={} and more", '"{}"', "{}\n"])
def test_a_credential_is_recognised_wherever_it_stands(kind: str, around: str) -> None:
    assert looks_like_credential(around.format(CREDENTIALS[kind]))


SHAPES = [shape for shapes in VALUES.values() for shape in shapes]


@pytest.mark.parametrize(("pattern", "part"), SHAPES)
@given(data=st.data())
def test_what_is_looked_for_first_is_in_every_one(pattern: str, part: str, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(re.compile(pattern, re.ASCII)))
    assert part in text
    assert looks_like_credential(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_value_is_none(text: str) -> None:
    assert not looks_like_credential(text)


@pytest.mark.parametrize(
    "text",
    [
        "export GITHUB_TOKEN=abc; claude",
        "ANTHROPIC_API_KEY='abc' claude",
        'DB_PASSWORD="abc"',
        "--api-key=abc",
        "claude --password='abc'",
    ],
)
def test_a_command_that_sets_a_credential_is_recognised(text: str) -> None:
    assert not NO_ASSIGNMENT.holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "GITHUB_TOKEN=$(cat /workspace/token)",
        'export API_KEY="$X"',
        "PASSWORD= claude",
        "--max-tokens=5",
        "MAX_TOKENS=5",
        "--token-file=/x",
        "explain the --api-key option",
    ],
)
def test_a_command_that_refers_to_one_or_to_none_is_fine(text: str) -> None:
    assert NO_ASSIGNMENT.holds(text)


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_API_KEY", "OPENAI_APIKEY",
        "GITHUB_TOKEN", "GH_TOKEN", "github_token", "TOKEN", "NPM_TOKEN", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK",
        "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "SECRET", "SECRET_KEY_BASE", "DB_PASSWORD",
        "PGPASSWORD", "MYSQL_PWD", "SMTP_PASS", "SSH_PRIVATE_KEY", "GPG_PASSPHRASE", "SENTRY_DSN",
        "DOCKER_AUTH_CONFIG",
        "HTTP_AUTHORIZATION", "SESSION_COOKIE", "STRIPE_API_KEY", "AZURE_DEVOPS_PAT",
    ],
)  # fmt: skip
def test_the_name_of_a_credential_is_recognised(name: str) -> None:
    assert not NAME_IS_NO_CREDENTIAL.holds(name)


@pytest.mark.parametrize(
    "name",
    [
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "MAX_THINKING_TOKENS", "ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL", "CLAUDE_CODE_ENABLE_TELEMETRY", "OTEL_EXPORTER_OTLP_ENDPOINT", "EDITOR",
        "NODE_ENV", "PIP_CERT", "AWS_REGION", "TZ", "LANG",
        "PYTHONPATH", "OLDPWD", "AUTHOR", "TOKENIZERS_PARALLELISM", "CACHE_KEY", "DISABLE_PROMPT_CACHING", "CI",
        "GIT_AUTHOR_NAME", "COMPASS", "DEBUG", "BASH_MAX_OUTPUT_LENGTH", "MCP_TIMEOUT", "CLAUDE_CODE_MAX_TURNS",
    ],
)  # fmt: skip
def test_a_setting_that_only_tunes_is_allowed(name: str) -> None:
    assert NAME_IS_NO_CREDENTIAL.holds(name)
    assert all(rule.holds(name) for rule in NAME_IS_FREE)


@pytest.mark.parametrize("name", [*agent.environment()])
def test_what_the_operator_sets_can_not_be_set(name: str) -> None:
    assert not all(rule.holds(name) for rule in (*NAME_IS_FREE, NAME_IS_NO_CREDENTIAL))


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "LD_PRELOAD", "LD_AUDIT", "NODE_OPTIONS", "NODE_TLS_REJECT_UNAUTHORIZED", "BUN_OPTIONS", "BASH_ENV",
        "ANTHROPIC_BASE_URL", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_CUSTOM_HEADERS",
        "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST", "CLAUDE_CODE_API_BASE_URL", "KUBERNETES_SERVICE_HOST", "KUBECONFIG",
        "AWS_WEB_IDENTITY_TOKEN_FILE", "ANTHROPIC_IDENTITY_TOKEN_FILE", "IS_SANDBOX", "DISABLE_UPDATES",
        "GCE_METADATA_HOST", "CLAUDE_CODE_SHELL_PREFIX",
    ],
)  # fmt: skip
def test_what_would_undo_the_hardening_is_refused(name: str) -> None:
    assert not all(rule.holds(name) for rule in NAME_IS_FREE)


@pytest.mark.parametrize(
    "piece", ["sk-", "eyJ", "//a:", "a.eyJ", "-----BEGIN A", "TOKEN=", "Bearer ", "xox", "AKIA", "SG.", "gh", "--"]
)
def test_patterns_take_linear_time(piece: str) -> None:
    # Who may create sandboxes must not be able to stop the operator: a quadratic pattern would not end here.
    text = piece * (1_000_000 // len(piece))
    looks_like_credential(text)
    NO_ASSIGNMENT.holds(text)
