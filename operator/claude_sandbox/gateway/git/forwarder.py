"""Passes git's requests on to one repository, with the credential that the sandbox doesn't have.

Theory of operation. A fetch is passed on as it comes, both ways. A push is read up to the end of its commands; where
they are refused already, the client is told so in git's own protocol, and the server hears of nothing. Where its new
commits matter (`push_rules.reads_history`) the pack is read to its end as well, into memory or a nameless file, and
what the server has is asked for where the new commits begin; then it is decided. What is passed on is written anew from
what was read: the server never reads a command that was not judged, and never a pack of which a byte was not read.

A request holds its file and at most `pack.Limits` of memory, and gives both back however it ends; of those that are
read like this there are few at a time, of each sandbox one. Nothing is kept between requests. A push whose client goes
away before the server was asked has done nothing; later, the server decides as it does for any client. Who asks, and
whether they may, is known before: it is not looked at here.
"""

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import aiohttp
from aiohttp import web
from yarl import URL

from claude_sandbox.gateway.git import history, push_report
from claude_sandbox.gateway.git.fetch import (
    WantReader,
    can_filter,
    read_fetched,
    symbolic_refs,
    symbolic_refs_request,
    wanted,
)
from claude_sandbox.gateway.git.pack import GitObject, Limits, PackReader, TooLargeError
from claude_sandbox.gateway.git.pkt_line import MalformedError
from claude_sandbox.gateway.git.push_request import Command, PushReader, PushRequest
from claude_sandbox.gateway.git.push_rules import PushRules, aliases, reads_history, refusals
from claude_sandbox.gateway.git.smart_http import Advertisement, Call, Service, call_of, protocol
from claude_sandbox.gateway.git.upstream import RefusedAddressError
from claude_sandbox.gateway.shares import Slots

_CHUNK = 1024 * 1024
_FETCHED = 64 * 1024 * 1024
"""Bytes of what the server is asked for at most: trees and commits, without files."""


@dataclass(frozen=True)
class Server:
    """Where one repository is, and how it is asked. `url` has no slash at its end; `authorization` is a header's value,
    or None; `proxy` a URL, for where a company's proxy is asked instead."""

    url: str
    authorization: str | None = field(repr=False)
    push: PushRules | None = None
    timeout: aiohttp.ClientTimeout = field(default_factory=aiohttp.ClientTimeout)
    proxy: str | None = None
    client: str = ""
    """Which sandbox asks: each has its part of what all share."""


@dataclass
class Passage:
    """What is known of one request, as it becomes known; for its line of the audit."""

    call: Call | None = None
    verdict: str = "Refused"
    rule: str | None = None
    commands: tuple[Command, ...] = ()
    wanted: tuple[str, ...] = ()
    """What a fetch asked for."""
    status: int | None = None
    up: int = 0
    down: int = 0


