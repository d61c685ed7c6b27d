"""Answers read as their bytes arrive: the same as the standard library's client reads, in whatever pieces."""

import http.client
import io
import socket
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.http.answer import MAX_INTERIM, AnswerError, AnswerReader
from claude_sandbox.gateway.http.chunked import chunk
from claude_sandbox.gateway.http.head import LIMIT

HEADS = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "X-A", "date", "request-id", "Server"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    ),
    max_size=5,
    unique_by=lambda pair: pair[0].lower(),
)
METHODS = st.sampled_from(["GET", "HEAD", "POST"])
STATUSES = st.sampled_from([200, 201, 204, 304, 400, 429, 529])
FRAMINGS = st.sampled_from(["length", "chunked", "chunked, with extensions and a trailer", "until the end"])


def read(data: bytes, sizes: list[int], method: str = "POST") -> tuple[AnswerReader, bytes]:
    """The answer in pieces of these sizes, and then the connection's end; its content."""
    reader, content, at = AnswerReader(method), b"", 0
    for size in (*sizes, len(data)):
        if data[at : at + size]:
            content += b"".join(reader.feed(data[at : at + size]))
        at += size
    reader.end()
    return reader, content


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def answer(status: int, headers: list[tuple[str, str]], parts: list[bytes], framing: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said so", *(f"{name}: {value}" for name, value in headers)]
    body = b"".join(parts)
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(chunk(part) for part in parts if part) + chunk(b"")
    elif framing != "until the end":
        lines.append("transfer-encoding: Chunked")
        body = b"".join(chunk(part).replace(b"\r\n", b' ; a="b"\r\n', 1) for part in parts if part)
        body += b"00\r\nx-after: 1\r\n\r\n"
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@given(STATUSES, HEADS, st.lists(st.binary(max_size=30), max_size=5), FRAMINGS, METHODS, st.lists(st.integers(0, 40)))
def test_it_reads_what_the_standard_library_reads(
    status: int, headers: list[tuple[str, str]], parts: list[bytes], framing: str, method: str, sizes: list[int]
) -> None:
    bodiless = method == "HEAD" or status in (204, 304)
    data = answer(status, headers, parts, framing)
    if bodiless:
        data = data[: data.index(b"\r\n\r\n") + 4]
    expected = http.client.HTTPResponse(cast(socket.socket, _Socket(data)), method=method)
    expected.begin()
    reader, content = read(data, sizes, method)
    assert reader.answer is not None
    assert (reader.answer.status, reader.answer.reason) == (expected.status, "Said so")
    assert [(name.lower(), value) for name, value in reader.answer.headers] == [
        (name.lower(), value.strip(" \t")) for name, value in expected.getheaders()
    ]
    # The standard library looks for chunks where there can be none.
    assert (content, reader.done) == (b"" if bodiless else expected.read(), True)
    assert reader.reusable == (framing != "until the end" or bodiless)


@pytest.mark.parametrize("sizes", [[], [1] * 300], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    "head",
    ["HTTP/1.1 200 OK\nA: b\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 099 OK\r\n\r\n", "HTTP/1.1 200 O\x00K\r\n\r\n",
     "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n",
     "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 101 Go\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n00",
     "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n0", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n0",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n0",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "HTTP/1.1 200 OK\r\n", ""],
)  # fmt: skip
def test_what_is_no_whole_answer(head: str, sizes: list[int]) -> None:
    with pytest.raises(AnswerError):
        read(head.encode("latin-1"), sizes)


def test_what_has_no_end_is_not_kept() -> None:
    for data in (
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * LIMIT,
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"a" * 5000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: a\r\n" * 200,
    ):
        with pytest.raises(AnswerError):
            AnswerReader("GET").feed(data)


def test_interim_answers_are_passed_over() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"
    data = hints + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
    reader, content = read(data, [30, 5, 50])
    assert reader.answer is not None
    assert (reader.answer.status, reader.answer.headers, content) == (200, [("content-length", "2")], b"hi")


@pytest.mark.parametrize(
    ("data", "reusable"),
    [(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", True),
     (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", False),
     (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nConnection: x, Close\r\n\r\na", False),
     (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", False), (b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n", False),
     (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1", False)],
)  # fmt: skip
def test_a_connection_is_used_again_only_where_nothing_is_left_of_the_answer(data: bytes, reusable: bool) -> None:
    reader = AnswerReader("POST")
    reader.feed(data)
    assert (reader.done, reader.reusable) == (True, reusable)


def test_an_answer_that_is_said_to_be_still_to_come_without_end() -> None:
    reader, interim = AnswerReader("GET"), b"HTTP/1.1 100 Continue\r\n\r\n"
    for _ in range(MAX_INTERIM):
        assert reader.feed(interim) == []
    with pytest.raises(AnswerError, match="still to come"):
        reader.feed(interim)
