"""What Claude Code's managed settings say, whatever a repository's settings say: the pins.

Managed settings come before all others. What is a list of what is allowed (providers, MCP servers, marketplaces)
also holds for what the next release adds; the variables have to be named one by one, and `review.py` finds those
that a release adds. Each was seen to matter, or is of a kind of which one was:
tests/attacks/agent/test_attack_repository.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Api:
    """Where Claude Code sends its requests, and the proxy for all others: `http://NAME:PORT`, empty for none.

    `authority`: the file of the one that is believed beside the usual ones, empty for none.
    """

    url: str = "https://api.anthropic.com"
    proxy: str = ""
    authority: str = ""

    @property
    def host(self) -> str:
        """Its name or address, without a port."""
        return urlsplit(self.url).hostname or ""

    @property
    def provider(self) -> str:
        """What Claude Code calls it in `allowedProviders`: any other place than Anthropic's own is an endpoint."""
        return "anthropic" if self.host == "api.anthropic.com" else "customEndpoint"


ANTHROPIC = Api()


@dataclass(frozen=True)
class Programs:
    """What Claude Code itself starts: the shell of its commands, and what prints the file that is appended to it."""

    shell: str
    print_file: str


OF_THE_IMAGE = Programs("/bin/bash", "/bin/cat")

# Nothing is sent but what the work needs, and the program stays as it is. A key that changed in its file is asked
# for again after a second; Claude Code then serves the old one once more while it asks.
QUIET: Mapping[str, str] = MappingProxyType(
    {
        "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "1000",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    }
)

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
"""Variables by which programs find a proxy. Each in both spellings: curl heeds only the lower-case one for HTTP."""
_LOCAL = "localhost,127.0.0.1,::1"

_EMPTY: tuple[str, ...] = (
    # Another provider, to whom the key or the whole conversation would go, asked without credentials of its own.
    "ANTHROPIC_PROFILE",
    "CLAUDE_CODE_SKIP_ANTHROPIC_AWS_AUTH",
    "CLAUDE_CODE_SKIP_ANTHROPIC_GOOGLE_CLOUD_AUTH",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    "CLAUDE_CODE_SKIP_MANTLE_AUTH",
    "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
    # Another address of the API or of a service beside it, or another answer to where that is.
    "ANTHROPIC_AWS_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_BEDROCK_MANTLE_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
    "ANTHROPIC_GOOGLE_CLOUD_BASE_URL",
    "ANTHROPIC_UNIX_SOCKET",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANT_CLAUDE_CODE_METRICS_ENDPOINT",
    "APPIFACT_ARTIFACT_URL",
    "CCR_CHECKPOINT_URL",
    "CLAUDE_BRIDGE_BASE_URL",
    "CLAUDE_BRIDGE_SESSION_INGRESS_URL",
    "CLAUDE_CODE_API_BASE_URL",
    "CLAUDE_CODE_DEV_RAW_CHANGELOG_URL",
    "CLAUDE_CODE_GB_BASE_URL",
    "CLAUDE_LOCAL_OAUTH_API_BASE",
    "CLAUDE_LOCAL_OAUTH_APPS_BASE",
    "CLAUDE_LOCAL_OAUTH_CONSOLE_BASE",
    "CLAUDE_REMOTE_TOOLS_BRIDGE_URL",
    "CLAUDE_RUNNER_API_BASE_URL",
    "HOSTALIASES",
    "INGEST_URL",
    "MCP_OAUTH_CLIENT_METADATA_URL",
    "RES_OPTIONS",
    "USE_LOCAL_OAUTH",
    "USE_STAGING_OAUTH",
    "_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL",
    # A proxy in between.
    "ALL_PROXY",
    "all_proxy",
    "CLAUDE_CODE_ENABLE_PROXY_AUTH_HELPER",
    "CLAUDE_CODE_HOST_HTTP_PROXY_PORT",
    "CLAUDE_CODE_HOST_SOCKS_PROXY_PORT",
    "CLAUDE_CODE_HTTPS_PROXY",
    "CLAUDE_CODE_HTTP_PROXY",
    "CLAUDE_CODE_PROXY_RESOLVES_HOSTS",
    "GRPC_PROXY",
    "grpc_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NODE_USE_ENV_PROXY",
    "no_grpc_proxy",
    # A certificate or a key of the attacker's, or the secrets of the connection in a file.
    "CLAUDE_CODE_CERT_STORE",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
    "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_SYSTEM_CA",
    "SSLKEYLOGFILE",
    # An account of the attacker's, who sees there what is asked.
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_FEDERATION_RULE_ID",
    "ANTHROPIC_IDENTITY_TOKEN",
    "ANTHROPIC_IDENTITY_TOKEN_FILE",
    "ANTHROPIC_ORGANIZATION_ID",
    "ANTHROPIC_SERVICE_ACCOUNT_ID",
    "CCR_OAUTH_TOKEN_FILE",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS",
    "CLAUDE_CODE_OAUTH_TOKEN",
    # A command or code of the attacker's, in Claude Code or in what it starts by itself.
    "BASH_ENV",
    "BUN_CONFIG_FILE",
    "BUN_INSPECT_PRELOAD",
    "BUN_OPTIONS",
    "CLAUDE_CODE_SHELL",
    "CLAUDE_CODE_SHELL_PREFIX",
    "CLAUDE_CODE_TEAMMATE_COMMAND",
    "ENV",
    "GCONV_PATH",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOCPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PROMPT_COMMAND",
    "RIPGREP_CONFIG_PATH",
    # Settings that would stand above these.
    "CLAUDE_CODE_MANAGED_SETTINGS_PATH",
    "CLAUDE_CODE_MOCK_REMOTE_SETTINGS",
    "CLAUDE_CODE_REMOTE_SETTINGS_PATH",
)
"""Names of which an empty value is as good as none, by what each would give an attacker."""

VARIABLES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(_EMPTY, "") | dict(QUIET) | {"NODE_TLS_REJECT_UNAUTHORIZED": "1", "SHELL": OF_THE_IMAGE.shell}
)
"""Environment variables that no settings of a repository and no `spec.env` can change, and their values."""

