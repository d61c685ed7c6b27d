"""Git over HTTP (gitprotocol-http): which requests there are, and what the server says that it can. Pure.

The old "dumb" way, in which a client reads the repository's files by name, is not one of them: what it may read can't
be held to one repository's objects.
"""

from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.gateway.git.pkt_line import FLUSH, MalformedError, PacketReader, packet


class Service(StrEnum):
    """By the name in the URL."""

    FETCH = "git-upload-pack"
    PUSH = "git-receive-pack"


@dataclass(frozen=True)
class Call:
    """One request: what the server can (`advertises`), or the work itself."""

    service: Service
    advertises: bool

    @property
    def path(self) -> str:
        """Below the repository's URL."""
        return "info/refs" if self.advertises else self.service

    @property
    def content_type(self) -> str:
        """Of the answer."""
        return f"application/x-{self.service}-{'advertisement' if self.advertises else 'result'}"


# What a server offers that isn't passed on: options for its hooks, and signed pushes, which hide the commands.
_WITHHELD = (b"push-options", b"push-cert")
_VERSIONS = ("version=0", "version=1", "version=2")


def call_of(method: str, path: str, query: str) -> Call | None:
    """Of a request below the repository's URL, None for one that git doesn't make."""
    for service in Service:
        if (method, path, query) == ("GET", "info/refs", f"service={service}"):
            return Call(service, advertises=True)
        if (method, path, query) == ("POST", service, ""):
            return Call(service, advertises=False)
    return None


def protocol(service: Service, given: str | None) -> str | None:
    """The `Git-Protocol` that is passed on. Of pushes there is only the first version."""
    return given if service is Service.FETCH and given in _VERSIONS else None


class Advertisement:
    """What a server says before a push, without what it offers and isn't passed on. Feed it, and take what it gives."""

    def __init__(self) -> None:
        self._packets = PacketReader()
        self._refs_began = False
        self._offered = False

    def feed(self, data: bytes) -> bytes:
        """What may be passed on by now. Raises MalformedError for an answer that is none of git's."""
        self._packets.feed(data)
        given = bytearray()
        while (found := self._packets.next()) is not None:
            is_data, line = found
            given += packet(self._line(line)) if is_data else FLUSH
        return bytes(given)

    def _line(self, line: bytes) -> bytes:
        if not self._refs_began:
            self._refs_began = True
            if line.rstrip(b"\n") != b"# service=" + Service.PUSH.encode():
                raise MalformedError("the server's answer is not git's")
            return line
        # Only the first ref's line has capabilities behind it.
        if self._offered or line.startswith(b"version "):
            return line
        self._offered = True
        ref, nul, offered = line.rstrip(b"\n").partition(b"\0")
        if not nul:
            raise MalformedError("the server doesn't say what it can")
        kept = (one for one in offered.split() if one.partition(b"=")[0] not in _WITHHELD)
        return ref + b"\0" + b" ".join(kept) + b"\n"
