"""Where a host's users are at home, in any of the ways in which hosts and their virtual machines show one. Pure.

Paths are as `mounts.host_path` writes them, and what is told of one is in lower case: on macOS and Windows case means
nothing.
"""

import re

_NAMED = r"(?:home\d*|users|var/home|export/homes?|usr/home)"
_ROOTS = r"(?:/mnt)?(?:/[a-z]|/wsl)?|/volumes/[^/]+"
# Where file servers' homes are mounted. Elsewhere a directory of that name is as likely a program's.
_SERVED = r"/(?:nfs|net|mnt(?:/nfs)?|volume\d+|share|exports?|storage)/homes?\d*"

_ALL = re.compile(
    rf"(?:{_ROOTS})/{_NAMED}(?:/[^/]+)?|{_SERVED}(?:/[^/]+)?|/hosthome(?:/[^/]+)?|(?:/var)?/root|(?:/mnt)?/c"
)
_BELOW = (
    re.compile(rf"(?:(?:{_ROOTS})/{_NAMED}|/hosthome)/[^/]+(?:/(.*))?|(?:/var)?/root(?:/(.*))?"),
    # Whoever keeps a login in a directory that is called a home, has it there.
    re.compile(r"(?:/[^/]+){0,2}/homes?\d*/[^/]+(?:/(.*))?"),
)


def is_home(path: str) -> bool:
    """Whether a path of the host is that of all homes, or of one, or the drive that has them."""
    return _ALL.fullmatch(path.casefold()) is not None


def below_home(path: str) -> str:
    """The part of a path that is below somebody's home, in lower case; empty for any other path."""
    for home in _BELOW:
        if found := home.fullmatch(path.casefold()):
            return next((part for part in found.groups() if part), "")
    return ""