CHOICES: Mapping[str, str] = MappingProxyType({"BROWSER": "", "EDITOR": "", "VISUAL": ""})
"""Programs that a sandbox's `spec.env` may choose, and a repository may not: what they are where it does not."""

TRUSTS = ("SSL_CERT_DIR", "SSL_CERT_FILE")
"""Not pinned, since Claude Code refuses them in a repository's settings (seen) and other programs need theirs. It
heeds them in its environment (seen), where a file of the workspace would decide who is believed to be the API."""

_NOTHING = "/bin/true"
# Helpers that ask for credentials of other providers, or of a proxy: each runs a command.
HELPERS = ("awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "otelHeadersHelper", "proxyAuthHelper")

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        # Of hooks, and with them of statusLine, subagentStatusLine and fileSuggestion, only managed ones run.
        "allowManagedHooksOnly": True,
        "allowedHttpHookUrls": [],
        "httpHookAllowedEnvVars": [],
        # No MCP server, wherever it is declared: .mcp.json, agents, plugins.
        "allowManagedMcpServersOnly": True,
        "allowedMcpServers": [],
        # No plugin, since there is no marketplace that it could come from.
        "strictKnownMarketplaces": [],
        "disableCommandPluginSources": True,
        # Not what a command or a skill of a repository's runs while it is merely read.
        "disableSkillShellExecution": True,
        # Nothing is copied to, or steered from, an account at claude.ai.
        "autoUploadSessions": False,
        "disableClaudeAiConnectors": True,
        "disableRemoteControl": True,
    }
    | dict.fromkeys(HELPERS, _NOTHING)
)
"""Settings that are the same for each sandbox."""


def through(api: Api) -> dict[str, str]:
    """Variables that lead every program to the proxy, and past it to what is near; none where there is no proxy."""
    if not api.proxy:
        return {}
    near = f"{api.host},{_LOCAL}"
    address = urlsplit(api.proxy)
    # Of these programs Node asks for a variable of its own, and Java reads none of the usual ones; Maven 3.9 heeds what
    # Java is told only where it is told to (https://maven.apache.org/resolver-1.x/configuration.html).
    java = " ".join(
        f"-D{scheme}.proxy{what}={value}"
        for scheme in ("http", "https")
        for what, value in (("Host", address.hostname), ("Port", address.port))
    )
    return {
        **dict.fromkeys(PROXIES, api.proxy),
        "NO_PROXY": near,
        "no_proxy": near,
        "NODE_USE_ENV_PROXY": "1",
        **({"NODE_EXTRA_CA_CERTS": api.authority} if api.authority else {}),
        "JAVA_TOOL_OPTIONS": f"{java} -Dhttp.nonProxyHosts=localhost|127.*|[::1]|{api.host}"
        " -Daether.connector.http.useSystemProperties=true",
    }


def environment(
    api: Api = ANTHROPIC, chosen: Mapping[str, str] = MappingProxyType({}), programs: Programs = OF_THE_IMAGE
) -> dict[str, str]:
    """The variables as managed settings set them; `chosen` is what the sandbox's `spec.env` says."""
    choices = {name: chosen.get(name, value) for name, value in CHOICES.items()}
    here = {"ANTHROPIC_BASE_URL": api.url, "NO_PROXY": api.host, "no_proxy": api.host, "SHELL": programs.shell}
    return {**VARIABLES, **choices, **here, **{k: v for k, v in through(api).items() if k in VARIABLES or k in here}}


def managed_settings(
    key_path: str,
    api: Api = ANTHROPIC,
    chosen: Mapping[str, str] = MappingProxyType({}),
    programs: Programs = OF_THE_IMAGE,
) -> dict[str, Any]:
    """All of the managed settings of a sandbox whose key is in the file `key_path`."""
    return {
        **SETTINGS,
        "apiKeyHelper": f"{programs.print_file} {key_path}",
        "allowedProviders": [api.provider],
        "env": environment(api, chosen, programs),
    }
