"""The relay as a real program on loopback: what goes in comes out, both ways, and nothing is kept or left open."""

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

PROGRAM = (sys.executable, "-m", "claude_sandbox.relay")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.asynccontextmanager
async def target(handler: Handler) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def relaying(
    to: int, *options: str, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """The program, once it listens; its port."""
    port = free_port()
    argv = (*PROGRAM, "--listen-on", "127.0.0.1", *options, f"{port}={host}:{to}")
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
                else:
                    writer.transport.abort()
                    break
        yield port, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        writer.close()


async def test_the_end_of_one_direction_is_told_and_the_other_goes_on() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got %d" % len(await reader.read()))
        writer.close()

    async with target(answer_at_the_end) as to, relaying(to) as (port, _), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 1000)
        writer.write_eof()
        assert await reader.read() == b"got 1000"
        writer.close()


async def test_the_target_may_end_its_direction_first() -> None:
    received = asyncio.get_running_loop().create_future()

    async def speak_and_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        if found := await reader.read():
            received.set_result(found)
        writer.close()

    async with target(speak_and_listen) as to, relaying(to) as (port, _), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hello"
        writer.write(b"still here")
        writer.close()
        assert await received == b"still here"


async def test_a_big_transfer_arrives_whole_in_both_directions_at_once() -> None:
    sent = os.urandom(1 << 20) * 16
    async with target(echo) as to, relaying(to) as (port, _), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), reader.read())
        assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()
        writer.close()


async def test_who_does_not_read_makes_the_sender_wait_and_the_relay_keep_little() -> None:
    async def never_reads(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    async with target(never_reads) as to, relaying(to) as (port, process):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        before = _memory(process.pid)
        writer.write(bytes(64 << 20))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await writer.drain()
        assert _memory(process.pid) - before < 8 << 20
        writer.transport.abort()


def _memory(pid: int) -> int:
    """Resident, in bytes."""
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_target_that_refuses_means_a_closed_connection_and_a_relay_that_goes_on() -> None:
    nobody = free_port()
    async with relaying(nobody) as (port, process), asyncio.timeout(10):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        server = await asyncio.start_server(echo, "127.0.0.1", nobody)
        async with server:
            assert await _echoed(port, b"now") == b"now"
        assert process.returncode is None


async def _echoed(port: int, what: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    try:
        writer.write_eof()
        return await reader.read()
    except OSError:
        # Hung up on, perhaps before the end was told.
        return b""
    finally:
        writer.close()


async def _held(port: int) -> asyncio.StreamWriter:
    """A connection that is served and stays open, as soon as there is room for one."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"a")
        with contextlib.suppress(ConnectionError):
            if await reader.read(1) == b"a":
                return writer
        writer.close()
        await asyncio.sleep(0.05)


async def test_a_hundred_connections_at_once_each_get_their_own_answer() -> None:
    async with target(echo) as to, relaying(to) as (port, _), asyncio.timeout(30):
        wanted = [b"%d" % number * 100 for number in range(100)]
        assert await asyncio.gather(*(_echoed(port, one) for one in wanted)) == wanted


async def test_no_more_connections_than_allowed_and_again_when_one_has_ended() -> None:
    async with target(echo) as to, relaying(to, "--connections", "2") as (port, _), asyncio.timeout(20):
        held = [await _held(port) for _ in range(2)]
        assert await _echoed(port, b"one too many") == b""
        held[0].close()
        (await _held(port)).close()
        held[1].close()


async def test_a_connection_on_which_nothing_moves_is_ended_and_one_that_is_used_is_not() -> None:
    async with target(echo) as to, relaying(to, "--idle", "1") as (port, _), asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(6):
            await asyncio.sleep(0.3)
            writer.write(b"a")
            assert await reader.read(1) == b"a"
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_it_listens_on_the_one_address_only() -> None:
    async with target(echo) as to, relaying(to) as (port, _):
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.open_connection("127.0.0.2", port)


async def test_it_ends_when_told_and_says_what_is_wrong_with_its_arguments() -> None:
    async with target(echo) as to, relaying(to) as (port, process), asyncio.timeout(10):
        held = await asyncio.open_connection("127.0.0.1", port)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        held[1].close()
    for wrong in ("8080", "8080=host", "0=host:80", "80=host:70000", "x=host:80"):
        process = await asyncio.create_subprocess_exec(*PROGRAM, wrong, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
        assert process.returncode == 2
        assert b"PORT=HOST:PORT" in said or b"TCP port" in said
