"""What looks like a credential, and what would undo the hardening, in a spec that anyone may read.

The patterns mean the same to RE2 and to Python's re, and take time linear in the text: no unbounded repetition
after a prefix that can repeat. What services' keys look like is from their own documentation and the rules of
secret scanners.
"""

import re
from collections.abc import Mapping

from claude_sandbox.api.credentials import command_lines, variables
from claude_sandbox.api.rules import Rule, literal, never_matching

# Before what must not be the middle of a longer word.
_START = "(?:^|[\\W_])"

# Of an URL (RFC 3986, 3.2.1) without what only JSON, quotes and lists have: `"http://a:80","@b/c"` has no password.
_NEVER_IN_URL = '\\x00- "\\x27<>{`,/?#@'

# For each kind of credential: how it looks, and a text that is in every one of them. To look for the latter first
# is ten times cheaper.
VALUES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "an API key (Anthropic, OpenAI, Google, Stripe, SendGrid)": (
        ("sk-ant-", "sk-ant-"),
        (_START + "sk-[\\w-]{20}", "sk-"),
        (_START + "AIza[\\w-]{35}", "AIza"),
        (_START + "[rs]k_live_[^\\W_]{16}", "k_live_"),
        (_START + "SG\\.[\\w-]{16}", "SG."),
    ),
    "a code host's, registry's or chat's access token": (
        ("gh[opsur]_[^\\W_]{20}", "gh"),
        ("github_pat_\\w{20}", "github_pat_"),
        ("glpat-[\\w-]{16}", "glpat-"),
        ("npm_[^\\W_]{30}", "npm_"),
        ("pypi-[\\w-]{40}", "pypi-"),
        (_START + "hf_[^\\W_]{30}", "hf_"),
        ("dckr_pat_[\\w-]{20}", "dckr_pat_"),
        ("xox[a-z]-[^\\W_]{4}", "xox"),
        ("xapp-\\d-[^\\W_]{4}", "xapp-"),
    ),
    "a cloud's access key or token": (
        (_START + "A[KS]IA[A-Z0-9]{16}", "IA"),
        ("ya29\\.[\\w-]{20}", "ya29."),
        ("dop_v1_[a-f0-9]{32}", "dop_v1_"),
        (_START + "hv[bs]\\.[\\w-]{20}", "hv"),
        ("(?:AccountKey|SharedAccessKey|SharedAccessSignature)=[A-Za-z0-9+/%]{20}", "="),
    ),
    "a private key, a signed token, an Authorization header or a URL with a password": (
        ("-----BEGIN [A-Z ]*PRIVATE KEY", "PRIVATE KEY"),
        ("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1"),
        ("[\\w-]\\.eyJ[\\w-]{8}", ".eyJ"),
        # A user and a password in Base64 (RFC 7617): three bytes of ASCII in it are hardly a part of a word. Then a
        # token with two numbers apart and letters between them, as no word is written.
        ("[Bb]asic(?: |%20)(?:[I-Za-f][C-HS-Xi-nyz0-3][A-Za-z0-9+/]{2}){2}[I-Za-f][C-HS-Xi-nyz0-3]", "asic"),
        ("[Bb]earer(?: |%20)[\\w.+-]*\\d[A-Za-z_]+\\d[\\w.+/-]{8}", "earer"),
        # What an `@` leads to is no digest of an image.
        (f":(?:\\\\?/){{2}}[^{_NEVER_IN_URL}:]*:[^{_NEVER_IN_URL}$*][^{_NEVER_IN_URL}]*@(?:[^s]|s[^h]|sh[^a])", "@"),
    ),
}

# Ends the message of every rule about credentials.
REMEDY = (
    "a spec can be read by everyone who may read sandboxes: remove it and revoke it; the Claude API key belongs in a"
    " Secret named by spec.credentials.apiKeySecretRef"
)


def _no_value(what: str, shapes: tuple[tuple[str, str], ...]) -> Rule:
    compiled = [(re.compile(pattern, re.ASCII), part) for pattern, part in shapes]
    return Rule(
        f"!self.matches({literal('|'.join(pattern for pattern, _ in shapes))})",
        lambda text: not any(part in text and pattern.search(text) for pattern, part in compiled),
        f"contains what looks like {what}; {REMEDY}",
        confidential=True,
    )


# All upper-case from here on: names of headers are compared without regard to case.
_SCHEME = "(?:BASIC|BEARER|TOKEN|API-?KEY)(?: |%20)"
_ASSIGNED = '["\\x27]?(?: ?: ?|=|%3D)["\\x27]?'
# After the name of a header a text with a digit in it, of eight characters or more.
HEADER = (
    "(?:AUTHORIZATION|(?:X-|[?&])API[_-]?KEY|-TOKEN|HONEYCOMB-TEAM|[?&_](?:TOKEN|SIG|SIGNATURE))"
    f"{_ASSIGNED}(?:{_SCHEME})?"
    "(?:[A-Z_.+/-]{0,3}\\d[A-Z\\d_.+/%=-]{6}|[A-Z_.+/-]{4,7}\\d[A-Z\\d_.+/%=-]{3}|[A-Z_.+/-]{8,40}\\d)"
)
_HEADER = re.compile(HEADER, re.ASCII)
IN_HEADER_LIST = (
    '(?:^|[,;\\n"{]|%2C) *[A-Z\\d._-]*(?:AUTHORIZATION|KEY|TOKEN|SECRET|PASSWORD|COOKIE|DSN|HONEYCOMB-TEAM)'
    f'{_ASSIGNED}(?:{_SCHEME}[^ %,$"<{{\\n]|(?:[^ %,;$"<{{\\n]|%(?:[^2]|2[^0]))+(?:$|[,;"\\n]))'
)
"""A credential in the value of a variable that is a list of headers: `k=v,k=v`, percent-encoded, or `Name: value`."""
_IN_HEADER_LIST = re.compile(IN_HEADER_LIST, re.ASCII)
_HEADER_LIST = "HEADERS?$"
_IS_HEADER_LIST = re.compile(_HEADER_LIST)


