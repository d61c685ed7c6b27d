"""Repositories of sandboxes, at `/git/HOST/PATH` of the broker's address.

Theory of operation. It holds nothing of a request but what is under way, of which one line of the audit is made at its
end, however it ends. Who asks is known by the same identity as at the broker, which git sends as a password. A sandbox
reaches the repositories that it declared, and no other of the same server; a repository whose declaration or credential
is gone is not reached by the next request, and what is under way with it is ended.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from claude_sandbox.gateway.audit import Audit, Value, plain, whose
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Live
from claude_sandbox.gateway.git.credentials.tokens import AppTokens, NoTokenError
from claude_sandbox.gateway.git.forwarder import GitForwarder
from claude_sandbox.gateway.git.lfs.transfers import LargeFiles
from claude_sandbox.gateway.git.passage import Passage, Server
from claude_sandbox.gateway.git.repositories import LFS, Opened, asked
from claude_sandbox.gateway.git.smart_http import Service
from claude_sandbox.gateway.git.upstream import proxy_of
from claude_sandbox.gateway.http.head import two_readings
from claude_sandbox.gateway.identity import IdentityError, presented_to_proxy
from claude_sandbox.gateway.shares import Slots

_MOST_REFS = 20
_OPERATIONS = {Service.FETCH: "fetch", Service.PUSH: "push"}


@dataclass(eq=False)
class _Request:
    """One that is under way."""

    task: asyncio.Task[object] | None
    passage: Passage = field(default_factory=Passage)
    sandbox: Sandbox | None = None
    opened: Opened | None = None
    at: str | None = None
    claimed: str | None = None


class GitService:
    """Answers requests. `live` gives what holds at this moment."""

    def __init__(
        self,
        live: Callable[[], Live],
        audit: Audit,
        forwarder: GitForwarder,
        files: LargeFiles,
        tokens: AppTokens,
    ) -> None:
        self._live = live
        self._files = files
        self._audit = audit
        self._forwarder = forwarder
        self._tokens = tokens
        self._slots = Slots(1, 1)
        self._open: set[_Request] = set()
        self.changed()

    @property
    def open(self) -> int:
        """Requests at this moment."""
        return len(self._open)

    def fetching(self, sandbox: str) -> dict[str, int]:
        """The bytes that have come of each repository that is being fetched for the sandbox, by what requests name
        it. More than git will keep: what is under way counts, and a connection that breaks off begins anew."""
        found: dict[str, int] = {}
        for one in self._open:
            if one.sandbox is not None and one.sandbox.uid == sandbox and one.at and one.passage.receives:
                found[one.at] = found.get(one.at, 0) + one.passage.down
        return found

    def changed(self) -> None:
        """Take the limits as they are now; end what is under way with what may no longer be used."""
        live = self._live()
        limits = live.config.limits
        self._slots.limit(limits.requests, limits.requests_each, len(live.sandboxes))
        self._forwarder.limit(len(live.sandboxes))
        self._tokens.keep(one for opened in live.repositories.values() for one in opened.values())
        for one in list(self._open):
            if one.opened is None or one.sandbox is None or one.task is None:
                continue
            now = live.repositories.get(one.sandbox.uid, {}).get(one.opened.repository.at)
            # Another credential is for the next request: the server has let this one in. Where there is none any more,
            # a push that is still being read would go there with the one that was taken away.
            if now is None or now.repository != one.opened.repository or now.problem:
                one.passage.rule = "no longer allowed"
                one.task.cancel()

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        started, request = loop.time(), _Request(asyncio.current_task())
        self._open.add(request)
        try:
            return await self._answer(incoming, request)
        except asyncio.CancelledError:
            request.passage.verdict = "Cancelled"
            raise
        except (OSError, aiohttp.ClientError):
            # One side is gone in the middle of an answer: the other must not take that for its end.
            request.passage.verdict = "Cancelled" if _gone(incoming) else "Failed"
            if incoming.transport is not None:
                incoming.transport.abort()
            return web.Response()
        finally:
            # Before the line of the audit, which may have to wait: who is cancelled there has given its place back.
            self._open.discard(request)
            if request.sandbox is not None:
                self._slots.give(request.sandbox.uid)
            await self._audit.record("git", _line(request, loop.time() - started))

    async def _answer(self, incoming: web.BaseRequest, request: _Request) -> web.StreamResponse:
        headers = [(name.lower(), value) for name, value in incoming.headers.items()]
        if why := two_readings(incoming.version[:2], headers):
            request.passage.rule = f"malformed: {why}"
            return _refused(request, 400, why)
        sandbox = await self._known(incoming, request)
        # Only now: to tell whose it is may have taken a while, and `changed` ends nothing of which that is not known.
        live = self._live()
        if sandbox is None:
            request.passage.rule = "identity"
            return _refused(request, 401, "the gateway does not know this identity", 'Basic realm="sandbox"')
        if not self._slots.take(sandbox.uid):
            request.passage.rule = "concurrency"
            return _refused(request, 429, "too many requests at once")
        request.sandbox = sandbox
        found = asked(incoming.raw_path.partition("?")[0])
        request.at, below = found if found is not None else ("", "")
        request.opened = live.repositories.get(sandbox.uid, {}).get(request.at)
        if request.opened is None:
            request.passage.rule = "repository"
            return _refused(request, 403, _why_not_there(sandbox, request.at))
        if request.opened.problem:
            request.passage.rule = "credential"
            return _refused(request, 403, f"this repository can't be used: {request.opened.problem}")
        repository = request.opened.repository
        # Asked for each request: what an administrator denies later holds for what was declared before.
        if any(pattern.covers(repository.host) for pattern in live.config.egress.denied):
            request.passage.rule = "denied"
            return _refused(request, 403, f"{repository.host} is denied by the administrator of this gateway")
        limits = live.config.limits
        timeout = aiohttp.ClientTimeout(total=limits.total, sock_connect=limits.connect, sock_read=limits.stream_idle)
        try:
            authorization = await self._tokens.authorization(request.opened)
        except NoTokenError as error:
            request.passage.verdict, request.passage.rule = "Failed", "credential"
            return _refused(request, 502, str(error))
        proxy = proxy_of(live.config)
        server = Server(repository.url, authorization, repository.push, timeout, proxy, sandbox.uid)
        response = await self._passed_on(incoming, below, server, request.passage)
        if request.passage.rule == "credential":
            self._tokens.refused(request.opened)
        return response

    async def _passed_on(
        self, incoming: web.BaseRequest, below: str, server: Server, passage: Passage
    ) -> web.StreamResponse:
        if below.startswith(LFS[1:]):
            return await self._files.handle(incoming, below.removeprefix(LFS[1:]), server, passage)
        return await self._forwarder.handle(incoming, below, server, passage)

    async def _known(self, incoming: web.BaseRequest, request: _Request) -> Sandbox | None:
        live = self._live()
        presented = presented_to_proxy(incoming.headers.get("authorization"))
        try:
            return await live.identify(presented, incoming.remote or "") if presented is not None else None
        except IdentityError as error:
            request.claimed = error.pod
            return None


def _why_not_there(sandbox: Sandbox, at: str) -> str:
    if any(one.at == at for one in sandbox.repositories):
        return "the credential of this repository is not there: see the Secret that spec.repositories names"
    return "this is none of the sandbox's repositories: add it to spec.repositories"


def _refused(request: _Request, status: int, message: str, ask: str | None = None) -> web.Response:
    request.passage.status = status
    headers = {"www-authenticate": ask} if ask is not None else {}
    response = web.Response(status=status, text=f"{message}\n", headers=headers)
    # What is left of its body is not read.
    response.force_close()
    return response


def _gone(incoming: web.BaseRequest) -> bool:
    return incoming.transport is None or incoming.transport.is_closing()


def _line(request: _Request, seconds: float) -> dict[str, Value]:
    passage = request.passage
    call = passage.call
    refs = [f"{one.old.decode()}..{one.new.decode()} {one.ref.decode('latin-1')}" for one in passage.commands]
    return {
        **whose(request.sandbox),
        "verdict": passage.verdict,
        "rule": plain(passage.rule, 300),
        "claimedPod": request.claimed,
        "repository": plain(request.at) if request.at is not None else None,
        "operation": passage.operation or (None if call is None else _OPERATIONS[call.service]),
        "status": passage.status,
        "refs": plain(", ".join(refs[:_MOST_REFS]), 4000) if refs else None,
        "refCount": len(refs) or None,
        "wanted": plain(", ".join(passage.wanted), 2000) if passage.wanted else None,
        "files": plain(", ".join(passage.files[:_MOST_REFS]), 2000) if passage.files else None,
        "fileCount": len(passage.files) or None,
        "bytesUp": passage.up,
        "bytesDown": passage.down,
        "durationMs": round(seconds * 1000),
    }
