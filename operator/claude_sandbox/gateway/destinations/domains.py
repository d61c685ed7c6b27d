"""Which destinations a sandbox may reach, by name and port. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.gateway.destinations.names import NotANameError, is_address, normalise
from claude_sandbox.gateway.destinations.suffixes import LOCAL_SUFFIXES, SHARED_SUFFIXES

HTTPS_PORT = 443
HTTP_PORT = 80
NOT_ALLOWED = "not in allowedDomains"
"""The reason for which a destination is denied that nobody declared."""


class Way(StrEnum):
    """How a client asked to be let through."""

    TUNNEL = "Tunnel"
    """`CONNECT`: bytes both ways, of which only a TLS ClientHello can be judged."""
    HTTP = "HTTP"
    """A request in absolute form, `GET http://…`."""


class PatternError(ValueError):
    """What is written is no pattern; the message says why and what to write."""


@dataclass(frozen=True)
class Pattern:
    """A destination that is allowed: an exact name, or with `wildcard` every name below it, but not itself.

    `port`: None means 443 for tunnels and 80 for plain HTTP. `opaque`: a tunnel to it may carry what is no TLS.
    """

    name: str
    wildcard: bool = False
    port: int | None = None
    opaque: bool = False

    def __str__(self) -> str:
        return f"{'*.' if self.wildcard else ''}{self.name}{'' if self.port is None else f':{self.port}'}"

    def covers(self, name: str) -> bool:
        """Whether the (normalised) name is one of this pattern's, whatever the port."""
        return name.endswith(f".{self.name}") if self.wildcard else name == self.name

    def allows(self, name: str, port: int, way: Way) -> bool:
        """Whether a client may go to the (normalised) name and port in this way."""
        expected = self.port
        if expected is None:
            expected = HTTPS_PORT if way is Way.TUNNEL else HTTP_PORT
        return port == expected and self.covers(name)


def parse_pattern(text: str, *, opaque: bool = False, local: bool = False) -> Pattern:
    """Read `example.org`, `*.example.org` or `example.org:8443`. `local`: names that no registry gives out as well.

    Raises PatternError: an address, a wildcard elsewhere than at the front or for everybody's names, a single label,
    a port that is none.
    """
    host, port = _split_port(text)
    wildcard = host.startswith("*.")
    name = host[2:] if wildcard else host
    if "*" in name:
        raise PatternError("write the star once, as the whole first label: *.example.org")
    if is_address(name):
        raise PatternError("addresses can't be allowed, only names: write the name that the service has")
    try:
        name = normalise(name)
    except NotANameError as error:
        raise PatternError(
            f"this is no name of a host ({error}): write one as in example.org or *.example.org"
        ) from None
    if not local:
        _refuse_local(name)
        if wildcard and ("." not in name or name in SHARED_SUFFIXES):
            raise PatternError("below this suffix anybody can have a name: write the names that are needed")
    return Pattern(name, wildcard, port, opaque)


def entry_of(name: str, port: int, way: Way) -> str:
    """A destination as it has to stand in `spec.network.egress.allowedDomains`: without a port that goes by itself."""
    return name if port == (HTTPS_PORT if way is Way.TUNNEL else HTTP_PORT) else f"{name}:{port}"


def _split_port(text: str) -> tuple[str, int | None]:
    host, colon, digits = text.rpartition(":")
    if not colon or is_address(text):
        return text, None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= 65535):
        raise PatternError("after the colon belongs a TCP port, 1 to 65535")
    return host, int(digits)


def _refuse_local(name: str) -> None:
    if "." not in name:
        raise PatternError("a name of one label is a local one: write the whole name, as in host.example.org")
    if name.rpartition(".")[2] in LOCAL_SUFFIXES:
        raise PatternError("names of a cluster or of a local network can't be allowed here")


@dataclass(frozen=True)
class Verdict:
    """Whether a destination is allowed, and by which rule or for which reason."""

    allowed: bool
    rule: str
    opaque: bool = False


def decide(name: str, port: int, way: Way, allowed: Sequence[Pattern], denied: Sequence[Pattern]) -> Verdict:
    """Judge a normalised name and port. What the administrator denies is denied whatever the port and the list."""
    # First, and whatever the port: a list of a sandbox never undoes what an administrator has denied.
    for pattern in denied:
        if pattern.covers(name) and pattern.port in (None, port):
            return Verdict(False, f"denied: {pattern}")
    matching = [pattern for pattern in allowed if pattern.allows(name, port, way)]
    if not matching:
        return Verdict(False, NOT_ALLOWED)
    # The narrowest says whether TLS is required.
    chosen = max(matching, key=lambda pattern: (not pattern.wildcard, len(pattern.name)))
    return Verdict(True, f"allowed: {chosen}", chosen.opaque)
