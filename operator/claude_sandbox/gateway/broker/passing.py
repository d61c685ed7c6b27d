"""An answer on its way to the sandbox: the provider's as it comes, or one of the broker's own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from claude_sandbox.gateway.broker.bodies import Body
from claude_sandbox.gateway.broker.exchange import Request
from claude_sandbox.gateway.broker.provider import APIError, back
from claude_sandbox.gateway.broker.usage import StreamMeter, WholeMeter
from claude_sandbox.gateway.config.config import Limits
from claude_sandbox.gateway.http.answer import Answer
from claude_sandbox.gateway.http.connection import Connection


async def pass_on(
    incoming: web.BaseRequest, request: Request, body: Body, connection: Connection, limits: Limits, *, last: bool
) -> web.StreamResponse:
    """Pass the answer on. `last`: the client's connection ends with it.

    Raises AnswerError, TimeoutError where nothing moves, and ConnectionError where the client has gone.
    """
    loop = asyncio.get_running_loop()
    # The sandbox that doesn't read holds this up, as does the provider that doesn't send.
    async with asyncio.timeout(limits.stream_idle) as bound:
        body.moved = _moved(bound, limits, loop)
        answer = await connection.head()
        request.dialled = connection.peer
        request.status = answer.status
        if answer.content_type == "text/event-stream":
            request.meter = StreamMeter()
        elif answer.content_type == "application/json":
            request.meter = WholeMeter()
        # What is all there goes out at once: who waits is woken once, and not for the head first.
        whole = await connection.part() if connection.done else b""
        if whole:
            request.passed(whole, loop.time())
        response = _response(answer, whole)
        if last:
            response.force_close()
        await response.prepare(incoming)
        if not whole:
            await _stream(response, request, body, connection)
        await response.write_eof()
    return response


def _response(answer: Answer, whole: bytes) -> web.StreamResponse:
    headers = back(answer.headers)
    if whole:
        return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=whole)
    return web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)


async def _stream(response: web.StreamResponse, request: Request, body: Body, connection: Connection) -> None:
    """Pass the content on as it comes; where a part is known to be the last, the end with it."""
    loop = asyncio.get_running_loop()
    while part := await connection.part():
        request.passed(part, loop.time())
        if connection.done:
            await response.write_eof(part)
            return
        await response.write(part)
        body.moved()


def _moved(bound: asyncio.Timeout, limits: Limits, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What puts the end off, each time that something moves."""
    end, again = loop.time() + limits.total, 0.0

    def moved() -> None:
        nonlocal again
        now = loop.time()
        # To set a timer costs as much as to pass an event on. So it is set once a second, and a second later.
        if now >= again:
            again = now + 1
            bound.reschedule(min(end, again + limits.stream_idle))

    return moved


def refuse(error: APIError) -> web.StreamResponse:
    """The refusal, in the API's own form."""
    response = web.Response(status=error.status, body=error.body(), headers=error.headers())
    # What is left of its body is not read.
    response.force_close()
    return response


async def cut(incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
    """One side broke off in the middle: so does this, that the other does not take it for an end."""
    gone = incoming.transport is None or incoming.transport.is_closing()
    request.verdict, request.rule = ("Cancelled", request.rule) if gone else ("Failed", "broken off")
    if incoming.transport is not None:
        incoming.transport.abort()
    with suppress(ConnectionError):
        await asyncio.sleep(0)
    return web.Response()
