"""How Claude Code itself is made quiet, sure of its key, and deaf to what a repository tells it.

Every entry is there because it was seen to matter with Claude Code 2.1.331 and a hostile repository's
`.claude/settings.json` (docs/security-model.md has the table).
"""

import json

HOME = "/home/claude"
WORKSPACE = "/workspace"
KEY_DIRECTORY = "/run/claude-sandbox/api-key"
SETTINGS_DIRECTORY = "/etc/claude-code"
SETTINGS_FILE = "managed-settings.json"
API_HOST = "api.anthropic.com"
API_URL = f"https://{API_HOST}"

# No telemetry, no error reports, no updates of itself. A key that changed in its file is asked for again after
# this long; Claude Code then serves the old one once more while it asks.
_QUIET = {
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "1000",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}

# What a repository's settings could otherwise set: where the key is sent, through which proxy, and who is believed
# to be the API; a key or a provider of the attacker's, to whom the whole conversation would go.
_PINNED = {
    "ANTHROPIC_BASE_URL": API_URL,
    "NO_PROXY": API_HOST,
    "no_proxy": API_HOST,
    "NODE_TLS_REJECT_UNAUTHORIZED": "1",
    "NODE_EXTRA_CA_CERTS": "",
    "ANTHROPIC_API_KEY": "",
    "ANTHROPIC_AUTH_TOKEN": "",
    "CLAUDE_CODE_USE_BEDROCK": "",
    "CLAUDE_CODE_USE_VERTEX": "",
    "CLAUDE_CODE_USE_FOUNDRY": "",
}


def environment() -> tuple[tuple[str, str], ...]:
    """What every process of the sandbox gets: writable places where there are some, and quiet."""
    return (
        ("HOME", HOME),
        ("TMPDIR", "/tmp"),  # noqa: S108 - a tmpfs of the sandbox's own
        *sorted(_QUIET.items()),
    )


def managed_settings(key_path: str) -> str:
    """The content of managed-settings.json, as compact JSON: it comes before all other settings."""
    settings = {
        "apiKeyHelper": f"/bin/cat {key_path}",
        "allowManagedHooksOnly": True,
        "env": _PINNED | _QUIET,
    }
    return json.dumps(settings, separators=(",", ":"), sort_keys=True)


def liveness() -> tuple[str, ...]:
    """Claude Code can run at all: 10 ms, no files, no network."""
    return ("claude", "--version")


def readiness(key_path: str) -> tuple[str, ...]:
    """Claude Code can run, its settings are in force, its home is writable, and it has a key.

    `claude auth status` alone (0.2 s, no network) is content with a helper, even where the key's file is empty.
    """
    script = "grep -q '[^[:space:]]' \"$1\" && exec claude auth status >/dev/null"
    return ("/bin/sh", "-c", script, "ready", key_path)