class RefusedError(Exception):
    """Not passed on. `status` is HTTP's; the text is shown by git."""

    def __init__(self, status: int, rule: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.rule = rule


_LIMITS = Limits(held=24 * 1024 * 1024, object=8 * 1024 * 1024)


@dataclass(frozen=True)
class Judging:
    """What the reading of packs may take. `directory`: where they are meanwhile; None is in memory. `pack`: bytes of
    one; `at_once`: pushes that are read at a time, of each sandbox one; `seconds`: for the whole of one."""

    directory: Path | None = None
    pack: int = 24 * 1024 * 1024
    limits: Limits = _LIMITS
    at_once: int = 4
    seconds: float = 120.0


class GitForwarder:
    """For all sandboxes."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession], judging: Judging = Judging()) -> None:
        self._session = session
        self._judging = judging
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
            asked = _Asked(self._session(), server)
            if call.service is Service.FETCH:
                body = _noted(incoming, passage) if incoming.can_read_body else None
                return await asked.pass_on(incoming, call, passage, body)
            if server.push is None:
                raise RefusedError(403, "read-only", "this repository is read-only: spec.repositories has no push")
            if call.advertises:
                return await asked.pass_on(incoming, call, passage, None)
            return await self._push(_Push(incoming, call, server.push, passage), asked)
        except RefusedError as error:
            passage.verdict = "Failed" if error.status >= 500 else "Refused"
            return _told(passage, error)
        except MalformedError as error:
            return _told(passage, RefusedError(400, f"malformed: {error}", f"this is refused: {error}"))

    async def _push(self, push: "_Push", server: "_Asked") -> web.StreamResponse:
        request, rest = await push.commands()
        if request is None:
            push.passage.verdict, push.passage.rule, push.passage.status = "Allowed", "probe", 200
            return _whole(push.call, b"")
        reasons: Mapping[bytes, str] = refusals(request, push.rules)
        if not reasons:
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
        finally:
            self._slots.give(server.client)

    async def _read(self, push: "_Push", request: PushRequest, rest: bytes, server: "_Asked") -> web.StreamResponse:
        """Pass a push on if its commits may come in."""
        directory, reasons = self._judging.directory, dict[bytes, str]()
        with io.BytesIO() if directory is None else tempfile.TemporaryFile(dir=directory) as file:
            try:
                async with asyncio.timeout(self._judging.seconds):
                    pack = await push.pack(request, rest, file, self._judging)
                    reasons.update(await self._judged(request, push.rules, pack, server))
            except (MalformedError, TooLargeError, RefusedError) as error:
                reasons = {command.ref: str(error) for command in request.commands}
            except TimeoutError:
                raise RefusedError(408, "timeout", "the push takes too long") from None
            if reasons:
                return await push.refused(request, reasons)
            return await server.pass_on(push.incoming, push.call, push.passage, _stored(request.head(), file))

    async def _judged(
        self, request: PushRequest, rules: PushRules, pack: PackReader, server: "_Asked"
    ) -> Mapping[bytes, str]:
        """Why a ref is refused for what its commits do. Raises MalformedError, TooLargeError and RefusedError."""
        pushed = await asyncio.to_thread(pack.objects, {})
        known: Mapping[bytes, GitObject] = {}
        edge = history.boundary(request.commands, pushed)
        if edge and rules.protected:
            known = await server.known(edge, sha256=request.sha256)
            pushed = await asyncio.to_thread(pack.objects, known)
        reasons = {}
        for command in request.commands:
            why = await asyncio.to_thread(history.why_not, command, rules, pushed, known)
            if why is not None:
                reasons[command.ref] = why
        return reasons


@dataclass(frozen=True)
class _Push:
    """A push that is being read."""

    incoming: web.BaseRequest
    call: Call
    rules: PushRules
    passage: Passage

    async def commands(self) -> tuple[PushRequest | None, bytes]:
        """The commands, None for a mere question, and what came behind them. Raises MalformedError, RefusedError."""
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

    async def pack(self, request: PushRequest, rest: bytes, file: IO[bytes], judging: Judging) -> PackReader:
        """Read the pack, into the file as well. Raises MalformedError and TooLargeError."""
        pack, part, length = PackReader(sha256=request.sha256, limits=judging.limits), rest, 0
        while part or (part := await self.incoming.content.read(_CHUNK)):
            length += len(part)
            if length > judging.pack:
                raise TooLargeError(f"the push has more than {judging.pack} bytes: push it in parts")
            # Inflating and hashing leave the interpreter's lock: other sandboxes go on meanwhile.
            await asyncio.to_thread(_take, pack, file, part)
            part = b""
        self.passage.up += length - len(rest)
        pack.end()
        return pack

    async def refused(self, request: PushRequest, reasons: Mapping[bytes, str]) -> web.StreamResponse:
        """Tell the client why nothing was done."""
        self.passage.rule, self.passage.status = min(reasons.values()), 200
        # A client that is told before it has sent everything takes that for a broken connection.
        while part := await self.incoming.content.readany():
            self.passage.up += len(part)
        return _whole(self.call, push_report.refused(request, reasons))


class _Asked:
    """Git's server, for one request."""

    def __init__(self, session: aiohttp.ClientSession, server: Server) -> None:
        self._session = session
        self.client = server.client
        self._url = server.url
        self._headers = {"accept-encoding": "identity"}
        if server.authorization is not None:
            self._headers["authorization"] = server.authorization
        self._options: dict[str, Any] = {"allow_redirects": False, "timeout": server.timeout, "proxy": server.proxy}

    async def pass_on(
        self, incoming: web.BaseRequest, call: Call, passage: Passage, body: AsyncIterator[bytes] | None
    ) -> web.StreamResponse:
        """The request with the credential, and the answer back. Raises RefusedError before that began."""
        headers = dict(self._headers)
        for name in ("accept", "accept-language", "content-type", "content-encoding", "user-agent"):
            if name in incoming.headers:
                headers[name] = incoming.headers[name]
        if (version := protocol(call.service, incoming.headers.get("git-protocol"))) is not None:
            headers["git-protocol"] = version
        url = f"{self._url}/{call.path}" + (f"?service={call.service}" if call.advertises else "")
        passage.verdict, passage.rule = "Allowed", "allowed"
        try:
            async with self._session.request(
                incoming.method, URL(url, encoded=True), headers=headers, data=body, **self._options
            ) as answer:
                return await self._pass_back(incoming, call, answer, passage)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            if passage.status is not None:
                raise
            if isinstance(error.__cause__, RefusedAddressError):
                raise RefusedError(403, "address", str(error.__cause__)) from None
            raise RefusedError(502, "server", "git's server can't be reached") from None

    async def _pass_back(
        self, incoming: web.BaseRequest, call: Call, answer: aiohttp.ClientResponse, passage: Passage
    ) -> web.StreamResponse:
        """The server's answer, if it is one of git's. Its words for a person come in the protocol, or not at all."""
        if answer.status in (401, 403):
            raise RefusedError(403, "credential", f"git's server refuses the credential: HTTP {answer.status}")
        if 300 <= answer.status < 400:
            raise RefusedError(502, "redirect", "git's server sends elsewhere: write the repository's final url")
        if answer.status != 200 or answer.content_type != call.content_type:
            status = 404 if answer.status == 404 else 502
            raise RefusedError(status, "answer", f"git's server gives no answer of git's: HTTP {answer.status}")
        passage.status = 200
        response = web.StreamResponse(headers=_headers(call))
        rewritten = Advertisement() if call.advertises and call.service is Service.PUSH else None
        await response.prepare(incoming)
        async for part in answer.content.iter_any():
            given = part if rewritten is None else rewritten.feed(part)
            passage.down += len(given)
            await response.write(given)
        await response.write_eof()
        return response

    async def symbolic_refs(self, refs: Set[bytes], *, sha256: bool) -> Mapping[bytes, bytes]:
        """Which of these refs, and of those that begin like them, only stand for another, and for which.

        Raises RefusedError and MalformedError.
        """
        body = symbolic_refs_request(refs, sha256=sha256)
        return symbolic_refs(await self._asked("POST", f"{self._url}/{Service.FETCH}", body))

    async def known(self, commits: Set[bytes], *, sha256: bool) -> Mapping[bytes, GitObject]:
        """What the server has of these commits: themselves and their trees.

        Raises RefusedError, MalformedError and TooLargeError.
        """
        advertised = await self._asked("GET", f"{self._url}/info/refs?service={Service.FETCH}")
        body = wanted(commits, sha256=sha256, filtered=can_filter(advertised))
        data = await self._asked("POST", f"{self._url}/{Service.FETCH}", body)
        return await asyncio.to_thread(read_fetched, data, sha256=sha256)

    async def _asked(self, method: str, url: str, body: bytes | None = None) -> bytes:
        headers = self._headers | {"git-protocol": "version=2"}
        if body is not None:
            headers["content-type"] = f"application/x-{Service.FETCH}-request"
        data = bytearray()
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, **self._options
            ) as answer:
                if answer.status != 200:
                    raise RefusedError(502, "server", f"the server does not tell what it has: HTTP {answer.status}")
                async for part in answer.content.iter_any():
                    data += part
                    if len(data) > _FETCHED:
                        raise TooLargeError("the server's trees are too large to be looked through")
        except (aiohttp.ClientError, TimeoutError):
            raise RefusedError(502, "server", "the server does not tell what it has") from None
        return bytes(data)


