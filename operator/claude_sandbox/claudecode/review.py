"""Whether everything in a program of Claude Code that could lead it astray has been decided about.

A release that brings a variable or a setting of these kinds fails the image's build until somebody has pinned it
(`pinned.py`) or waived it with a reason (`waived.py`).
"""

import re
from collections.abc import Iterator, Mapping

from claude_sandbox.claudecode import pinned, waived

KINDS: Mapping[str, re.Pattern[str]] = {
    "a provider": re.compile(
        r"^CLAUDE_CODE_USE_|_USE_(?:ANTHROPIC|BEDROCK|VERTEX|FOUNDRY|MANTLE|GATEWAY)|SKIP_\w*AUTH|PROVIDER_MANAGED"
        r"|_PROFILE$|FEDERATION_RULE|^ANTHROPIC_\w+_ID$"
    ),
    "an address": re.compile(
        r"(?:^|_)(?:URL|URI|ENDPOINT|HOST|HOSTS|SOCKET|SOCK|ORIGIN|OAUTH_\w+_BASE)$|_ENDPOINT_URL"
        r"|^GCE_METADATA|METADATA_SERVER|^HOSTALIASES$|^RES_OPTIONS$|^LOCALDOMAIN$"
    ),
    "a proxy": re.compile("PROXY|proxy"),
    "who is believed": re.compile(
        r"(?:^|_)(?:TLS|SSL|CERT|CERTS|CERTIFICATE|CA|CAS|CACERT|CACERTS)(?:_|$)|KEYLOG|OPENSSL_"
    ),
    "a credential": re.compile(
        r"API_KEY$|AUTH_TOKEN|OAUTH|BEARER|HEADERS$|ACCESS_TOKEN|IDENTITY_TOKEN|SESSION_TOKEN|TOKEN_FILE|CLIENT_KEY"
        r"|CLIENT_SECRET|CREDS_FILE|AUTH_ENV_VAR"
    ),
    "a command": re.compile(
        r"HELPER|WRAPPER|LAUNCHER|SHELL|COMMAND|HOOK|EXECUTABLE|INTERPRETER|PRELOAD|ASKPASS|EXEC_PATH|EDITOR$|PAGER$"
        r"|_(?:BIN|BINARY|CMD|EXEC|OPTIONS)$|PLUGIN\w*(?:DIR|SEED)|^(?:LD|DYLD)_|^BROWSER$|^VISUAL$"
        r"|^(?:BASH_ENV|BASHOPTS|ENV|GCONV_PATH|LESSCLOSE|LESSOPEN|LOCPATH|NODE_PATH|PATH|PERL5DB|PERL5OPT|PS4"
        r"|PYTHONHOME|PYTHONPATH|PYTHONSTARTUP|RUBYOPT|SHELLOPTS)$"
        r"|^GIT_(?:SSH|EXTERNAL|CONFIG|EXEC|TEMPLATE|DIR|WORK|SEQUENCE|COMMON|OBJECT|INDEX)"
    ),
    "settings": re.compile(r"CONFIG_(?:DIR|PATH|FILE|HOME)$|SETTINGS|MCP_CONFIG|MCP_SERVERS"),
}
"""What a variable may choose, by how such variables are called."""


def kind(variable: str) -> str | None:
    """What a variable of this name may choose; None where the name says nothing of the kind."""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(variable)), None)


def undecided(variables: frozenset[str], settings: frozenset[str]) -> tuple[str, ...]:
    """Of what a program knows (`program.py`) all that nobody has decided about, each as a sentence; sorted.

    All settings have to be decided about, and the variables of the kinds above.
    """
    return tuple(sorted([*_variables(variables), *_settings(settings)]))


def _variables(names: frozenset[str]) -> Iterator[str]:
    decided = {*pinned.environment(), *waived.by_name(waived.VARIABLES)}
    for name in names - decided:
        if found := kind(name):
            yield f"variable {name}: may choose {found}"


def _settings(names: frozenset[str]) -> Iterator[str]:
    decided = {*pinned.managed_settings(""), *waived.by_name(waived.SETTINGS)}
    yield from (f"setting {name}" for name in names - decided)
