"""One plain HTTP request through the proxy: its head anew, its body to exactly its end, and the answer back."""

import asyncio

from claude_sandbox.gateway.http.answer import MAX_INTERIM
from claude_sandbox.gateway.http.chunked import ChunkedReader, chunk
from claude_sandbox.gateway.http.head import BadRequestError, Request, answered, forwarded
from claude_sandbox.gateway.proxy.tunnel import CHUNK, Moved, Side


async def exchange(request: Request, early: bytes, client: Side, server: Side, moved: Moved) -> int:
    """Send the request and pass the answer on; its status. `early`: what came behind the head.

    Exactly one request: bytes behind its end are of nobody who was judged, and are dropped with the connection. Raises
    BadRequestError for a body or an answer that is malformed, OSError and IncompleteReadError where one side fails.
    """
    head = forwarded(request)
    server.writer.write(head)
    moved.up += len(head)
    # The gateway's own word: what the server says of it is not passed on, and a client that waits for it would send
    # nothing.
    if request.expects:
        client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    sending = asyncio.create_task(send_body(request, early, client, server, moved))
    try:
        # A server may answer before it has read everything; what it says counts.
        answer = asyncio.create_task(_answer(client, server, moved))
        try:
            await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
            # A body that is malformed ends it now: the server would wait for the rest.
            if sending.done() and not answer.done():
                sending.result()
            return await answer
        finally:
            answer.cancel()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def send_body(
    request: Request, early: bytes, client: Side, server: Side, moved: Moved, most: int | None = None
) -> None:
    """Pass a body on to exactly its end. `most`: bytes of one whose length is not said. Raises BadRequestError."""
    if request.length is None:
        reader, part, come = ChunkedReader(), early, 0
        while True:
            content = reader.feed(part)
            come += len(content)
            if most is not None and come > most:
                raise BadRequestError("the body is too long", 413)
            await _write(server, chunk(content) if content else b"", moved)
            if reader.done:
                break
            part = await _some(client)
        await _write(server, chunk(b""), moved)
        return
    left = request.length
    part = early[:left]
    while left:
        await _write(server, part, moved)
        left -= len(part)
        part = (await _some(client))[:left] if left else b""


async def _some(client: Side) -> bytes:
    part = await client.reader.read(CHUNK)
    if not part:
        raise BadRequestError("the body is cut off")
    return part


async def _write(server: Side, data: bytes, moved: Moved) -> None:
    server.writer.write(data)
    moved.up += len(data)
    await server.writer.drain()


async def _answer(client: Side, server: Side, moved: Moved) -> int:
    status, interim = 100, -1
    while status < 200:
        interim += 1
        if interim > MAX_INTERIM:
            raise BadRequestError("the server goes on saying that the answer is still to come", 502)
        try:
            head = await server.reader.readuntil(b"\r\n\r\n")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            raise BadRequestError("the server's answer is malformed", 502) from None
        status, written = answered(head)
        if status == 101:
            raise BadRequestError("the server changes the protocol", 502)
        if status >= 200:
            client.writer.write(written)
            moved.down += len(written)
    while part := await server.reader.read(CHUNK):
        client.writer.write(part)
        moved.down += len(part)
        await client.writer.drain()
    return status
