"""A proxy in front of the real API server that goes wrong when told to."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials

Line = Callable[[bytes], bytes | None]
"""What becomes of a line of a watch: other bytes, or None to leave it out. May raise `Cut`."""


class Cut(Exception):  # noqa: N818
    """The connection ends here, after these last bytes."""

    def __init__(self, last: bytes = b"") -> None:
        self.last = last


@dataclass
class Fault:
    """What happens to the next `times` requests that match."""

    method: str
    part: str
    """What the path and query contain."""
    act: "Callable[[FaultyProxy, web.Request], Awaitable[web.StreamResponse]]"
    times: int = 1


class FaultyProxy:
    """`credentials` lead to the proxy, which forwards with those it was given."""

    def __init__(self, upstream: Credentials) -> None:
        self._upstream = upstream
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, float]] = []
        """Method, path with query, time of arrival (of the loop)."""
        self.streams = 0
        """Watches that are open."""
        self.online = asyncio.Event()
        self.online.set()
        self._answers: set[web.Request] = set()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._upstream.ssl_context or True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        value = "Bearer not-to-be-seen-anywhere"
        self.credentials = Credentials(f"http://127.0.0.1:{port}", Authorization(value, lambda _: value))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.online.set()
        await self._session.close()
        await self._runner.cleanup()

    def seen(self, method: str, part: str) -> list[float]:
        """When matching requests arrived."""
        return [at for m, path, at in self.requests if m == method and part in path]

    # Faults

    def answer(self, method: str, part: str, status: int, body: Any = None, times: int = 1, **headers: str) -> None:
        """Answer without forwarding."""

        async def act(_: FaultyProxy, __: web.Request) -> web.StreamResponse:
            data = body if isinstance(body, bytes) else orjson.dumps(body or status_of(status))
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, body=data, headers=named, content_type="application/json")

        self.faults.append(Fault(method, part, act, times))

    def drop(self, method: str, part: str, times: int = 1) -> None:
        """Close the connection without forwarding."""

        async def act(_: FaultyProxy, request: web.Request) -> web.StreamResponse:
            return hang_up(request)

        self.faults.append(Fault(method, part, act, times))

    def lose_answer(self, method: str, part: str, times: int = 1) -> None:
        """Forward, wait for the answer, and close the connection instead of passing it on."""

        async def act(proxy: FaultyProxy, request: web.Request) -> web.StreamResponse:
            async with await proxy._forward(request) as answer:
                await answer.read()
            return hang_up(request)

        self.faults.append(Fault(method, part, act, times))

    def hold(self, method: str, part: str, release: asyncio.Event) -> asyncio.Event:
        """Forward, and pass the answer on when `release` is set; the event says that the answer is here."""
        here = asyncio.Event()

        async def act(proxy: FaultyProxy, request: web.Request) -> web.StreamResponse:
            async with await proxy._forward(request) as answer:
                body = await answer.read()
            here.set()
            await release.wait()
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

        self.faults.append(Fault(method, part, act))
        return here

    def hang(self, method: str, part: str, times: int = 1) -> None:
        """Never answer."""

        async def act(_: FaultyProxy, __: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        self.faults.append(Fault(method, part, act, times))

    def edit(self, part: str, line: Line, times: int = 1) -> None:
        """Pass each line of the next watch through `line`."""

        async def act(proxy: FaultyProxy, request: web.Request) -> web.StreamResponse:
            return await proxy._stream(request, line)

        self.faults.append(Fault("GET", part, act, times))

    # Forwarding

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, asyncio.get_running_loop().time()))
        await self.online.wait()
        for fault in self.faults:
            if fault.method == request.method and fault.part in request.path_qs:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return await fault.act(self, request)
        if request.query.get("watch") in ("1", "true"):
            return await self._stream(request, lambda line: line)
        async with await self._forward(request) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    async def _forward(self, request: web.Request) -> aiohttp.ClientResponse:
        headers = {k: v for k, v in request.headers.items() if k in ("Accept", "Content-Type")}
        # The body is passed on as it is, and not what it is encoded in: the server compresses from 128 KiB on.
        headers["Accept-Encoding"] = "identity"
        if self._upstream.authorization.value:
            headers["Authorization"] = self._upstream.authorization.value
        return await self._session.request(
            request.method,
            URL(self._upstream.server + request.path_qs, encoded=True),
            data=await request.read() or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(),
        )

    async def _stream(self, request: web.Request, line: Line) -> web.StreamResponse:
        async with await self._forward(request) as answer:
            response = web.StreamResponse(status=answer.status)
            response.enable_chunked_encoding()
            await response.prepare(request)
            self.streams += 1
            try:
                async for raw in answer.content:
                    await self.online.wait()
                    edited = line(raw)
                    if edited is not None:
                        await response.write(edited)
            except Cut as cut:
                await response.write(cut.last)
                return hang_up(request)
            finally:
                self.streams -= 1
            await response.write_eof()
            return response


def hang_up(request: web.Request) -> web.StreamResponse:
    """Cut the connection where it is."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def status_of(code: int, message: str = "as the test wants it") -> dict[str, Any]:
    """A metav1.Status."""
    reasons = {410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reasons.get(code, "Unknown"),
        "message": message,
    }


def error_event(code: int) -> bytes:
    """An ERROR event of a watch."""
    return orjson.dumps({"type": "ERROR", "object": status_of(code)}) + b"\n"
