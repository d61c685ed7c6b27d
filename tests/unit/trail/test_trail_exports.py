"""Copies of the trail: what a syslog server gets is what the disk has."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_trail_writer import until
from trails import ALICE, Trail, healed, made

from claude_sandbox.trail.exports import Export, Syslog, Target, sink, syslog_message, target
from claude_sandbox.trail.records import Kind, Record, written

HEADER = re.compile(
    rb"<109>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S{1,255}) claude-sandbox \d+ ([!-~]{1,32}) - (\{.*\})", re.S
)


class Server:
    """A syslog server by TCP, which may hang up after some bytes."""

    def __init__(self, hang_up_after: int = 0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.received: list[bytes] = []
        self._hang_up_after = hang_up_after
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            data = b""
            with connection:
                while more := connection.recv(65536):
                    data += more
                    if 0 < self._hang_up_after <= len(data):
                        self._hang_up_after = 0
                        break
            self.received.append(data)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Trail:
    return made(tmp_path_factory.mktemp("exported"))


def frames(data: bytes) -> list[bytes]:
    """What is in a stream by RFC 6587, octet counting."""
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        if len(rest) < int(length):
            break
        found.append(rest[: int(length)])
        data = rest[int(length) :]
    return found


def lines(messages: list[bytes]) -> list[bytes]:
    return [match[4] for message in messages if (match := HEADER.fullmatch(message))]


def test_by_tcp_each_line_comes_whole_and_once(server: Server, trail: Trail) -> None:
    export = Export("syslog", Syslog(Target("syslog+tcp", "127.0.0.1", server.port)))
    export.start()
    export.put(trail.copied)
    export.close(30)
    until(lambda: server.received, "the end of the stream")
    assert lines(frames(server.received[0])) == trail.copied
    assert trail.verdict(lines(frames(server.received[0]))).ok


def test_by_udp_each_line_is_a_datagram(trail: Trail) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        one = Syslog(Target("syslog+udp", "127.0.0.1", server.getsockname()[1]))
        for line in trail.copied[:10]:
            one.send([line])
            assert lines([server.recv(65536)]) == [line]
        one.close()


def test_a_server_that_hangs_up_is_asked_again_and_no_line_is_missing(trail: Trail) -> None:
    server = Server(hang_up_after=3000)
    export = Export("syslog", Syslog(Target("syslog+tcp", "127.0.0.1", server.port)))
    export.start()
    for line in trail.copied:
        export.put([line])
    # The kernel takes what is sent to who has hung up, once; so some may be lost there, but none after it was noticed.
    until(lambda: server.received, "that it hung up")
    export.put(trail.copied[-3:])
    until(lambda: not export._lines, "that all is sent")
    export.close(30)
    until(lambda: len(server.received) == 2, "the end of the second stream")
    got = {line for data in server.received for line in lines(frames(data))}
    assert trail.verdict(sorted(got)).ok
    assert set(trail.copied[-3:]) <= got
    server.close()


def test_by_tls_a_certificate_that_nobody_vouches_for_gets_nothing(server: Server) -> None:
    one = Syslog(Target("syslog+tls", "127.0.0.1", server.port))
    threading.Timer(0.5, server.socket.shutdown, [socket.SHUT_RDWR]).start()
    with pytest.raises((ssl.SSLError, OSError)):
        one.send([written(healed(1), 1, "0" * 64)])
    until(lambda: all(not lines(frames(data[:0])) for data in server.received), "nothing")


def test_without_a_server_the_trail_waits_for_nobody() -> None:
    missing: list[int] = []
    export = Export("syslog", Syslog(Target("syslog+tcp", "127.0.0.1", 1)), missing.append)
    export.start()
    line = written(healed(1), 1, "0" * 64)
    for _ in range(11_000):
        export.put([line])
    assert 900 <= sum(missing) <= 1000
    export.close(5)


@given(st.text(max_size=300), st.text(max_size=300))
def test_nothing_that_a_record_holds_ends_a_message_or_begins_another(kind: str, text: str) -> None:
    line = written(Record(Kind.HEALED, datetime.now(UTC), ALICE, {kind: text}), 1, "0" * 64)
    assert b"\n" not in line
    assert line.isascii()
    found = HEADER.fullmatch(syslog_message(line, "host"))
    assert found is not None
    assert found[4] == line


@pytest.mark.parametrize(
    ("text", "found"),
    {
        "syslog+tcp://log.example.org": Target("syslog+tcp", "log.example.org", 514),
        "syslog+tls://log.example.org": Target("syslog+tls", "log.example.org", 6514),
        "syslog+udp://[::1]:5140": Target("syslog+udp", "::1", 5140),
        "stdout": None,
    }.items(),
)
def test_a_target_is_read(text: str, found: Target | None) -> None:
    assert target(text) == found


@pytest.mark.parametrize(
    "text", ["", "log", "http://a", "syslog://a", "syslog+tcp://", "syslog+tcp://a/b", "syslog+tcp://u@a"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="syslog"):
        target(text)


def test_standard_output_gets_the_lines_as_they_are(capfdbinary: pytest.CaptureFixture[bytes], trail: Trail) -> None:
    export = Export("stdout", sink(None))
    export.start()
    export.put(trail.copied)
    export.close(30)
    assert capfdbinary.readouterr().out.splitlines() == trail.copied
