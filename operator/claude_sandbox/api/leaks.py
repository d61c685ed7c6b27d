"""What looks like a credential, and what would undo the hardening, in a spec that anyone may read.

The patterns mean the same to RE2 and to Python's re, and take time linear in the text: no unbounded repetition
after a prefix that can repeat. What services' keys look like is from their own documentation and the rules of
secret scanners.
"""

import re
from collections.abc import Mapping

from claude_sandbox.api.rules import Rule, literal, never_matching

# Before what must not be the middle of a longer word.
_START = "(?:^|[^A-Za-z0-9])"

# For each kind of credential: how it looks, and a text that is in every one of them. To look for the latter first
# is ten times cheaper.
VALUES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "an API key (Anthropic, OpenAI, Google, Stripe, SendGrid)": (
        ("sk-ant-", "sk-ant-"),
        (_START + "sk-[A-Za-z0-9_-]{20}", "sk-"),
        (_START + "AIza[0-9A-Za-z_-]{35}", "AIza"),
        (_START + "[rs]k_live_[A-Za-z0-9]{16}", "k_live_"),
        (_START + "SG\\.[A-Za-z0-9_-]{16}", "SG."),
    ),
    "a code host's, registry's or chat's access token": (
        ("gh[opsur]_[A-Za-z0-9]{20}", "gh"),
        ("github_pat_[A-Za-z0-9_]{20}", "github_pat_"),
        ("glpat-[A-Za-z0-9_-]{16}", "glpat-"),
        ("npm_[A-Za-z0-9]{30}", "npm_"),
        ("pypi-[A-Za-z0-9_-]{40}", "pypi-"),
        (_START + "hf_[A-Za-z0-9]{30}", "hf_"),
        ("dckr_pat_[A-Za-z0-9_-]{20}", "dckr_pat_"),
        ("xox[a-z]-[A-Za-z0-9]{4}", "xox"),
        ("xapp-[0-9]-[A-Za-z0-9]{4}", "xapp-"),
    ),
    "a cloud's access key or token": (
        (_START + "A[KS]IA[A-Z0-9]{16}", "IA"),
        ("ya29\\.[0-9A-Za-z_-]{20}", "ya29."),
        ("dop_v1_[a-f0-9]{32}", "dop_v1_"),
        (_START + "hv[bs]\\.[A-Za-z0-9_-]{20}", "hv"),
        ("(?:AccountKey|SharedAccessKey|SharedAccessSignature)=[A-Za-z0-9+/%]{20}", "="),
    ),
    "a private key, a signed token, an Authorization header or a URL with a password": (
        ("-----BEGIN [A-Z ]*PRIVATE KEY", "PRIVATE KEY"),
        ("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1"),
        ("[A-Za-z0-9_-]\\.eyJ[A-Za-z0-9_-]{8}", ".eyJ"),
        ("(?:Bearer|bearer|Basic|basic) [A-Za-z0-9+/._~-]{16}", "a"),
        ("//[^/?#@: ]*:[^/?#@ ]+@", "@"),
    ),
}

# Ends the message of every rule about credentials.
REMEDY = (
    "a spec can be read by everyone who may read sandboxes: remove it and revoke it; the Claude API key belongs in a"
    " Secret named by spec.credentials.apiKeySecretRef"
)


def _no_value(what: str, shapes: tuple[tuple[str, str], ...]) -> Rule:
    compiled = [(re.compile(pattern), part) for pattern, part in shapes]
    return Rule(
        f"!self.matches({literal('|'.join(pattern for pattern, _ in shapes))})",
        lambda text: not any(part in text and pattern.search(text) for pattern, part in compiled),
        f"contains what looks like {what}; {REMEDY}",
        confidential=True,
    )


NO_CREDENTIAL = tuple(_no_value(what, shapes) for what, shapes in VALUES.items())
"""Rules for any text that a user writes freely."""

NO_ASSIGNMENT = never_matching(
    '(?:API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD|PASSWD)=["\\x27]?[^"\\x27$ ]'
    '|--(?:api-key|token|auth-token|secret|password)=["\\x27]?[^"\\x27$ ]',
    f"sets what looks like a credential; {REMEDY}",
    confidential=True,
)
"""For commands and arguments: `export GITHUB_TOKEN=…`, `--api-key=…`.

A reference such as `TOKEN=$X` passes, and so does a prompt that talks about `--api-key`.
"""

# Upper-case; names are compared without regard to case.
_CREDENTIAL_NAMES = (
    "PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SIGNING_?KEY|ENCRYPTION_?KEY"
    "|SERVICE_?KEY|DEPLOY_?KEY|ACCOUNT_?KEY|MASTER_?KEY|AUTH_?KEY|SSH_?KEY|CLIENT_?KEY|LICEN[CS]E_?KEY|COOKIE"
    "|(?:ACCESS|API|AUTH|BEARER|ID|IDENTITY|OAUTH|REFRESH|SESSION|FEDERATED)_?TOKEN"
    "|(?:^|_)TOKEN$|_(?:PWD|PASS|PAT|PSK|AUTH|DSN)$|AUTHORIZATION|AUTH_CONFIG|AUTH_HEADER|OAUTH"
)
_CREDENTIAL_NAME = re.compile(_CREDENTIAL_NAMES)

NAME_IS_NO_CREDENTIAL = Rule(
    f"!self.upperAscii().matches({literal(_CREDENTIAL_NAMES)})",
    lambda name: not _CREDENTIAL_NAME.search(name.upper()),
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
    "|BETA_TRACING_ENDPOINT|SESSION_INGRESS_URL"
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
    return not all(rule.holds(text) for rule in NO_CREDENTIAL)
