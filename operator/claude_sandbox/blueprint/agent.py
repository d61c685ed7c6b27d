"""How Claude Code itself is made quiet, sure of its key, and deaf to what a repository tells it.

What its managed settings pin, and why, is in `claudecode/pinned.py`.
"""

import json
from collections.abc import Mapping

from claude_sandbox.blueprint import tools
from claude_sandbox.claudecode import pinned
from claude_sandbox.claudecode.pinned import ANTHROPIC, Api

HOME = "/home/claude"
WORKSPACE = "/workspace"
CONFIG_DIRECTORY = f"{HOME}/.claude"
"""Where Claude Code keeps sessions, history and settings of the agent's own."""
CREDENTIALS_DIRECTORY = f"{HOME}/.claude-credentials"
"""Where Claude Code would keep what it signed in with: in memory, whatever is kept."""
KEY_DIRECTORY = "/run/claude-sandbox/api-key"
KEY_FILE = "api-key"
SETTINGS_DIRECTORY = "/etc/claude-code"
SETTINGS_FILE = "managed-settings.json"
GATEWAY_HOST = "claude-sandbox-gateway"
"""What the gateway is called inside of a sandbox, on every backend."""
BROKER_PORT, PROXY_PORT, TLS_BROKER_PORT = 8080, 3128, 8443
GATEWAY_DIRECTORY, GATEWAY_FILE = "/run/claude-sandbox/gateway", "ca.crt"
"""Where the authority is that speaks for the gateway, and for nothing else."""
BY_GATEWAY = Api(f"http://{GATEWAY_HOST}:{BROKER_PORT}", f"http://{GATEWAY_HOST}:{PROXY_PORT}")
"""Where nobody but the sandbox and its gateway are on the network between them."""
BY_TLS_GATEWAY = Api(
    f"https://{GATEWAY_HOST}:{TLS_BROKER_PORT}",
    f"http://{GATEWAY_HOST}:{PROXY_PORT}",
    f"{GATEWAY_DIRECTORY}/{GATEWAY_FILE}",
)
"""Where others' traffic passes too. The proxy needs no TLS of its own: what goes through it is encrypted already."""


def environment(api: Api = ANTHROPIC) -> dict[str, str]:
    """What every process of the sandbox gets: writable places where there are some, quiet, and the way out."""
    return {
        "HOME": HOME,
        "TMPDIR": "/tmp",  # noqa: S108 - a tmpfs of the sandbox's own
        **dict(sorted(pinned.QUIET.items())),
        **dict(sorted(pinned.through(api).items())),
    }


def git_environment(config: str) -> dict[str, str]:
    """What git gets: its configuration for the whole system, and no question that nobody would answer."""
    return {"GIT_CONFIG_SYSTEM": config, "GIT_TERMINAL_PROMPT": "0"}


def keeping() -> tuple[tuple[str, str], ...]:
    """Of a sandbox whose CONFIG_DIRECTORY outlives it: what Claude Code keeps is there, and no credential (seen)."""
    return (
        ("CLAUDE_CONFIG_DIR", CONFIG_DIRECTORY),
        ("CLAUDE_SECURESTORAGE_CONFIG_DIR", CREDENTIALS_DIRECTORY),
    )


def managed_settings(key_path: str, chosen: Mapping[str, str], api: Api = ANTHROPIC, *, brought: bool = False) -> str:
    """The content of managed-settings.json, as compact JSON: it comes before all other settings.

    `chosen` are the variables of the sandbox's own `spec.env`; `brought`: whether Claude Code is not the image's own.
    """
    programs = tools.PROGRAMS if brought else pinned.OF_THE_IMAGE
    settings = pinned.managed_settings(key_path, api, chosen, programs)
    return json.dumps(settings, separators=(",", ":"), sort_keys=True)


def liveness(*, brought: bool = False) -> tuple[str, ...]:
    """Claude Code can run at all: 10 ms, no files, no network."""
    return (tools.CLAUDE if brought else "claude", "--version")


def readiness(key_path: str, *, brought: bool = False) -> tuple[str, ...]:
    """Claude Code can run, its settings are in force, its home is writable, and it has a key.

    `claude auth status` alone (0.2 s, no network) is content with a helper, even where the key's file is empty.
    """
    if brought:
        return tools.readiness(key_path)
    script = "grep -q '[^[:space:]]' \"$1\" && exec claude auth status >/dev/null"
    return ("/bin/sh", "-c", script, "ready", key_path)
