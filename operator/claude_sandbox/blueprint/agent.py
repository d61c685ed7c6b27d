"""How Claude Code itself is made quiet, sure of its key, and deaf to what a repository tells it."""

import json

HOME = "/home/claude"
WORKSPACE = "/workspace"
KEY_DIRECTORY = "/run/claude-sandbox/api-key"
SETTINGS_DIRECTORY = "/etc/claude-code"
SETTINGS_FILE = "managed-settings.json"
API_URL = "https://api.anthropic.com"

# A changed key file is read again after this long (Claude Code's CLAUDE_CODE_API_KEY_HELPER_TTL_MS).
KEY_TTL_MILLISECONDS = 1000


def environment() -> tuple[tuple[str, str], ...]:
    """What every agent gets: no telemetry, no updates of itself, writable places only where there are some."""
    return (
        ("HOME", HOME),
        ("TMPDIR", "/tmp"),  # noqa: S108 - a tmpfs of the sandbox's own
        ("CLAUDE_CODE_API_KEY_HELPER_TTL_MS", str(KEY_TTL_MILLISECONDS)),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
        ("DISABLE_TELEMETRY", "1"),
    )


def managed_settings(key_path: str) -> str:
    """The content of managed-settings.json, as compact JSON.

    A repository's own settings could send the key elsewhere (env.ANTHROPIC_BASE_URL) or run hooks; managed
    settings come before them.
    """
    settings = {
        "apiKeyHelper": f"cat {key_path}",
        "allowManagedHooksOnly": True,
        "env": {"ANTHROPIC_BASE_URL": API_URL, **dict(environment()[2:])},
    }
    return json.dumps(settings, separators=(",", ":"), sort_keys=True)
