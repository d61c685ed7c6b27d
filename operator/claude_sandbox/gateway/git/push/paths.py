"""Which paths a pattern protects, whatever way they are written. Pure.

A path is protected as a careless reader would take it: file systems that ignore case, compose characters, drop
ignorable ones or give short names check out `.GITHUB` and `.g<U+200C>ithub` as `.github`. So names are folded before
they are compared, by all that any of these file systems does: rather one refused too many.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile

# A short name of old, and a name that is several to a Windows system.
_SHORT = re.compile(r"~[0-9]|\\")
_PART = re.compile(r"(\*|\?)")
# Default_Ignorable_Code_Point (Unicode 16, DerivedCoreProperties.txt), which ext4 and f2fs drop where they fold case;
# HFS+ and APFS drop some of them. Most are of category Cf, and those that are not are more than one would think.
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
ANY = "**"


class PathPatterns:
    """Patterns of paths: `*` and `?` within a part, `**` for any number of parts. `.github/**` is all below, and the
    directory itself."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(tuple(_folded(part) for part in one.strip("/").split("/")) for one in patterns)

    def protect(self, path: tuple[bytes, ...]) -> bool:
        """Whether a change of this path is refused."""
        parts = tuple(map(folded, path))
        return any(_matches(pattern, parts, whole=True) for pattern in self._patterns)

    def may_be_below(self, path: tuple[bytes, ...]) -> bool:
        """Whether something below this directory may be protected."""
        parts = tuple(map(folded, path))
        return any(_matches((*pattern,), parts, whole=False) for pattern in self._patterns)

    def pass_through(self, path: tuple[bytes, ...]) -> bool:
        """Whether a pattern names this directory, by itself and not by `**`, as one above of what it protects."""
        parts = tuple(map(folded, path))
        named = (tuple(takewhile(lambda part: part != ANY, pattern)) for pattern in self._patterns)
        return any(len(parts) <= len(one) and all(map(_is, one, parts)) for one in named)


def folded(name: bytes) -> str:
    """A name as it is compared; one that may be another (`GITHUB~1`, `a\\b`) becomes `*~`, which is taken for any."""
    text = name.decode("utf-8", errors="surrogateescape")
    return "*~" if _SHORT.search(text) else _folded(text)


def _folded(text: str) -> str:
    # Behind a colon Windows has a stream of the same file.
    text = text.partition(":")[0]
    if not text.isascii():
        # By capitals first: file systems that compare these take a dotless i for an i.
        text = unicodedata.normalize("NFKC", text).upper()
        text = "".join(one for one in _IGNORED.sub("", text.casefold()) if unicodedata.category(one) != "Cf")
        text = unicodedata.normalize("NFKC", text)
    return text.lower().rstrip(". ") or text


def _matches(pattern: tuple[str, ...], parts: tuple[str, ...], *, whole: bool) -> bool:
    """Whether the parts are all that the pattern asks for (`whole`), or can be their beginning."""
    if not pattern:
        # What is named is protected with all that is below.
        return True
    if not parts:
        return not whole or all(part == ANY for part in pattern)
    if pattern[0] == ANY:
        return (
            not whole
            or len(pattern) == 1
            or any(_matches(pattern[1:], parts[start:], whole=whole) for start in range(len(parts) + 1))
        )
    return _is(pattern[0], parts[0]) and _matches(pattern[1:], parts[1:], whole=whole)


def _is(pattern: str, name: str) -> bool:
    return name == "*~" or _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    signs = {"*": ".*", "?": "."}
    return re.compile("".join(signs.get(part, re.escape(part)) for part in _PART.split(pattern)), re.DOTALL)
