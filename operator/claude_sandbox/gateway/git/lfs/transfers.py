"""Large files of one repository, with the credential that the sandbox doesn't have.

Theory of operation. It holds nothing between requests. A client's batch is asked of the server, and answered with URLs
of the gateway's own. At one of these, the server is asked for that file alone, and the very request that it then names
is made at once and forgotten: so a sandbox sees no signed URL and no token, reaches no other place of a storage, and
any replica of the gateway serves any request. The place that a server names is judged as any destination.

An upload changes no ref: who may push to any branch may bring files for it, and which branch then names them is
decided with the push. The gateway computes the file's name as it passes by, and holds its last part back until that is
right: what is not the file that it is named as never comes whole to the server. An upload that is cut off has brought
nothing. Locks, which keep other people from pushing, are not passed on.
"""

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from claude_sandbox.gateway.config.config import Config
from claude_sandbox.gateway.git.lfs.batch import (
    CONTENT_TYPE,
    MOST_ANSWER,
    MOST_REQUEST,
    Action,
    Answered,
    Batch,
    BatchError,
    LargeFile,
    large_file,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from claude_sandbox.gateway.git.passage import LFS_DOWNLOAD, Passage, RefusedError, Server
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.refs import matches, why_not_a_branch
from claude_sandbox.gateway.git.upstream import RefusedAddressError

_FILE = re.compile(r"objects/([0-9a-f]{64})/(0|[1-9][0-9]{0,15})")
_RANGE = re.compile(r"bytes=[0-9]{1,16}-[0-9]{0,16}")
_READ_ON, _READ_ON_SECONDS = 4 * 1024 * 1024, 10.0
_ANSWERED = aiohttp.ClientTimeout(total=60.0)


class LargeFiles:
    """For all sandboxes."""

    def __init__(self, session: Callable[[], aiohttp.ClientSession], config: Callable[[], Config]) -> None:
        self._session = session
        self._config = config

    async def handle(
        self, incoming: web.BaseRequest, below: str, server: Server, passage: Passage
    ) -> web.StreamResponse:
        """Answer one request; `below`: its path below `info/lfs/`. Fills in `passage`.

        Raises OSError and aiohttp.ClientError where a side fails after the answer began.
        """
        found = _FILE.fullmatch(below)
        try:
            if below == "locks" or below.startswith("locks/"):
                # To this status clients answer by doing without.
                raise RefusedError(501, "locks", "locks are not passed on by the sandbox's gateway")
            if incoming.query_string:
                raise RefusedError(403, "request", "Git LFS asks without a query here")
            if (incoming.method, below) == ("POST", "objects/batch"):
                return await self._batch(incoming, server, passage)
            if found is not None and incoming.method in ("GET", "PUT"):
                file = large_file(found[1], int(found[2]))
                passage.files = (file.oid,)
                passage.operation = LFS_DOWNLOAD if incoming.method == "GET" else "lfs upload"
                if incoming.method == "GET":
                    return await self._download(incoming, file, server, passage)
                return await self._upload(incoming, file, server, passage)
            raise RefusedError(403, "request", "Git LFS is spoken here by its basic transfer, and nothing else")
        except RefusedError as error:
            passage.verdict = "Failed" if error.status >= 500 and error.rule != "locks" else "Refused"
            await _read_on(incoming)
            return _told(passage, error)
        except BatchError as error:
            passage.verdict = "Refused"
            return _told(passage, RefusedError(422, f"malformed: {error}", f"this is refused: {error}"))
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            if passage.status is not None:
                raise
            passage.verdict = "Failed"
            if isinstance(error.__cause__, RefusedAddressError):
                return _told(passage, RefusedError(403, "address", str(error.__cause__)))
            return _told(passage, RefusedError(502, "server", "the server of large files can't be reached"))

    async def _batch(self, incoming: web.BaseRequest, server: Server, passage: Passage) -> web.StreamResponse:
        body = bytearray()
        while part := await incoming.content.readany():
            body += part
            if len(body) > MOST_REQUEST:
                raise RefusedError(413, "size", "too many files are asked for at once")
        passage.up = len(body)
        batch = read_request(bytes(body))
        passage.operation = "lfs upload batch" if batch.upload else "lfs download batch"
        passage.files = tuple(one.oid for one in batch.files)
        if batch.upload:
            _may_upload(batch, server.push)
        answered = await self._asked(batch, server)
        base = f"{incoming.scheme}://{incoming.host}{incoming.raw_path.removesuffix('/objects/batch')}"
        told = write_answer(batch, answered, base, incoming.headers.get("authorization", ""))
        passage.verdict, passage.rule, passage.status, passage.down = "Allowed", "allowed", 200, len(told)
        return web.Response(body=told, headers={"content-type": CONTENT_TYPE})

    async def _asked(self, batch: Batch, server: Server) -> tuple[Answered, ...]:
        """What the server says. Raises RefusedError and BatchError."""
        # As clients find it (docs/api/server-discovery.md of git-lfs).
        url = server.url.removesuffix(".git") + ".git/info/lfs/objects/batch"
        headers = {"accept": CONTENT_TYPE, "content-type": CONTENT_TYPE, "accept-encoding": "identity"}
        if server.authorization is not None:
            headers["authorization"] = server.authorization
        async with self._session().post(
            URL(url, encoded=True), data=write_request(batch), headers=headers, timeout=_ANSWERED,
            allow_redirects=False, proxy=server.proxy,
        ) as answer:  # fmt: skip
            if answer.status in (401, 403):
                raise RefusedError(403, "credential", f"the server refuses the credential: HTTP {answer.status}")
            if answer.status != 200:
                status = 404 if answer.status == 404 else 502
                raise RefusedError(status, "answer", f"the server has no large files here: HTTP {answer.status}")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > MOST_ANSWER:
                    raise RefusedError(502, "answer", "the server says too much of large files")
        try:
            return read_answer(batch, bytes(body))
        except BatchError as error:
            raise RefusedError(502, "answer", str(error)) from None

    async def _one(self, batch: Batch, server: Server) -> Answered:
        """Of a batch of one. Raises RefusedError."""
        (found,) = await self._asked(batch, server)
        if found.error is not None:
            raise RefusedError(404 if found.error[0] == 404 else 502, "answer", found.error[1])
        denied = self._config().egress.denied
        for action in (found.transfer, found.verify):
            if action is not None and any(pattern.covers(action.host) for pattern in denied):
                raise RefusedError(403, "denied", f"{action.host} is denied by the administrator of this gateway")
        return found

    async def _download(
        self, incoming: web.BaseRequest, file: LargeFile, server: Server, passage: Passage
    ) -> web.StreamResponse:
        action = (await self._one(Batch(False, (file,)), server)).transfer
        assert action is not None  # noqa: S101  # else there was an error
        headers = _headers(action, server)
        asked = incoming.headers.get("range")
        if asked is not None and _RANGE.fullmatch(asked):
            headers["range"] = asked
        async with self._session().get(URL(action.url, encoded=True), headers=headers, **_options(server)) as answer:
            if answer.status not in (200, 206, 416):
                raise RefusedError(502, "storage", f"{action.host} does not give the file: HTTP {answer.status}")
            passage.verdict, passage.rule, passage.status = "Allowed", "allowed", answer.status
            kept = {
                name: answer.headers[name] for name in ("content-length", "content-range") if name in answer.headers
            }
            response = web.StreamResponse(
                status=answer.status, headers=kept | {"content-type": "application/octet-stream"}
            )
            await response.prepare(incoming)
            async for part in answer.content.iter_any():
                passage.down += len(part)
                if passage.down > file.size + 4096:
                    # Whatever else that is (a page of an error's has some room), it is not the file.
                    raise aiohttp.ClientPayloadError("more than the file has")
                await response.write(part)
            await response.write_eof()
            return response

    async def _upload(
        self, incoming: web.BaseRequest, file: LargeFile, server: Server, passage: Passage
    ) -> web.StreamResponse:
        batch = Batch(True, (file,))
        _may_upload(batch, server.push)
        if incoming.content_length != file.size or incoming.headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(400, "size", "what is sent is to be the file itself, with its length")
        found = await self._one(batch, server)
        body = _Checked(incoming, file, passage)
        if found.transfer is None:
            # The server has it by now; a client that is told early takes that for a broken connection.
            async for _ in body.parts():
                pass
        else:
            await self._put(found.transfer, body, server)
        if body.wrong:
            raise RefusedError(422, "content", "what was sent is not the file that it is named as")
        if found.verify is not None:
            await self._verified(found.verify, file, server)
        passage.verdict, passage.rule, passage.status = "Allowed", "allowed", 200
        return web.Response()

    async def _put(self, action: Action, body: "_Checked", server: Server) -> None:
        headers = {"content-type": "application/octet-stream", **_headers(action, server)}
        headers["content-length"] = str(body.file.size)
        try:
            async with self._session().put(
                URL(action.url, encoded=True), data=body.parts(), headers=headers, **_options(server)
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise RefusedError(502, "storage", f"{action.host} does not take the file: HTTP {answer.status}")
        except (aiohttp.ClientError, _WrongError):
            if not body.wrong:
                raise

    async def _verified(self, action: Action, file: LargeFile, server: Server) -> None:
        """Have the server look whether it has the file."""
        headers = {**_headers(action, server), "accept": CONTENT_TYPE, "content-type": CONTENT_TYPE}
        body = json.dumps({"oid": file.oid, "size": file.size}).encode()
        async with self._session().post(
            URL(action.url, encoded=True), data=body, headers=headers, **_options(server)
        ) as answer:
            if answer.status != 200:
                raise RefusedError(502, "answer", f"the server does not find the file: HTTP {answer.status}")


class _WrongError(Exception):
    """What was sent is not the file."""


class _Checked:
    """A file as it comes; its last part is given only if all of it is the file that was named."""

    def __init__(self, incoming: web.BaseRequest, file: LargeFile, passage: Passage) -> None:
        self._incoming = incoming
        self._passage = passage
        self.file = file
        self.wrong = False

    async def parts(self) -> AsyncIterator[bytes]:
        """Raises _WrongError instead of the last part."""
        digest, held = hashlib.sha256(), b""
        while part := await self._incoming.content.readany():
            self._passage.up += len(part)
            digest.update(part)
            if held:
                yield held
            held = part
        # The length is right by then, since the client had to say it: so only the last part can be held back, and is
        # enough.
        if digest.hexdigest() != self.file.oid:
            self.wrong = True
            raise _WrongError
        if held:
            yield held


def _may_upload(batch: Batch, rules: PushRules | None) -> None:
    """Raises RefusedError."""
    if rules is None:
        raise RefusedError(403, "read-only", "this repository is read-only: spec.repositories has no push")
    if batch.ref is not None:
        ref = batch.ref.encode()
        if why_not_a_branch(ref) is not None or not matches(ref, rules.branches):
            allowed = ", ".join(rules.branches)
            raise RefusedError(
                403, "branch", f"only branches {allowed} may be pushed (spec.repositories, push.branches)"
            )


def _headers(action: Action, server: Server) -> dict[str, str]:
    """As the server named them; the credential goes to the server's own host and port alone."""
    headers = {**action.headers, "accept-encoding": "identity"}
    there, here = URL(action.url, encoded=True), URL(server.url, encoded=True)
    # A storage elsewhere is opened by what the server named; the repository's credential would be known to whoever runs
    # it.
    if there.origin() == here.origin() and server.authorization is not None:
        headers.setdefault("authorization", server.authorization)
    return headers


def _options(server: Server) -> dict[str, Any]:
    return {"allow_redirects": False, "timeout": server.timeout, "proxy": server.proxy}


async def _read_on(incoming: web.BaseRequest) -> None:
    """A client that is told before it has sent everything may take that for a broken connection: some of it is read."""
    length = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READ_ON_SECONDS):
            while length < _READ_ON and (part := await incoming.content.readany()):
                length += len(part)


def _told(passage: Passage, error: RefusedError) -> web.StreamResponse:
    """As clients of this API show it."""
    passage.rule, passage.status = error.rule, error.status
    body = json.dumps({"message": f"The sandbox's gateway: {error}"}).encode()
    response = web.Response(status=error.status, body=body, headers={"content-type": CONTENT_TYPE})
    # What is left of its body is not read.
    response.force_close()
    return response
