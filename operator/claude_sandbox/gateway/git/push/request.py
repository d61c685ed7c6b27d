"""What a push asks for (gitprotocol-pack, Reference Update Request), read as bytes arrive. Pure.

The commands come before anything that a server would act on, so that a push is judged before a byte of it is passed
on. What no agent needs and a server may act on (a signed push, options for the server's hooks) is refused by name.
"""

from dataclasses import dataclass

from claude_sandbox.gateway.git.pkt_line import FLUSH, MalformedError, PacketReader, packet

MAX_COMMANDS = 1000
_MAX_REF = 4096
"""Bytes: one that git has is shorter by far, and what is refused has to be told in one packet."""
_MAX_COMMANDS_BYTES = 1024 * 1024
_HEX = frozenset(b"0123456789abcdef")
_ID_LENGTHS = {b"sha1": 40, b"sha256": 64}
# What the answer's form depends on, and what the server does with the pack; `agent` tells of the client, and a
# `session-id` only logs.
_PASSED = (b"report-status", b"report-status-v2", b"side-band-64k", b"quiet", b"atomic", b"ofs-delta", b"delete-refs")
_DROPPED = (b"agent", b"session-id")


@dataclass(frozen=True)
class Command:
    """One ref, from what to what: ids in hex, all zeros for none."""

    old: bytes
    new: bytes
    ref: bytes

    @property
    def creates(self) -> bool:
        """Whether the ref is new."""
        return not self.old.strip(b"0")

    @property
    def deletes(self) -> bool:
        """Whether the ref shall be gone."""
        return not self.new.strip(b"0")


@dataclass(frozen=True)
class PushRequest:
    """`capabilities`: those that are passed on. `sha256`: ids have 64 digits instead of 40."""

    commands: tuple[Command, ...]
    capabilities: tuple[bytes, ...]
    sha256: bool = False
    shallow: tuple[bytes, ...] = ()
    """Commits whose parents the client does not have."""

    @property
    def needs_pack(self) -> bool:
        """Whether a pack follows: with deletions alone none does."""
        return any(not command.deletes for command in self.commands)

    def head(self) -> bytes:
        """The commands, written anew: the server reads what was judged, and nothing else."""
        kind = b" object-format=sha256" if self.sha256 else b""
        lines = [b"%s %s %s" % (command.old, command.new, command.ref) for command in self.commands]
        lines[0] += b"\0" + b" ".join(self.capabilities) + kind
        shallow = [b"shallow " + commit for commit in self.shallow]
        return b"".join(map(packet, (*shallow, *lines))) + FLUSH


class PushReader:
    """Takes a push's bytes. `request` is there once its commands are whole; what came behind them is `rest()`.

    A request of nothing but a flush is a client's question whether it may log in: `probe`.
    """

    def __init__(self) -> None:
        self._packets = PacketReader()
        self._commands: list[Command] = []
        self._capabilities: tuple[bytes, ...] = ()
        self._shallow: list[bytes] = []
        self._id_length = 40
        self._size = 0
        self.request: PushRequest | None = None
        self.probe = False

    def feed(self, data: bytes) -> bool:
        """Take further bytes; whether all is known. Raises MalformedError, which says what is not understood."""
        self._size += len(data)
        self._packets.feed(data)
        while not self.done and (found := self._packets.next()) is not None:
            is_data, line = found
            if is_data:
                self._line(line)
            elif self._commands:
                self.request = self._whole()
            else:
                self.probe = True
        if not self.done and self._size > _MAX_COMMANDS_BYTES:
            raise MalformedError("its commands have more than a megabyte")
        return self.done

    @property
    def done(self) -> bool:
        """Whether the commands are whole."""
        return self.probe or self.request is not None

    def rest(self) -> bytes:
        """What came behind the commands: the beginning of the pack."""
        return self._packets.rest()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"push-cert"):
            raise MalformedError("signed pushes are not passed on: push without --signed")
        if line.startswith(b"shallow ") and not self._commands:
            self._shallow.append(line[8:].removesuffix(b"\n"))
            return
        if len(self._commands) == MAX_COMMANDS:
            raise MalformedError(f"more than {MAX_COMMANDS} refs in one push")
        text, nul, capabilities = line.partition(b"\0")
        # Later ones a server might take up as well, and none of them would have been judged.
        if bool(nul) is bool(self._commands):
            raise MalformedError("its first command has to have the client's capabilities, and no other")
        if nul:
            self._agree(capabilities)
        self._commands.append(self._command(text.removesuffix(b"\n")))

    def _whole(self) -> PushRequest:
        if any(len(commit) != self._id_length or not _HEX.issuperset(commit) for commit in self._shallow):
            raise MalformedError("a shallow commit is none")
        # Which of two would hold is the server's to say.
        if len({command.ref for command in self._commands}) != len(self._commands):
            raise MalformedError("a ref is there twice")
        commands, shallow = tuple(self._commands), tuple(self._shallow)
        return PushRequest(commands, self._capabilities, self._id_length == 64, shallow)

    def _agree(self, given: bytes) -> None:
        passed: list[bytes] = []
        for one in given.removesuffix(b"\n").split():
            name, _, value = one.partition(b"=")
            if name == b"object-format" and value in _ID_LENGTHS:
                self._id_length = _ID_LENGTHS[value]
            elif name == b"push-options":
                raise MalformedError("options for the server are not passed on: push without --push-option")
            elif one in _PASSED:
                passed.append(one)
            elif name not in _DROPPED:
                raise MalformedError("it asks for what is not passed on: " + ascii(name[:40].decode("latin-1")))
        self._capabilities = tuple(dict.fromkeys(passed))

    def _command(self, text: bytes) -> Command:
        length = self._id_length
        old, new, ref = text[:length], text[length + 1 : 2 * length + 1], text[2 * length + 2 :]
        blanks = text[length : length + 1] + text[2 * length + 1 : 2 * length + 2]
        if blanks != b"  " or not _HEX.issuperset(old + new) or not 0 < len(ref) <= _MAX_REF:
            raise MalformedError("a command is none")
        command = Command(old, new, ref)
        if command.creates and command.deletes:
            raise MalformedError("a command does nothing")
        return command
