"""Git over HTTP (gitprotocol-http): which requests there are, and what the server says that it can. Pure.

The old "dumb" way, in which a client reads the repository's files by name, is not one of them: what it may read can't
be held to one repository's objects.
"""

from dataclasses import dataclass
from enum import StrEnum

from claude_sandbox.gateway.git.pkt_line import MalformedError, PacketReader, packet


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


# What of a server's offers is passed on. Clients ask for what is offered alone. So none asks for options for the
# server, for signed pushes, which hide the commands, or for packs and bundles that are to be had elsewhere.
_OFFERED = {
    Service.PUSH: frozenset(
        (b"report-status", b"report-status-v2", b"delete-refs", b"side-band-64k", b"quiet", b"atomic", b"ofs-delta",
         b"no-thin", b"object-format", b"agent")
    ),
    Service.FETCH: frozenset(
        (b"multi_ack", b"multi_ack_detailed", b"no-done", b"thin-pack", b"side-band", b"side-band-64k", b"ofs-delta",
         b"shallow", b"deepen-since", b"deepen-not", b"deepen-relative", b"no-progress", b"include-tag",
         b"allow-tip-sha1-in-want", b"allow-reachable-sha1-in-want", b"filter", b"symref", b"object-format", b"agent")
    ),
}  # fmt: skip
# The same of version 2, which has a line for each.
_COMMANDS = {
    b"ls-refs": frozenset((b"unborn",)),
    b"fetch": frozenset((b"shallow", b"filter", b"ref-in-want", b"wait-for-done")),
}
_OF_VERSION_2 = frozenset((b"agent", b"object-format"))
VERSION_2 = "version=2"
_VERSIONS = ("version=0", "version=1", VERSION_2)


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
    """What a server says first, without what it offers and isn't passed on. Feed it, and take what it gives."""

    def __init__(self, service: Service) -> None:
        self._packets = PacketReader()
        self._service = service
        self._refs_began = False
        self._offered = False
        self._version2 = False

    def feed(self, data: bytes) -> bytes:
        """What may be passed on by now. Raises MalformedError for an answer that is none of git's."""
        self._packets.feed(data)
        given = bytearray()
        while (found := self._packets.next()) is not None:
            is_data, line = found
            kept = self._line(line) if is_data else line
            given += packet(kept) if is_data and kept else kept
        return bytes(given)

    def _line(self, line: bytes) -> bytes:
        """The line as it is passed on; b"" for one that isn't."""
        text = line.rstrip(b"\n")
        if self._version2:
            return self._of_version2(text)
        # In version 2 it may be left out, and servers do.
        if text == b"version 2" and self._service is Service.FETCH and not self._offered:
            self._refs_began = self._version2 = True
            return line
        if not self._refs_began:
            self._refs_began = True
            if text != b"# service=" + self._service.encode():
                raise MalformedError("the server's answer is not git's")
            return line
        # Only the first ref's line has capabilities behind it.
        if self._offered or line.startswith((b"version ", b"ERR ")):
            return line
        self._offered = True
        ref, nul, offered = text.partition(b"\0")
        if not nul:
            raise MalformedError("the server doesn't say what it can")
        kept = (one for one in offered.split() if one.partition(b"=")[0] in _OFFERED[self._service])
        return ref + b"\0" + b" ".join(kept) + b"\n"

    def _of_version2(self, text: bytes) -> bytes:
        name, values, offered = text.partition(b"=")
        if name in _OF_VERSION_2:
            return text + b"\n"
        if name not in _COMMANDS:
            return b""
        kept = b" ".join(one for one in offered.split() if one in _COMMANDS[name])
        return name + (values + kept if kept else b"") + b"\n"
