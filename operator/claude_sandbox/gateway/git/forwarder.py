"""Passes git's requests on to one repository, with the credential that the sandbox doesn't have.

Theory of operation. A fetch is passed on as it comes, both ways, each packet when it was judged; one that is refused in
its midst never comes whole to the server. A push is read up to the end of its commands; where they are refused already,
the client is told so in git's own protocol, and the server hears of nothing. Where its new commits matter
(`push_rules.reads_history`) the pack is read to its end as well, into memory or a nameless file, and what the server
has is asked for where the new commits begin; then it is decided. What is passed on is written anew from what was read:
the server never reads a command that was not judged, and never a pack of which a byte was not read.

A request holds its file and at most `pack.Limits` of memory, and gives both back however it ends; of those that are
read like this there are few at a time, of each sandbox one. Nothing is kept between requests. A push whose client goes
away before the server was asked has done nothing; later, the server decides as it does for any client. Who asks, and
whether they may, is known before: it is not looked at here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from claude_sandbox.gateway.git.asking import Asked, headers_of
from claude_sandbox.gateway.git.fetch_request import FetchReader
from claude_sandbox.gateway.git.pack import GitObject, Limits, PackReader, TooLargeError
from claude_sandbox.gateway.git.passage import Passage, RefusedError, Server, plainly
from claude_sandbox.gateway.git.pkt_line import MalformedError
from claude_sandbox.gateway.git.push import history
from claude_sandbox.gateway.git.push import report as push_report
from claude_sandbox.gateway.git.push.request import PushReader, PushRequest
from claude_sandbox.gateway.git.push.rules import PushRules, aliases, reads_history, refusals
from claude_sandbox.gateway.git.smart_http import VERSION_2, Call, Service, call_of, protocol
from claude_sandbox.gateway.git.spool import MIB, FullError, Room, Spool, Spooled
from claude_sandbox.gateway.shares import Slots

_CHUNK = MIB
_IN_MEMORY = Room()
_LIMITS = Limits(held=24 * MIB, object=8 * MIB)
_REWRITTEN = "it does not build on what is there: fetch and merge or rebase first (spec.repositories, push.force)"
_MOST_ASKED = 20
"""Branches of one push for which the server is asked whether they build on what it has."""


@dataclass(frozen=True)
class Judging:
    """What the reading of packs may take. `room`: where they are meanwhile; `at_once`: pushes that are read at a time,
    of each sandbox one; `seconds`: for the whole of one, and a second more for each `rate` bytes that have come;
    `compared`: bytes of trees that are compared for one."""

    room: Room = _IN_MEMORY
    limits: Limits = _LIMITS
    at_once: int = 4
    seconds: float = 120.0
    rate: int = MIB // 4
    compared: int = history.MOST_READ


class GitForwarder:
    """For all sandboxes."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession], judging: Judging = Judging()) -> None:
        self._session = session
        self._judging = judging
        self._spool = Spool(judging.room, judging.at_once)
        self._slots = Slots(judging.at_once, 1)

    def limit(self, clients: int) -> None:
        """There are so many sandboxes."""
        self._slots.limit(self._judging.at_once, 1, clients)

    async def handle(
        self, incoming: web.BaseRequest, below: str, server: Server, passage: Passage
    ) -> web.StreamResponse:
        """Answer one request; `below`: its path below the repository's URL. Fills in `passage`.

        Raises OSError and aiohttp.ClientError where a side fails after the answer began.
        """
        try:
            call = passage.call = call_of(incoming.method, below, incoming.query_string)
            if call is None:
                raise RefusedError(403, "request", "git's smart protocol is spoken here, and nothing else")
            asked = Asked(self._session(), server)
            if call.service is Service.FETCH:
                body = _fetch(incoming, passage) if incoming.can_read_body else None
                return await asked.pass_on(incoming, call, passage, body)
            if server.push is None:
                raise RefusedError(403, "read-only", "this repository is read-only: spec.repositories has no push")
            if call.advertises:
                return await asked.pass_on(incoming, call, passage, None)
            return await self._push(_Push(incoming, call, server.push, passage), asked)
        except RefusedError as error:
            passage.verdict = "Failed" if error.status >= 500 else "Refused"
            return plainly(passage, error)
        except MalformedError as error:
            passage.verdict = "Refused"
            return plainly(passage, RefusedError(400, f"malformed: {error}", f"this is refused: {error}"))

    async def _push(self, push: "_Push", server: Asked) -> web.StreamResponse:
        request, rest = await push.commands()
        if request is None:
            push.passage.verdict, push.passage.rule, push.passage.status = "Allowed", "probe", 200
            return _whole(push.call, b"")
        reasons: Mapping[bytes, str] = refusals(request, push.rules)
        if not reasons:
            # Only where the commands alone are allowed: else the server need not be asked.
            # By its name a ref may stand for another, which would be written.
            refs = {command.ref for command in request.commands}
            reasons = aliases(request, await server.symbolic_refs(refs, sha256=request.sha256))
        if reasons:
            return await push.refused(request, reasons)
        if not reads_history(request, push.rules):
            body = _counted(request.head() + rest, push.incoming, push.passage)
            return await server.pass_on(push.incoming, push.call, push.passage, body)
        if not self._slots.take(server.client):
            why = "another push is being read: push again in a moment"
            return await push.refused(request, {command.ref: why for command in request.commands})
        try:
            return await self._read(push, request, rest, server)
        except FullError as error:
            raise RefusedError(503, "spool", str(error)) from None
        finally:
            self._slots.give(server.client)

    async def _read(self, push: "_Push", request: PushRequest, rest: bytes, server: Asked) -> web.StreamResponse:
        """Pass a push on if its commits may come in."""
        reasons: Mapping[bytes, str] = {}
        with self._spool.open() as file:
            try:
                async with asyncio.timeout(self._judging.seconds) as until:
                    pack = await push.pack(request, rest, file, self._judging, until)
                    reasons = await self._judged(request, push.rules, pack, server)
            except (MalformedError, TooLargeError, FullError, RefusedError) as error:
                reasons = {command.ref: str(error) for command in request.commands}
            except TimeoutError:
                raise RefusedError(408, "timeout", "the push takes too long") from None
            if reasons:
                return await push.refused(request, reasons)
            head = request.head()
            length = len(head) + file.size
            return await server.pass_on(push.incoming, push.call, push.passage, _stored(head, file), length)

    async def _judged(
        self, request: PushRequest, rules: PushRules, pack: PackReader, server: Asked
    ) -> Mapping[bytes, str]:
        """Why a ref is refused for what its commits do. Raises MalformedError, TooLargeError and RefusedError."""
        limits, known, theirs = self._judging.limits, dict[bytes, GitObject](), dict[bytes, GitObject]()
        if rules.protected and (edge := await asyncio.to_thread(_edge, request, pack, theirs)):
            # What only a pull request of a stranger's brought is no more anybody's decision than what is pushed.
            theirs |= await server.unlisted(edge, limits, sha256=request.sha256)
            edge = await asyncio.to_thread(_edge, request, pack, theirs) if theirs else edge
            known |= await server.known(edge, limits, sha256=request.sha256) if edge else {}
        # Once more, with the server's: a thin pack has deltas of what only the server has.
        pushed = {**theirs, **await asyncio.to_thread(pack.objects, {**theirs, **known})}
        reasons = await asyncio.to_thread(
            history.why_not, request.commands, rules, pushed, known, self._judging.compared
        )  # fmt: skip
        if not rules.force and not reasons:
            reasons = await self._rewritten(request, pushed, server)
        return reasons

    async def _rewritten(
        self, request: PushRequest, pushed: Mapping[bytes, GitObject], server: Asked
    ) -> dict[bytes, str]:
        """The first ref that does not build on what was there, and why it is refused. Raises MalformedError."""
        asked = 0
        for command in request.commands:
            # What was there is the client's word. A server compares it before it writes, and does nothing where it is
            # not so.
            if command.creates or command.deletes:
                continue
            if await asyncio.to_thread(history.builds_on_the_old, command, pushed, {}):
                continue
            # By commits that the server has already, it may: it is asked for those between.
            why = _REWRITTEN
            asked += 1
            try:
                if asked > _MOST_ASKED:
                    raise TooLargeError("too many of one push: push fewer branches at a time")
                new = await asyncio.to_thread(history.boundary, (command,), pushed)
                between = await server.between(command.old, new, self._judging.limits, sha256=request.sha256)
                if await asyncio.to_thread(history.builds_on_the_old, command, pushed, between):
                    continue
            except (RefusedError, MalformedError, TooLargeError) as error:
                why = f"whether it builds on what is there can't be told ({error}): merge first, or have push.force"
            return {command.ref: why}
        return {}


