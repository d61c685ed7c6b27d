"""Whoever answers in an engine's place leads the operator elsewhere, fills its memory, or holds its threads.

Redirections were followed by the SDK's client: another host and scheme, with the documents that were sent; answers were
read to their end, however long, compressed or deep; a byte now and then kept a thread for ever, since each wait was
short; cookies were kept. Now nothing is followed (`backends/docker/engine/client.py`), everything has a bound, and
what is given up ends in its thread, by its connection.
"""

import asyncio
import contextlib
import gzip
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_documents import good_bridge, good_info, good_version
from small_engine import SmallEngine

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError

ANSWERS = {"info": good_info(), "version": good_version(), "networks/bridge": good_bridge()}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
IMAGE = Reference("registry.example", "team/claude", "1")


def whole(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([HEAD.strip(), *headers, b"Content-Length: %d" % len(body), b"", body])


class Hostile:
    """Listens at a path, and answers every request with what `answer` writes; counts the requests."""

    def __init__(self, path: Path | None, answer: Callable[[socket.socket], None]) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(str(path) if path else ("127.0.0.1", 0))
        self._listener.listen(64)
        self.open: list[socket.socket] = []
        self.ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.open.append(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            while received := near.recv(1 << 16):
                self.asked.append(received)
                self._answer(near)
        self.ended.set()

    def close(self) -> None:
        for one in (self._listener, *self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def good(tmp_path: Path) -> Iterator[Connection]:
    """A connection to an engine that answered as one, once."""
    with SmallEngine(tmp_path / "engine.sock", ANSWERS), connect(parse(f"unix://{tmp_path}/engine.sock")) as made:
        yield made


@contextlib.contextmanager
def engine_that(
    answer: Callable[[socket.socket], None], good: Connection, tmp_path: Path, timeout: float = 5.0
) -> Iterator[tuple[Engine, Hostile]]:
    """The engine is another from now on."""
    (tmp_path / "engine.sock").unlink()
    hostile = Hostile(tmp_path / "engine.sock", answer)
    good.api.close()
    engine = Engine(lambda: good.api, timeout=timeout)
    try:
        yield engine, hostile
    finally:
        engine.close()
        hostile.close()


def refused(engine: Engine, ask: Callable[[Engine], Awaitable[Any]], within: float = 10.0) -> EngineError:
    began = time.monotonic()
    with pytest.raises(EngineError) as error:
        asyncio.run(_asked(engine, ask))
    assert time.monotonic() - began < within
    return error.value


async def _asked(engine: Engine, ask: Callable[[Engine], Awaitable[Any]]) -> Any:
    return await ask(engine)


def idle() -> bool:
    """Whether no thread of an engine's is at work."""
    return not [one for one in threading.enumerate() if one.name.startswith("docker_") and _busy(one)]


def _busy(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.endswith("backends/docker/engine/client.py"):
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 305])
@pytest.mark.parametrize("ask", ["documents", "create", "found"])
def test_a_redirection_leads_nowhere(status: int, ask: str, tmp_path: Path) -> None:
    elsewhere = Hostile(None, lambda near: near.sendall(whole(b'{"ID": "elsewhere"}')))
    where = b"Location: http://127.0.0.1:%d/v1.47/info" % elsewhere.port
    first = Hostile(
        None, lambda near: near.sendall(b"HTTP/1.1 %d x\r\n%s\r\nContent-Length: 0\r\n\r\n" % (status, where))
    )
    with SmallEngine(("127.0.0.1", 0), ANSWERS) as small:
        connection = connect(parse(f"tcp://127.0.0.1:{small.port}"))
    connection.api.base_url = f"http://127.0.0.1:{first.port}"
    connection.api.adapters[connection.api.base_url] = next(iter(connection.api.adapters.values()))
    engine = Engine(lambda: connection.api)
    try:
        match ask:
            case "documents":
                with pytest.raises(ConnectError, match="redirection"):
                    connection.documents()
            case "create":
                refused(engine, lambda one: one.create_container("x", {"Image": "secret"}))
            case "found":
                refused(engine, lambda one: one.container("x"))
        assert first.asked
        assert elsewhere.asked == []
    finally:
        engine.close()
        connection.close()
        for one in (first, elsewhere):
            one.close()


def endless(near: socket.socket) -> None:
    near.sendall(HEAD + b"Content-Length: 100000000000\r\n\r\n[")
    while True:
        near.sendall(b'{"a":1},' * 8192)


def endless_chunks(near: socket.socket) -> None:
    near.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        near.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def many_values(near: socket.socket) -> None:
    near.sendall(whole(b"[" + b"{}," * 4_000_000 + b"{}]"))


def bomb(near: socket.socket) -> None:
    near.sendall(whole(gzip.compress(b" " * 100_000_000), b"Content-Encoding: gzip"))


def deep(near: socket.socket) -> None:
    near.sendall(whole(b"[" * 500_000))


@pytest.mark.parametrize("answer", [endless, endless_chunks, many_values, bomb, deep])
def test_no_answer_is_read_beyond_its_bound(
    answer: Callable[[socket.socket], None], good: Connection, tmp_path: Path
) -> None:
    with engine_that(answer, good, tmp_path) as (engine, _):
        refused(engine, lambda one: one.containers([]))
        with pytest.raises(ConnectError):
            good.documents()


def dripping(near: socket.socket) -> None:
    near.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        near.sendall(b" ")
        time.sleep(0.1)


def dripping_head(near: socket.socket) -> None:
    while True:
        near.sendall(b"H")
        time.sleep(0.1)


def continuing(near: socket.socket) -> None:
    while True:
        near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [dripping, dripping_head, continuing])
def test_who_sends_a_byte_now_and_then_holds_no_thread(
    answer: Callable[[socket.socket], None], good: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_sandbox.backends.docker.engine.transport.LEEWAY", 0.2, raising=False)
    with engine_that(answer, good, tmp_path, timeout=0.5) as (engine, hostile):
        error = refused(engine, lambda one: one.container("x"), within=5.0)
        assert error.is_unreachable
        assert hostile.ended.wait(5.0), "the connection is still open"
        deadline = time.monotonic() + 5.0
        while not idle():
            assert time.monotonic() < deadline, "the thread still reads"
            time.sleep(0.05)


def test_a_line_of_a_pull_has_a_bound_and_so_has_the_pull(good: Connection, tmp_path: Path) -> None:
    def one_line(near: socket.socket) -> None:
        near.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            near.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    with engine_that(one_line, good, tmp_path) as (engine, _):
        assert "line" in refused(engine, lambda one: one.pull(IMAGE)).message


def test_what_goes_wrong_is_told_in_few_words(good: Connection, tmp_path: Path) -> None:
    def chatty(near: socket.socket) -> None:
        body = b'{"message": "' + b"x" * 5_000_000 + b'"}'
        near.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with engine_that(chatty, good, tmp_path) as (engine, _):
        assert len(refused(engine, lambda one: one.start("x")).message) <= 1000


def test_no_cookie_is_kept_and_nothing_of_the_operators_own_configuration_is_sent(
    good: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(
        '{"auths": {"registry.example": {"auth": "b3BlcmF0b3I6c2VjcmV0"}}, "HttpHeaders": {"X-Own": "secret"}}'
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def answer(near: socket.socket) -> None:
        near.sendall(whole(b'{"status": "done"}\n', b"Set-Cookie: a=" + b"x" * 4000))

    with SmallEngine(tmp_path / "own.sock", ANSWERS), connect(parse(f"unix://{tmp_path}/own.sock")) as own:
        own.api.close()
        (tmp_path / "own.sock").unlink()
        hostile = Hostile(tmp_path / "own.sock", answer)
        engine = Engine(lambda: own.api)
        asyncio.run(_asked(engine, lambda one: one.pull(IMAGE)))
        asyncio.run(_asked(engine, lambda one: one.pull(IMAGE)))
        sent = b"".join(hostile.asked)
        engine.close()
        hostile.close()
    assert b"X-Registry-Auth: e30=" in sent
    for secret in (b"b3BlcmF0b3I6c2VjcmV0", b"X-Own", b"Cookie", b"secret"):
        assert secret not in sent