def _upper(text: str) -> str:
    """As CEL's upperAscii: other letters stay as they are."""
    return text.encode("utf-8", "surrogatepass").upper().decode("utf-8", "surrogatepass")


NO_CREDENTIAL = tuple(_no_value(what, shapes) for what, shapes in VALUES.items())
"""Rules for any text that a user writes freely."""

NO_HEADER = Rule(
    f"!self.upperAscii().matches({literal(HEADER)})",
    lambda text: not _HEADER.search(_upper(text)),
    f"contains what looks like a header or a parameter of an address with a credential; {REMEDY}",
    confidential=True,
)
"""For commands and arguments."""

NO_CREDENTIAL_IN_HEADERS = Rule(
    f"!self.name.upperAscii().matches({literal(_HEADER_LIST)}) || !has(self.value)"
    f" || !self.value.upperAscii().matches({literal(IN_HEADER_LIST)})",
    lambda variable: not credential_in_headers(variable.name, variable.value),
    f"is a list of headers with what looks like a credential; {REMEDY}",
    field="value",
    confidential=True,
)
"""Of a model with a `name` and a `value`."""

NO_ASSIGNMENT = never_matching(
    command_lines.IN_ARGUMENT,
    f"sets what looks like a credential; {REMEDY}",
    confidential=True,
)
"""For commands and arguments: `export GITHUB_TOKEN=…`, `--api-key=…`.

A reference such as `TOKEN=$X` passes, and so does a prompt that talks about `--api-key`.
"""

NO_TAKEN_CREDENTIAL = command_lines.taken_credentials(
    lambda spec: (*(spec.command or ("",)), *(spec.args or ("",))),
    f"have an option with what looks like a credential after it; {REMEDY}",
)
"""Of a model with a `command` and `args`."""

NAME_IS_NO_CREDENTIAL = Rule(
    f"!{variables.NAMES_CREDENTIAL}",
    lambda name: not variables.names_credential(name),
    f"is the name of a credential, which must not be in the environment: {REMEDY}",
)

# What the operator sets, what redirects the agent's requests (and the key with them) or its choice of credentials,
# what loads foreign code into its process or turns its safeguards off. From Claude Code's settings reference and the
# names its 2.1 binary reads; what merely tunes (models, limits, proxies, certificates, OpenTelemetry) stays allowed.
_RESERVED = (
    "HOME|PATH|TMPDIR|SHELL|ENV|BASH_ENV|PROMPT_COMMAND|IS_SANDBOX|KUBECONFIG"
    "|(?:LD|BUN|GLIBC|DYLD|KUBERNETES|CLAUDE_SANDBOX|SELF_HOSTED_RUNNER|CCR)_.*|GCONV_PATH|GCE_METADATA_.*"
    "|NODE_(?:OPTIONS|PATH|TLS_REJECT_UNAUTHORIZED|REPL_EXTERNAL_MODULE|CHANNEL_FD)"
    "|DISABLE_(?:AUTOUPDATER|ERROR_REPORTING|GROWTHBOOK|INSTALLATION_CHECKS|TELEMETRY|UPDATES)"
    "|BETA_TRACING_ENDPOINT|SESSION_INGRESS_URL|AWS_(?:WEB_IDENTITY_TOKEN|SHARED_CREDENTIALS)_FILE"
)
_RESERVED_CLAUDE = (
    "ANTHROPIC_(?:.*_)?(?:URL|SOCKET|HEADERS|CONFIG_DIR|PROFILE|FILE|ORGANIZATION_ID|RULE_ID|ACCOUNT_ID)"
    "|CLAUDE_(?:.*_)?(?:CONFIG_DIR|TMPDIR)|CLAUDE_(?:BG|BRIDGE|INTERNAL|LOCAL|RUNNER|SESSION|TRUSTED)_.*"
    "|CLAUDE_CODE_(?:API|HOST|REMOTE|SHELL|SKIP|USE|BYOC)_.*"
    "|CLAUDE_CODE_(?:REMOTE|SHELL|DISABLE_NONESSENTIAL_TRAFFIC|PROVIDER_MANAGED_BY_HOST|DONT_INHERIT_ENV|EXTRA_BODY"
    "|IGNORE_PERSISTED_TRUST|PACKAGE_MANAGER_AUTO_UPDATE|PLUGIN_DIRS|ENHANCED_TELEMETRY_BETA|ENTRYPOINT)"
)

_OWN = "is set by the operator, or could undo what protects the sandbox and its key: leave it out"
NAME_IS_FREE = (
    never_matching(f"^(?:{_RESERVED})$", _OWN),
    never_matching(f"^(?:{_RESERVED_CLAUDE})$", _OWN),
)


def looks_like_credential(text: str) -> bool:
    """Whether the text contains what looks like a credential. For redaction as well as for validation."""
    return not all(rule.holds(text) for rule in (*NO_CREDENTIAL, NO_HEADER))


def credential_in_headers(name: str, value: str) -> bool:
    """Whether a variable called `name` is a list of headers with a credential in it."""
    return bool(_IS_HEADER_LIST.search(_upper(name)) and _IN_HEADER_LIST.search(_upper(value)))
