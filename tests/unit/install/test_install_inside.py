"""Nothing that a program in a container prints is lost, however it arrives."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from claude_sandbox.install.inside import run_inside

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


def piece(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


def document(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextlib.contextmanager
def engine(path: Path, *packets: bytes) -> Iterator[docker.APIClient]:
    """An engine in which a program was run, whose answer comes in these packets."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests:
            while first := requests.readline():
                length = 0
                while (line := requests.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                requests.read(length)
                if b"/start" in first:
                    for packet in packets:
                        connection.sendall(packet)
                    return
                connection.sendall(document(b'{"Id": "1", "ExitCode": 3}'))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with contextlib.closing(docker.APIClient(base_url=f"unix://{path}", version="1.41")) as api:
        yield api
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    "packets",
    [
        (HEAD + piece(1, b"one\n") + piece(2, b"two\n"),),
        (HEAD, piece(1, b"one\n"), piece(2, b"two\n")),
        (HEAD[:30], HEAD[30:] + piece(1, b"one\n")[:5], piece(1, b"one\n")[5:] + piece(2, b"two\n")),
    ],
    ids=["at once", "one by one", "torn apart"],
)
def test_all_that_it_prints_is_told(tmp_path: Path, packets: tuple[bytes, ...]) -> None:
    with engine(tmp_path / "socket", *packets) as api:
        assert run_inside(api, "1", "program") == (3, "one\ntwo\n")


def test_one_that_prints_nothing(tmp_path: Path) -> None:
    with engine(tmp_path / "socket", HEAD) as api:
        assert run_inside(api, "1", "program") == (3, "")
