"""Asks git's server for one request: passes it on and back, and what the gateway wants to know by itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Set
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from claude_sandbox.gateway.git.fetch import (
    FetchedReader,
    can_filter,
    listed,
    listed_request,
    symbolic_refs,
    symbolic_refs_request,
    wanted,
    wanted_between,
    wanted_beyond,
)
from claude_sandbox.gateway.git.fetch_answer import AnswerReader
from claude_sandbox.gateway.git.pack import GitObject, Limits, TooLargeError
from claude_sandbox.gateway.git.passage import Passage, RefusedError, Server
from claude_sandbox.gateway.git.pkt_line import MalformedError, packet
from claude_sandbox.gateway.git.smart_http import VERSION_2, Advertisement, Call, Service, protocol
from claude_sandbox.gateway.git.upstream import RefusedAddressError

_FETCHED = 64 * 1024 * 1024
"""Bytes of what the server is asked for at most: trees and commits, without files."""


class Asked:
    """Git's server, for one request."""

    def __init__(self, session: aiohttp.ClientSession, server: Server) -> None:
        self._session = session
        self.client = server.client
        self._url = server.url
        # Answers are read on their way, and counted as they are.
        self._headers = {"accept-encoding": "identity"}
        if server.authorization is not None:
            self._headers["authorization"] = server.authorization
        self._options: dict[str, Any] = {"allow_redirects": False, "timeout": server.timeout, "proxy": server.proxy}

    async def pass_on(
        self,
        incoming: web.BaseRequest,
        call: Call,
        passage: Passage,
        body: AsyncIterator[bytes] | None,
        length: int | None = None,
    ) -> web.StreamResponse:
        """The request with the credential, and the answer back. `length`: of the body, where it is known.

        Raises RefusedError before the answer began.
        """
        headers = dict(self._headers)
        if length is not None:
            headers["content-length"] = str(length)
        for name in ("accept", "accept-language", "content-type", "user-agent"):
            if name in incoming.headers:
                headers[name] = incoming.headers[name]
        if (version := protocol(call.service, incoming.headers.get("git-protocol"))) is not None:
            headers["git-protocol"] = version
        # Encoded already, and so sent as it was judged.
        url = f"{self._url}/{call.path}" + (f"?service={call.service}" if call.advertises else "")
        passage.verdict, passage.rule = "Allowed", "allowed"
        reader = _reader(call, version)
        try:
            async with self._session.request(
                incoming.method, URL(url, encoded=True), headers=headers, data=body, **self._options
            ) as answer:
                return await self._pass_back(incoming, call, answer, passage, reader)
        except (aiohttp.ClientError, TimeoutError) as error:
            # The client has the head of an answer, and can be told nothing any more but that it ends.
            if passage.status is not None:
                raise
            # Of the request's own body, which was judged as it went.
            if isinstance(error.__cause__, MalformedError):
                raise error.__cause__ from None
            if isinstance(error.__cause__, RefusedAddressError):
                raise RefusedError(403, "address", str(error.__cause__)) from None
            if isinstance(error, aiohttp.ClientResponseError):
                raise RefusedError(502, "answer", "git's server gives no answer of HTTP's") from None
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                why = "git's server has a certificate that is not believed: see egress.caFile of the gateways' settings"
                raise RefusedError(502, "certificate", why) from None
            raise RefusedError(502, "server", "git's server can't be reached") from None

    async def _pass_back(
        self,
        incoming: web.BaseRequest,
        call: Call,
        answer: aiohttp.ClientResponse,
        passage: Passage,
        reader: Advertisement | AnswerReader | None,
    ) -> web.StreamResponse:
        """The server's answer, if it is one of git's. Its words for a person come in the protocol, or not at all."""
        if answer.status in (401, 403):
            raise RefusedError(403, "credential", f"git's server refuses the credential: HTTP {answer.status}")
        # Not followed: the credential would go to where the server says.
        if 300 <= answer.status < 400:
            raise RefusedError(502, "redirect", "git's server sends elsewhere: write the repository's final url")
        # A page of a sign-in is 200 as well, and tells more than git's protocol does.
        if answer.status != 200 or answer.content_type != call.content_type:
            status = 404 if answer.status == 404 else 502
            raise RefusedError(status, "answer", f"git's server gives no answer of git's: HTTP {answer.status}")
        passage.status = 200
        response = web.StreamResponse(headers=headers_of(call))
        await response.prepare(incoming)
        try:
            async for part in answer.content.iter_any():
                given = part if reader is None else reader.feed(part)
                passage.down += len(given)
                await response.write(given)
        except MalformedError as error:
            # By its head it is a good answer already. Git shows such a packet wherever it reads packets, and ends.
            passage.verdict, passage.rule = "Failed", f"answer: {error}"
            await response.write(packet(f"ERR the sandbox's gateway: {error}".encode()))
        await response.write_eof()
        return response

    async def symbolic_refs(self, refs: Set[bytes], *, sha256: bool) -> Mapping[bytes, bytes]:
        """Which of these refs, and of those that begin like them, only stand for another, and for which.

        Raises RefusedError, MalformedError and TooLargeError.
        """
        return symbolic_refs(await self._whole("POST", symbolic_refs_request(refs, sha256=sha256)))

    async def unlisted(self, commits: Set[bytes], limits: Limits, *, sha256: bool) -> Mapping[bytes, GitObject]:
        """Of these commits and what is before them, what the server has and none of its branches and tags: what is of
        a pull request alone, or of another repository with which it shares objects. Commits and trees.

        Raises RefusedError, MalformedError and TooLargeError.
        """
        answer = await self._whole("POST", listed_request(sha256=sha256))
        had = await asyncio.to_thread(listed, answer)
        if commits <= had:
            return {}
        filtered = can_filter(await self._whole("GET"))
        body = wanted_beyond(commits - had, had, sha256=sha256, filtered=filtered)
        return await self._fetched(body, limits, sha256=sha256)

    async def known(self, commits: Set[bytes], limits: Limits, *, sha256: bool) -> Mapping[bytes, GitObject]:
        """What the server has of these commits: themselves and their trees.

        Raises RefusedError, MalformedError and TooLargeError.
        """
        filtered = can_filter(await self._whole("GET"))
        return await self._fetched(wanted(commits, sha256=sha256, filtered=filtered), limits, sha256=sha256)

    async def between(self, old: bytes, new: Set[bytes], limits: Limits, *, sha256: bool) -> Mapping[bytes, GitObject]:
        """The commits of the server that these have before them and the old one does not.

        Raises RefusedError, MalformedError and TooLargeError.
        """
        if not can_filter(await self._whole("GET")):
            raise MalformedError("the server does not give commits without their files")
        return await self._fetched(wanted_between(old, new, sha256=sha256), limits, sha256=sha256)

    async def _fetched(self, body: bytes, limits: Limits, *, sha256: bool) -> Mapping[bytes, GitObject]:
        reader = FetchedReader(sha256=sha256, limits=limits)
        async for part in self._parts("POST", body):
            # It inflates and hashes what a server sends: the event loop is everybody's.
            await asyncio.to_thread(reader.feed, part)
        return await asyncio.to_thread(reader.objects)

    async def _whole(self, method: str, body: bytes | None = None) -> bytes:
        data = bytearray()
        async for part in self._parts(method, body):
            data += part
        return bytes(data)

    async def _parts(self, method: str, body: bytes | None) -> AsyncIterator[bytes]:
        """The answer to a question of the gateway's own: what the server can, or with a body, what it has."""
        headers = self._headers | {"git-protocol": "version=2"}
        url, length = f"{self._url}/info/refs?service={Service.FETCH}", 0
        if body is not None:
            url = f"{self._url}/{Service.FETCH}"
            headers["content-type"] = f"application/x-{Service.FETCH}-request"
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, **self._options
            ) as answer:
                if answer.status != 200:
                    raise RefusedError(502, "server", f"the server does not tell what it has: HTTP {answer.status}")
                async for part in answer.content.iter_any():
                    length += len(part)
                    if length > _FETCHED:
                        raise TooLargeError("what the server has is too large to be looked through")
                    yield part
        except (aiohttp.ClientError, TimeoutError):
            raise RefusedError(502, "server", "the server does not tell what it has") from None


def _reader(call: Call, version: str | None) -> Advertisement | AnswerReader | None:
    """What reads the answer on its way; None for one in which nothing leads elsewhere."""
    if call.advertises:
        return Advertisement(call.service)
    return AnswerReader() if call.service is Service.FETCH and version == VERSION_2 else None


def headers_of(call: Call) -> dict[str, str]:
    """Of the answer to the client."""
    return {"content-type": call.content_type, "cache-control": "no-cache"}
