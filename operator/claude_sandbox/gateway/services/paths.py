"""Which paths and queries of a service may be asked for. Pure.

Servers read a path in more than one way: some decode `%2e%2e`, some take `\\` for `/`, some cut at `;`, some fold wide
characters. So what could be another path to anybody is refused whatever is allowed, and the rest is compared as it is
written. All that is declared is allowed and nothing is excepted: another spelling can only be refused.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

ANY = "*"
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@-]+")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]{}|^`\"-]|%[0-9A-Fa-f]{2})*")
LONGEST = 4000
"""Characters of a path, and of a query."""
# A slash, a dot, what begins something else in a URL, and `%`, which is decoded twice by some.
_OTHER_WHEN_DECODED = frozenset(b"/\\.%;?#")
_SCOPED = re.compile(r"(@[A-Za-z0-9._~-]+)%2[Ff]([A-Za-z0-9._~-]+)")
_METHODS = frozenset(("_method", "x-http-method-override", "x-http-method", "x-method-override"))
_NO_LETTERS = re.compile(r"[^a-z0-9]")
_CREDENTIAL = re.compile(
    r"(access|private|auth|authenticity|id|session|refresh|job|api|oauth|bearer|personal|security|user|service|deploy"
    r"|xamzsecurity)?token|.*apikey.*|.*secret.*|.*passw.*|.*authorization.*|jwt|auth|credentials?|xamzcredential"
)


class PathError(ValueError):
    """The path or the query is refused, or a pattern is none. The message says why, and has nothing of it."""


@dataclass(frozen=True)
class PathPattern:
    """`/api/*`: everything below; `/projects/*/issues`: a star elsewhere is one part of a path."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return "/" + "/".join(self.parts)

    def covers(self, parts: Sequence[str]) -> bool:
        """Whether a path of these parts is one of this pattern's."""
        fixed = self.parts[:-1] if self.parts[-1] == ANY else self.parts
        if len(parts) != len(fixed) and (self.parts[-1] != ANY or len(parts) < len(fixed)):
            return False
        if self.parts[-1] == ANY and len(parts) == len(fixed):
            return False
        return all(bool(part) if one == ANY else one == part for one, part in zip(fixed, parts, strict=False))


def parse_pattern(text: str) -> PathPattern:
    """Raises PathError."""
    if not text.startswith("/") or len(text) > LONGEST:
        raise PathError("write a path that begins with /, as in /api/v1/*")
    parts = tuple(text[1:].split("/"))
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if not (part == ANY or (part == "" and last) or (_SEGMENT.fullmatch(part) and part.strip("."))):
            raise PathError(
                "write a path as in /api/v1/*: between two slashes a star alone, or letters, digits and ._~!$&'()+,=:@-"
            )
    return PathPattern(parts)


def readings(path: str, *, scoped: bool = False) -> tuple[tuple[str, ...], ...]:
    """The parts of a path, as anybody may read it: one reading, but for `scoped` names of npm's
    (`/@team%2fname`), which may be one part or two. Raises PathError."""
    plain = path
    found = _SCOPED.search(path) if scoped else None
    if found is not None:
        plain = f"{path[: found.start()]}{found[1]}/{found[2]}{path[found.end() :]}"
        if path[found.start() - 1] != "/" or path[found.end() : found.end() + 1] not in ("", "/"):
            raise PathError("the path can be read in two ways")
    if len(path) > LONGEST or not _PATH.fullmatch(plain):
        raise PathError("the path is malformed, or has characters that are read in two ways")
    parts = plain[1:].split("/")
    # `//` is one slash to some servers, and an empty part to others.
    if "" in parts[:-1]:
        raise PathError("the path has an empty part")
    for part in parts:
        _refuse_ambiguous(part)
    if found is None:
        return (tuple(parts),)
    return tuple(parts), tuple(path[1:].split("/"))


def _refuse_ambiguous(part: str) -> None:
    if any(one < 0x20 or one == 0x7F or one in _OTHER_WHEN_DECODED for one in _encoded(part)):
        raise PathError("the path has an encoded character that is read in two ways")
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise PathError("the path is no UTF-8") from None
    # Some servers fold what looks alike: a wide full stop becomes a full stop.
    folded = unicodedata.normalize("NFKC", text)
    if (part and not text.strip(".")) or (folded != text and (not folded.strip(".") or set(folded) & set("/\\%;?#"))):
        raise PathError("the path leads elsewhere (.., or what may become one)")


def _encoded(part: str) -> Sequence[int]:
    return [int(code, 16) for code in re.findall(r"%([0-9A-Fa-f]{2})", part)]


def allowed(path: str, patterns: Sequence[PathPattern], *, scoped: bool = False) -> bool:
    """Whether the path may be asked for, in whatever way it is read. Raises PathError."""
    return all(any(one.covers(parts) for one in patterns) for parts in readings(path, scoped=scoped))


def check_query(query: str) -> None:
    """Refuse what says another method than the request does, or brings a credential of the client's own. Raises
    PathError."""
    if len(query) > LONGEST or not _QUERY.fullmatch(query):
        raise PathError("the query is malformed")
    # Both: some servers take `;` for a separator too.
    for field in re.split("[&;]", query):
        name = unquote_plus(field.partition("=")[0]).lower()
        if name in _METHODS:
            raise PathError("the query asks for another method")
        if _CREDENTIAL.fullmatch(_NO_LETTERS.sub("", name)):
            raise PathError("the query brings a credential: the gateway brings the service's")
