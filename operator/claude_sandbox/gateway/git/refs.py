"""Names of refs, and the patterns that say which branches may be pushed. Pure.

A name is taken only in the one spelling that git itself would make of it (git-check-ref-format), and only where no
server can take it for another: those on file systems that don't tell case, composition or ignorable characters apart
keep one ref under several names. So what isn't printable ASCII is refused.
"""

import re
from functools import lru_cache

BRANCHES = "refs/heads/"
MAX_NAME = 255

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\U0010ffff~^:?*\[\\]|\.\.|@\{|//")
# What a Windows server takes for another name: what ends with a dot or a blank, has a colon, or is short for a name.
_DISGUISED = re.compile(r"~[0-9]")


def why_not_a_branch(name: bytes) -> str | None:
    """Why this is no branch that can be pushed, in words for the person at the terminal; None where it is one."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return "its name is not plain ASCII"
    if not text.startswith(BRANCHES):
        return "only branches may be pushed, no tags or other refs"
    if len(text) > MAX_NAME:
        return f"its name has more than {MAX_NAME} characters"
    if _FORBIDDEN.search(text) or text.endswith(("/", ".")) or _DISGUISED.search(text):
        return "its name is none that git allows"
    parts = text.split("/")
    if any(not part or part.startswith((".", "-")) or part.endswith((".lock", ".")) for part in parts):
        return "its name is none that git allows"
    # What a person writes for the current branch, or for a whole name, must not be a branch's own.
    if parts[-1] in ("@", "HEAD") or parts[2].lower() == "refs":
        return "its name is easily taken for another"
    return None


def matches(name: bytes, patterns: tuple[str, ...]) -> bool:
    """Whether a branch's name, without `refs/heads/`, is one of these: `*` is anything within a part of the name,
    `**` anything at all."""
    branch = name.removeprefix(BRANCHES.encode()).decode("ascii", errors="replace")
    return any(_compiled(pattern).fullmatch(branch) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join({"**": ".+", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts))