@dataclass(frozen=True)
class _Push:
    """A push that is being read."""

    incoming: web.BaseRequest
    call: Call
    rules: PushRules
    passage: Passage

    async def commands(self) -> tuple[PushRequest | None, bytes]:
        """The commands, None for a mere question, and what came behind them. Raises MalformedError, RefusedError."""
        # Compressed, a small body may become one without end, before a limit of its size has been reached.
        if self.incoming.headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "encoding", "a push may not be compressed as a whole")
        reader, whole = PushReader(), False
        while not whole:
            part = await self.incoming.content.readany()
            if not part:
                raise MalformedError("it is cut off")
            self.passage.up += len(part)
            whole = reader.feed(part)
        self.passage.commands = reader.request.commands if reader.request is not None else ()
        return reader.request, reader.rest()

    async def pack(
        self, request: PushRequest, rest: bytes, file: Spooled, judging: Judging, until: asyncio.Timeout
    ) -> PackReader:
        """Read the pack, into the file as well. Raises MalformedError, TooLargeError and FullError."""
        pack, part, begin = PackReader(sha256=request.sha256, limits=judging.limits), rest, until.when()
        while part or (part := await self.incoming.content.read(_CHUNK)):
            # Inflating and hashing leave the interpreter's lock: other sandboxes go on meanwhile.
            await asyncio.to_thread(_take, pack, file, part)
            self.passage.up += len(part) if part is not rest else 0
            if begin is not None:
                # By what has come, not by when it came last: a client that sends a byte now and then gets no longer.
                until.reschedule(begin + file.size / judging.rate)
            part = b""
        pack.end()
        return pack

    async def refused(self, request: PushRequest, reasons: Mapping[bytes, str]) -> web.StreamResponse:
        """Tell the client why nothing was done."""
        self.passage.rule, self.passage.status = min(reasons.values()), 200
        # A client that is told before it has sent everything takes that for a broken connection.
        while part := await self.incoming.content.readany():
            self.passage.up += len(part)
        return _whole(self.call, push_report.refused(request, reasons))


