"""Credentials in command lines by what their options are called, of whatever program. Pure, and for measurements only.

A word of a command line is an option, a value, or a text that a person wrote: of a text with spaces nothing is taken
apart, unless it is a shell's script.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from claude_sandbox.api.credentials.leaks import credential_in_headers
from claude_sandbox.api.credentials.named import USER_AND_GROUP
from claude_sandbox.api.credentials.words import parted

# The last words of an option that takes a credential; as environment variables are written.
_TAKES = re.compile(
    r"(?:^|_)(?:TOKEN|AUTHTOKEN|BEARER|PAT|PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|JWT|REQUIREPASS|MASTERAUTH|STOREPASS|KEYPASS"
    r"|(?:(?:API|ACCESS|SECRET|ACCOUNT|AUTH|MASTER|ENCRYPTION|LICEN[CS]E|SERVICE_ROLE|PRE_?SHARED|SUBSCRIPTION)_?KEY)"
    r"|(?:(?:SFTP|FTP|SMTP|DB|USER|ADMIN|ROOT|HTTP|PROXY|SSH|LDAP|BECOME)_)?PASS)$"
)
_TAKES_NONE = re.compile(
    r"^(?:NO|ASK|SHOW|USE|WITH|ENABLE|DISABLE|PROMPT|READ|RESET|REQUIRE|GENERATE|PRINT|LIST|GET|DELETE|CREATE|ALLOW|SKIP)_"
    r"|(?:^|_)(?:PAD|EOS|BOS|UNK|SEP|MASK|CLS|STOP|START|STARTING|END|NEXT|PAGE|CONTINUATION|CLIENT|REQUEST|IDEMPOTENCY|PER"
    r"|SPECIAL|IMAGE|MAX|MIN)_TOKEN$|(?:EXISTING|PULL)_SECRETS?$"
)
_NO_VALUE = re.compile(
    r"|[-$@{<*`\\|\[?].*|true|false|none|null|stdin|id=.*|type=.*|\w+\\.*|\.\*.*|\*+.*|=.*", re.IGNORECASE
)

_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)")
_ASSIGNED = re.compile(r"(?:--?|/p:|/property:|-p:)?(?:([A-Za-z_][\w.-]*))=(.+)", re.DOTALL)
# As programs of Windows have options; a path after the colon is a volume's.
_SLASHED = re.compile(r"/([A-Za-z][A-Za-z_-]*):([^/\\].*)", re.DOTALL)
# Options of which only a user and a password, or a cookie's name and value, are a credential; two numbers are IDs.
_LOGIN_OPTION = re.compile(
    r"--?(?:(?:basic|http|proxy)-)?(?:auth|authentication|credentials?|creds|login|user-?pass(?:word)?)"
)
_LOGIN = re.compile(r"(?!\d+:\d+\Z)[^-$@{<:/ \\][^:/ ]*:[^$:/ {<]+")
_USER_OPTION = re.compile(r"--?(?:(?:basic|http|ftp|proxy|auth|api|db|server)-?)?user")
_COOKIE_OPTION = re.compile(r"--?cookies?")
_COOKIE = re.compile(r"[\w-]+=[^$\"'{< ].*", re.DOTALL)
# One letter that takes a setting, without a space: of Java and Gradle.
_SETTING = re.compile(r"-[DP](?=[A-Za-z])")
_IN_LIST = re.compile(r"(?:^|,)([a-z_]+)=([^,]+)")

# Programs that run others as a user and a group.
_RUNS_AS = re.compile(
    r"(?:.*/)?(?:docker|podman|nerdctl|crictl|ctr|runc|crun|kubectl|oc|k9s|chroot|setpriv|su-exec|gosu|runuser|unshare|chpst"
    r"|start-stop-daemon|systemd-run|buildah|lxc|install|chown|rsync|compose|docker-compose)"
)
# Programs of which an option that is called a secret names one that is kept elsewhere.
_KEEPERS = re.compile(
    r"(?:^|[/\x1f])(?:gcloud|podman|nerdctl|buildah|buildctl|buildx|claude-sandbox|modal"
    r"|docker\x1f(?:service|build|buildx|image|builder|stack))\x1f"
)
_KEPT_OPTION = re.compile(r"--(?:secrets?(?:-add|-rm)?|(?:set|update|remove|clear|build)-secrets)(?:=.*)?", re.DOTALL)

_SEARCHES = re.compile(r"(?:.*/)?(?:e|f|z|rip)?grep|(?:.*/)?(?:rg|ag|ack|sed|awk|jq|yq|ffmpeg|ffprobe)")
_HEADER_OPTION = re.compile(r"-H|--headers?")
_GLUED_HEADER = re.compile(r"-H(?=[\w-]+:)(.*)", re.DOTALL)
_HTTPIE = re.compile(r"(?:.*/)?(?:https?|xhs?)")
_HTTPIE_HEADER = re.compile(r"[A-Za-z][A-Za-z-]*:[^=/].*")

# From the first of the blanks on: from each of many, time would grow with their square.
_AROUND_EQUALS = re.compile(r"(?<! ) *= *")
# Headers that hold a key of something else, and some more that hold a credential.
_KEYS_OF_DATA = re.compile(
    r"(?:^|(?<=[,;\n\"{]))[^\S\n]*"
    r"(?:idempotency|(?:x-)?(?:cache|partition|routing|surrogate|public|sort|shard|group|dedupe))-key"
    r"[\"']?\s*[:=][^,;\n]*",
    re.IGNORECASE,
)
_MORE_HEADERS = re.compile(
    r"(?:^|[,;\n\"{\[])[^\S\n]*[\w-]*"
    r"(?:auth|jwt|credentials?|-pat|-session|authorization[\"']?\s*[:=]\s*[\"']?[\w-]+(?:%20| ))"
    r"[\"']?\s*(?:[:=]|(?<=%20)|(?<= ))\s*[\"']?(?!\$|\{\{|<)[^ ,\"'\n]",
    re.IGNORECASE,
)


def header_holds(headers: str) -> bool:
    """Whether a header, or a list of them, has a credential."""
    left = _KEYS_OF_DATA.sub("", _AROUND_EQUALS.sub("=", headers.replace("\\ ", " ")))
    return credential_in_headers("HEADERS", left) or bool(_MORE_HEADERS.search(left))


def takes_credential(words: Sequence[str]) -> bool:
    """Whether a word is a credential because of the option that it belongs to."""
    every = list(parted(words))
    if any(map(_SEARCHES.fullmatch, every)):
        return False
    if any(map(_HTTPIE.fullmatch, every)) and any(_HTTPIE_HEADER.fullmatch(one) and header_holds(one) for one in every):
        return True
    pairs = list(pairwise([*every, ""]))
    if not any(map(_RUNS_AS.fullmatch, every)) and any(_logs_in(one, following) for one, following in pairs):
        return True
    kept = [*without_names(every), ""]
    return any(_pair_holds(one, following) for one, following in pairwise(kept)) or any(
        before == "set" and takes(name.rpartition(":")[2]) and not _NO_VALUE.fullmatch(value)
        for before, name, value in zip(kept, kept[1:], kept[2:], strict=False)
    )


def without_names(words: Sequence[str]) -> list[str]:
    """The words without those that name a secret that is kept elsewhere."""
    if not _KEEPERS.search("\x1f".join(words)):
        return list(words)
    return [
        word
        for last, word in pairwise(["", *words])
        if not _KEPT_OPTION.fullmatch(word) and ("=" in last or not _KEPT_OPTION.fullmatch(last))
    ]


def _logs_in(option: str, following: str) -> bool:
    """Whether it is a user with a password, and not with a group."""
    name, assigned, value = option.partition("=")
    user = value if assigned else following
    if not _USER_OPTION.fullmatch(name) or USER_AND_GROUP.fullmatch(user):
        return False
    return _LOGIN.fullmatch(user) is not None


def _pair_holds(word: str, following: str) -> bool:
    if _HEADER_OPTION.fullmatch(word):
        return header_holds(following)
    if _LOGIN_OPTION.fullmatch(word) and _LOGIN.fullmatch(following):
        return True
    if _COOKIE_OPTION.fullmatch(word) and _COOKIE.fullmatch(following):
        return True
    if glued := _GLUED_HEADER.fullmatch(word):
        return header_holds(glued[1])
    if option := _OPTION.fullmatch(word):
        return takes(option[1]) and not _NO_VALUE.fullmatch(following)
    if (slashed := _SLASHED.fullmatch(word)) and takes(slashed[1]) and not _NO_VALUE.fullmatch(slashed[2]):
        return True
    name, assigned, value = word.partition("=")
    if assigned and name.startswith("-") and _pair_holds(name, value):
        return True
    return not re.search(r"\s", name) and _assigns(word)


def _assigns(word: str, depth: int = 3) -> bool:
    """Whether it is `NAME=VALUE`, or an option with that for its value, of a name that takes a credential."""
    assigned = _ASSIGNED.fullmatch(_SETTING.sub("", word, count=1))
    if assigned is None:
        return False
    name, value = assigned[1], assigned[2]
    if name in ("from-file", "from-env-file"):
        return False
    if name.lower().endswith(("header", "headers")):
        return header_holds(value)
    if takes(name):
        return not _NO_VALUE.fullmatch(value)
    listed = any(takes(one) and not _NO_VALUE.fullmatch(other) for one, other in _IN_LIST.findall(word))
    return listed or (depth > 0 and _assigns(value, depth - 1))


def takes(name: str) -> bool:
    """Whether an option, a property or a parameter of this name takes a credential."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) if not name.isupper() else name
    written = re.sub(r"[.-]", "_", parted).upper()
    return bool(_TAKES.search(written) and not _TAKES_NONE.search(written))
