"""Takes out of texts and structures whatever looks like a credential. Rather too much than too little."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

REDACTED = "[redacted]"
MAX_TEXT = 65_536
"""Characters of a text that are kept; a traceback of the deepest recursion is shorter."""
MAX_DEPTH = 8

Replacement = str | Callable[[re.Match[str]], str]

_CREDENTIAL_NAME = (
    r"(?:api[-_]?key|token|passwd|password|passphrase|client[-_]?secret|secret[-_]?key"
    r"|secret[-_]?access[-_]?key|private[-_]?key|client-key-data|authorization|cookie)"
)
_SENSITIVE_KEY = re.compile(rf"{_CREDENTIAL_NAME}\Z", re.IGNORECASE)
_SECRET_DATA = frozenset({"data", "stringData", "binaryData"})


def _basic(match: re.Match[str]) -> str:
    encoded = match[2]
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    except (ValueError, binascii.Error):
        return match[0]
    # Without a colon it is no user and password, but a word that follows "basic".
    return f"{match[1]} {REDACTED}" if b":" in decoded else match[0]


def _random_looking(match: re.Match[str]) -> str:
    """Base64 has all kinds of characters in long runs; paths, names, UIDs and digests lack one or the other."""
    longest = max(match[0].split("/"), key=len)
    mixed = all(re.search(kind, match[0]) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return REDACTED if len(longest) >= 16 and mixed else match[0]


class _Rule(NamedTuple):
    """What to take out. Tried only on a text that has one of `signs` (in lower case): most have none."""

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: Replacement = REDACTED


_NAMES = ("key", "token", "passw", "passphrase", "secret", "authorization", "cookie")

# Each takes time in proportion to the text: no repetition can start at every place of a long run and fail at its end.
_PRIVATE_KEY = _Rule(
    # Whole or cut off.
    ("private key-----",),
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.S),
)
_OBJECTS = (
    # An object's data, as JSON, as Python or as YAML shows it. It may hold any characters: nothing after it is kept.
    _Rule(
        ("data",),
        re.compile(r"""(["'](?:data|stringData|binaryData)\\{0,8}["']\s*:\s*\{).*""", re.S),
        rf"\1{REDACTED}",
    ),
    _Rule(
        ("data:",),
        re.compile(r"((?:\b|\\n)(?:data|stringData|binaryData):)[ \t]*(?:\n|\\n).*", re.S),
        rf"\1 {REDACTED}",
    ),
)
_CREDENTIALS = (
    # A header by its name, to the end of the line or of the quotes.
    _Rule(
        ("authorization", "x-api-key", "x-auth-token", "cookie"),
        re.compile(
            r"""\b((?:proxy-)?authorization|x-api-key|x-auth-token|(?:set-)?cookie)"""
            r"""(\\{0,8}["']?\s*[:=]\s*|\\{0,8}["']\s*,\s*)(b?\\{0,8}["']?)[^\r\n"'\\]+""",
            re.I,
        ),
        rf"\1\2\3{REDACTED}",
    ),
    _Rule(("bearer",), re.compile(r"\b(bearer)(\s+|%20)[^\s\"'\\,;)}\]]{4,}", re.I), rf"\1\2{REDACTED}"),
    _Rule(("basic",), re.compile(r"\b(basic)\s+([a-z0-9+/_-]{4,})={0,2}", re.I), _basic),
    # A password in a URL.
    _Rule(("://",), re.compile(r"([a-z][a-z0-9+.-]{0,15}://)[^\s/?#\"']+@", re.I), rf"\1{REDACTED}@"),
    # Tokens with a known beginning; the third is sk-ant- in base64.
    _Rule(("sk-ant-",), re.compile(r"sk-ant-[\w-]*")),
    _Rule(("sk-",), re.compile(r"(?<![\w-])sk-[\w-]{16,}")),
    _Rule(("c2styw50l",), re.compile(r"c2stYW50L[A-Za-z0-9+/_-]*={0,2}")),
    _Rule(("eyj",), re.compile(r"(?<![\w-])eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)*")),
    _Rule(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "npm_"),
        re.compile(r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|npm_\w{16,})"),
    ),
    _Rule(("akia", "asia", "aiza"), re.compile(r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{12,}|AIza[\w-]{20,})")),
    # What a name calls a credential: NAME=value, "name": "value" (closed or cut off).
    _Rule(
        _NAMES,
        re.compile(rf"""({_CREDENTIAL_NAME}\s*=\s*)("[^"]*"?|'[^']*'?|[^\s"'&,;)]+)""", re.I),
        rf"\1{REDACTED}",
    ),
    _Rule(
        _NAMES,
        re.compile(rf"""({_CREDENTIAL_NAME}\\{{0,8}}["']\s*:\s*b?\\{{0,8}})(["'])(?:\\.|(?!\2).)*""", re.I | re.S),
        rf"\1\2{REDACTED}",
    ),
)
# As YAML and people write it. In what the operator says itself such a name is followed by that of a Secret.
_IN_PROSE = _Rule(
    _NAMES,
    re.compile(rf"""({_CREDENTIAL_NAME}\s*:\s*)("[^"]+"?|'[^']+'?|[^\s"'&,;)]{{16,}})""", re.I),
    rf"\1{REDACTED}",
)
_RANDOM = _Rule(("",), re.compile(r"[A-Za-z0-9+/_=-]{32,}"), _random_looking)
_RULES = (_PRIVATE_KEY, *_OBJECTS, *_CREDENTIALS, _RANDOM)


def redact(text: str) -> str:
    """The text without what looks like a credential, and not longer than 64 Ki characters."""
    # Cut first, so that the time that all the rules take has a bound.
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + " [cut]"
    return _without(_RULES, text)


def redact_credentials(text: str) -> str:
    """A text of somebody else's without what by its shape or its name is a credential. What only looks random stays, as
    do an object's data: in a program's output most such things are something else."""
    return _without((_PRIVATE_KEY, *_CREDENTIALS, _IN_PROSE), text)


def _without(rules: tuple[_Rule, ...], text: str) -> str:
    lower = text.lower()
    for signs, pattern, replacement in rules:
        if any(sign in lower for sign in signs):
            text = pattern.sub(replacement, text)
    return text


def clean(value: Any, depth: int = 0) -> Any:
    """A copy of `value` made of JSON's types, redacted: credentials by their look, and by the name of their field."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    # What somebody else nested without end must not end the logging of it.
    if depth >= MAX_DEPTH:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {redact(str(key)): _field(str(key), item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(item, depth + 1) for item in value]
    return redact(text_of(value))


def text_of(value: Any) -> str:
    """str(value), whatever it does."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 (a log must not fail because of what it describes)
        return f"<{type(value).__name__} whose text cannot be had: {type(error).__name__}>"


def _field(key: str, value: Any, depth: int) -> Any:
    # A field of such a name that holds a structure names a Secret, as `credentials.secretKeyRef` does: looked into
    # below.
    if value and isinstance(value, str | bytes) and _SENSITIVE_KEY.search(key):
        return REDACTED
    if key in _SECRET_DATA and isinstance(value, Mapping):
        return dict.fromkeys((redact(str(k)) for k in value), REDACTED)
    return clean(value, depth + 1)
