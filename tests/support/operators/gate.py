"""The operator's way to the API server: what it asks and writes is recorded, and it can be struck down at any write."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from aiohttp import web
from faulty_proxy import FaultyProxy, Line, error_event, hang_up, status_of

from claude_sandbox.kubernetes_api.credentials import Credentials

# Writes that keep no state of a sandbox: they come at their own pace.
_ASIDE = ("/leases", "/events", "accessreviews")


@dataclass(frozen=True)
class Call:
    """One request of the operator."""

    method: str
    path: str
    accept: str
    body: Any

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


Strike = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Called instead of forwarding a write; None: forward it after all."""


class Gate(FaultyProxy):
    """Lets writes through one at a time, so that "the k-th write" is one certain write."""

    def __init__(self, upstream: Credentials) -> None:
        super().__init__(upstream)
        self.calls: list[Call] = []
        self.writes: list[Call] = []
        self.refused: list[Call] = []
        """What the server said the operator has no right to."""
        self.struck: Call | None = None
        self._countdown = 0
        self._strike: Strike | None = None
        self._turn = asyncio.Lock()
        self._called = asyncio.Event()
        self.tamper: Callable[[str, bytes], bytes | None] = lambda _, line: line
        """What becomes of each line of every watch, given the watch's path."""
        self.refuses: Callable[[Call], bool] = lambda _: False
        """Which writes the server is too busy for."""
        self._watches: list[web.Request] = []
        self._oldest = 0
        self.expired = 0
        """How many watches were told that what they want to go on from is too old."""

    def kubeconfig(self, directory: Path, namespace: str = "default") -> Path:
        """A kubeconfig that leads through the gate."""
        context = {"cluster": "gate", "user": "operator", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "gate",
            "clusters": [{"name": "gate", "cluster": {"server": self.credentials.server}}],
            "contexts": [{"name": "gate", "context": context}],
            "users": [{"name": "operator", "user": {"token": "stands-for-the-real-one"}}],
        }
        path = directory / f"gate-{id(self)}.kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path

    async def forward_as(self, upstream: Credentials) -> None:
        """Log in as somebody else."""
        await self._session.close()
        self._upstream = upstream
        self._session = self._connect()

    def _connect(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._upstream.ssl_context or True, limit=0)
        return aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def next_call(self) -> None:
        """Wait for a request."""
        self._called.clear()
        await self._called.wait()

    def strike_at(self, number: int, strike: Strike) -> None:
        """Have `strike` deal with the write that is `number`-th from now, counted from 1."""
        self.struck = None
        self._countdown, self._strike = number, strike

    def disarm(self) -> bool:
        """No strike any more; whether there was one."""
        self._strike = None
        return self.struck is not None

    def kill_before(self, kill: Callable[[], object]) -> Strike:
        """The process dies before the write gets to the server."""

        async def strike(request: web.Request) -> web.StreamResponse:
            kill()
            return hang_up(request)

        return strike

    def kill_after(self, kill: Callable[[], object]) -> Strike:
        """The process dies after the server did it and before the answer arrives."""

        async def strike(request: web.Request) -> web.StreamResponse:
            async with await self._forward(request) as answer:
                await answer.read()
            kill()
            return hang_up(request)

        return strike

    def lose_the_answer(self) -> Strike:
        """The server does it, and the answer gets lost."""

        async def strike(request: web.Request) -> web.StreamResponse:
            async with await self._forward(request) as answer:
                await answer.read()
            return hang_up(request)

        return strike

    def refuse(self, status: int, reason: str) -> Strike:
        """The server does nothing and answers with an error."""

        async def strike(_: web.Request) -> web.StreamResponse:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
            return web.json_response(body | {"message": "as the test wants it"}, status=status)

        return strike

    def cut_watches(self) -> int:
        """Break the connection of every watch; how many there were."""
        for request in self._watches:
            hang_up(request)
        return len(self._watches)

    def forget_before(self, version: str) -> None:
        """From now on no watch can go on from before this version, as if the API server had compacted."""
        self._oldest = int(version)

    async def _expire(self, request: web.Request) -> web.StreamResponse:
        self.expired += 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(error_event(410))
        await response.write_eof()
        return response

    async def _stream(self, request: web.Request, line: Line) -> web.StreamResponse:
        def edited(raw: bytes) -> bytes | None:
            kept = line(raw)
            return None if kept is None else self.tamper(request.path_qs, kept)

        if int(request.query.get("resourceVersion") or self._oldest) < self._oldest:
            return await self._expire(request)
        self._watches.append(request)
        try:
            return await super()._stream(request, edited)
        finally:
            self._watches = [other for other in self._watches if other is not request]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = orjson.loads(data) if data else None
        call = Call(request.method, request.path_qs, request.headers.get("Accept", ""), body)
        self.calls.append(call)
        self._called.set()
        if request.method == "GET" or any(part in request.path for part in _ASIDE):
            answer = await super()._handle(request)
        else:
            answer = await self._write(request, call)
        if answer.status == 403:
            self.refused.append(call)
        return answer

    async def _write(self, request: web.Request, call: Call) -> web.StreamResponse:
        async with self._turn:
            self.writes.append(call)
            if self.refuses(call):
                return web.json_response(status_of(503), status=503)
            self._countdown -= 1
            if self._countdown == 0 and self._strike is not None:
                self.struck = call
                answer = await self._strike(request)
                if answer is not None:
                    return answer
            return await super()._handle(request)