def _take(pack: PackReader, file: IO[bytes], part: bytes) -> None:
    pack.feed(part)
    file.write(part)


async def _counted(first: bytes, incoming: web.BaseRequest, passage: Passage) -> AsyncIterator[bytes]:
    """What was read already, and the rest as it comes."""
    if first:
        yield first
    while part := await incoming.content.readany():
        passage.up += len(part)
        yield part


async def _noted(incoming: web.BaseRequest, passage: Passage) -> AsyncIterator[bytes]:
    """A fetch as it comes, and what it asks for in the passage."""
    wants = WantReader(incoming.headers.get("content-encoding"))
    async for part in _counted(b"", incoming, passage):
        wants.feed(part)
        passage.wanted = tuple(wants.found)
        yield part


async def _stored(head: bytes, file: IO[bytes]) -> AsyncIterator[bytes]:
    """A push whose pack was read."""
    yield head
    file.seek(0)
    while part := await asyncio.to_thread(file.read, _CHUNK):
        yield part


def _headers(call: Call) -> dict[str, str]:
    return {"content-type": call.content_type, "cache-control": "no-cache"}


def _whole(call: Call, body: bytes) -> web.Response:
    return web.Response(body=body, headers=_headers(call))


def _told(passage: Passage, error: RefusedError) -> web.StreamResponse:
    """In plain text, which git shows."""
    passage.rule, passage.status = error.rule, error.status
    response = web.Response(status=error.status, text=f"{error}\n")
    # What is left of its body is not read.
    response.force_close()
    return response
