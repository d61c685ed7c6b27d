"""What the gateway asks of a server by itself, to know on what a push builds (gitprotocol-v2, fetch). Pure."""

from collections.abc import Mapping, Set

from claude_sandbox.gateway.git.pack import GitObject, Limits, PackReader
from claude_sandbox.gateway.git.pkt_line import DELIMITER, FLUSH, MalformedError, PacketReader, packet

_DATA, _PROGRESS = 1, 2
"""Bands of an answer (gitprotocol-v2, fetch): the pack, and words for a person."""


def can_filter(advertised: bytes) -> bool:
    """Whether the server leaves out files where it is asked to. Raises MalformedError where it isn't version 2."""
    packets, version2 = PacketReader(), False
    packets.feed(advertised)
    while (found := packets.next()) is not None:
        name, _, values = found[1].rstrip(b"\n").partition(b"=")
        version2 = version2 or name == b"version 2"
        if version2 and name == b"fetch":
            return b"filter" in values.split()
    raise MalformedError("the server does not speak version 2 of git's protocol, with which it could be asked")


def symbolic_refs_request(refs: Set[bytes], *, sha256: bool) -> bytes:
    """The request for what these refs are (gitprotocol-v2, ls-refs)."""
    head = [b"command=ls-refs", *([b"object-format=sha256"] if sha256 else [])]
    lines = [b"symrefs", *(b"ref-prefix " + ref for ref in sorted(refs))]
    return b"".join((*map(packet, head), DELIMITER, *map(packet, lines), FLUSH))


def symbolic_refs(answer: bytes) -> Mapping[bytes, bytes]:
    """Of the answer, those refs that only stand for another, and for which. Raises MalformedError."""
    packets, found = PacketReader(), dict[bytes, bytes]()
    packets.feed(answer)
    while (one := packets.next()) is not None:
        _, ref, *attributes = one[1].rstrip(b"\n").split(b" ") if one[0] else (b"", b"")
        for value in attributes:
            if value.startswith(b"symref-target:"):
                found[ref] = value.removeprefix(b"symref-target:")
    if packets.rest():
        raise MalformedError("the server's answer is cut off")
    return found


def listed_request(*, sha256: bool) -> bytes:
    """The request for where the server's branches and tags are; a tag with what it is of."""
    head = [b"command=ls-refs", *([b"object-format=sha256"] if sha256 else [])]
    lines = [b"peel", b"ref-prefix refs/heads/", b"ref-prefix refs/tags/"]
    return b"".join((*map(packet, head), DELIMITER, *map(packet, lines), FLUSH))


def listed(answer: bytes) -> Set[bytes]:
    """Of the answer, the ids. Raises MalformedError."""
    packets, found = PacketReader(), set[bytes]()
    packets.feed(answer)
    while (one := packets.next()) is not None:
        name, _, attributes = one[1].rstrip(b"\n").partition(b" ") if one[0] else (b"", b"", b"")
        _, is_tag, peeled = attributes.partition(b" peeled:")
        if name:
            found.add(peeled.partition(b" ")[0] if is_tag else name)
    if packets.rest():
        raise MalformedError("the server's answer is cut off")
    return found


def wanted(commits: Set[bytes], *, sha256: bool, filtered: bool) -> bytes:
    """The request for these commits and their trees: without their parents, and `filtered` without files."""
    lines = [b"no-progress", b"ofs-delta", *(b"want " + one for one in sorted(commits)), b"deepen 1"]
    lines += [b"filter blob:none"] if filtered else []
    head = [b"command=fetch", *([b"object-format=sha256"] if sha256 else [])]
    return b"".join((*map(packet, head), DELIMITER, *map(packet, (*lines, b"done")), FLUSH))


def wanted_beyond(commits: Set[bytes], had: Set[bytes], *, sha256: bool, filtered: bool) -> bytes:
    """The request for these commits and those before them, with their trees, but for what is before what is had."""
    lines = [b"no-progress", b"ofs-delta", *(b"want " + one for one in sorted(commits))]
    lines += [*(b"have " + one for one in sorted(had)), *([b"filter blob:none"] if filtered else [])]
    head = [b"command=fetch", *([b"object-format=sha256"] if sha256 else [])]
    return b"".join((*map(packet, head), DELIMITER, *map(packet, (*lines, b"done")), FLUSH))


def wanted_between(old: bytes, new: Set[bytes], *, sha256: bool) -> bytes:
    """The request for the commits that are before these and not before the old one, without trees and files."""
    lines = [b"no-progress", b"ofs-delta", *(b"want " + one for one in sorted(new)), b"have " + old, b"filter tree:0"]
    head = [b"command=fetch", *([b"object-format=sha256"] if sha256 else [])]
    return b"".join((*map(packet, head), DELIMITER, *map(packet, (*lines, b"done")), FLUSH))


class FetchedReader:
    """Reads commits and trees of an answer as it comes."""

    def __init__(self, *, sha256: bool, limits: Limits) -> None:
        self._packets = PacketReader(delimited=True)
        self._pack = PackReader(sha256=sha256, limits=limits)
        self._begun = False

    def feed(self, data: bytes) -> None:
        """Take further bytes. Raises MalformedError, with the server's own words, and TooLargeError."""
        self._packets.feed(data)
        while (found := self._packets.next()) is not None:
            is_data, line = found
            if line.startswith(b"ERR "):
                raise MalformedError("the server does not tell what it has: " + ascii(line[4:200].decode("latin-1")))
            if not self._begun:
                self._begun = line == b"packfile\n"
            elif is_data and line[0] == _DATA:
                self._pack.feed(line[1:])
            elif is_data and line[0] != _PROGRESS:
                raise MalformedError("the server breaks off: " + ascii(line[1:200].decode("latin-1")))

    def objects(self) -> Mapping[bytes, GitObject]:
        """By their ids in hex; no more comes. Raises MalformedError where it isn't whole, and TooLargeError."""
        self._pack.end()
        return self._pack.objects({})