def _edge(request: PushRequest, pack: PackReader, theirs: Mapping[bytes, GitObject]) -> Set[bytes]:
    """The commits of the server's on which a push builds; `theirs` count as pushed. What deltas make is let go."""
    return history.boundary(request.commands, {**theirs, **pack.objects(theirs)})


def _take(pack: PackReader, file: Spooled, part: bytes) -> None:
    pack.feed(part)
    file.write(part)


async def _counted(first: bytes, incoming: web.BaseRequest, passage: Passage) -> AsyncIterator[bytes]:
    """What was read already, and the rest as it comes."""
    if first:
        yield first
    while part := await incoming.content.readany():
        passage.up += len(part)
        yield part


async def _fetch(incoming: web.BaseRequest, passage: Passage) -> AsyncIterator[bytes]:
    """A fetch as it comes, inflated, and what it asks for in the passage. Raises MalformedError."""
    version2 = protocol(Service.FETCH, incoming.headers.get("git-protocol")) == VERSION_2
    reader = FetchReader(version2=version2, encoding=incoming.headers.get("content-encoding"))
    async for part in _counted(b"", incoming, passage):
        for judged in reader.feed(part):
            passage.wanted = tuple(reader.wanted)
            if judged:
                yield judged
            # The next one may take a while to read, and others have the loop meanwhile.
            await asyncio.sleep(0)
    reader.end()


async def _stored(head: bytes, file: Spooled) -> AsyncIterator[bytes]:
    """A push whose pack was read."""
    yield head
    file.rewind()
    while part := await asyncio.to_thread(file.read, _CHUNK):
        yield part


def _whole(call: Call, body: bytes) -> web.Response:
    return web.Response(body=body, headers=headers_of(call))
