"""Heads of requests to the proxy: what is let through is read the same way by another parser; the rest is refused."""

import asyncio

import pytest
from aiohttp import http_exceptions
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.gateway.http.chunked import ChunkedReader, chunk
from claude_sandbox.gateway.http.head import LIMIT, BadRequestError, answered, forwarded, head_end, parse_request


def head(*lines: str, end: str = "\r\n") -> bytes:
    return (end.join(lines) + end + end).encode("latin-1")


def test_connect() -> None:
    found = parse_request(
        head("CONNECT Example.ORG:8443 HTTP/1.1", "Host: example.org.:8443", "Proxy-Authorization: Basic eA==")
    )
    assert (found.method, found.host, found.port, found.authorization) == ("CONNECT", "example.org", 8443, "Basic eA==")


def test_connect_as_older_pythons_ask() -> None:
    assert parse_request(b"CONNECT example.org:443 HTTP/1.0\r\n\r\n").host == "example.org"


def test_an_absolute_form_goes_on_in_origin_form_without_what_is_of_one_hop() -> None:
    found = parse_request(
        head("GET http://example.org/a?b=c HTTP/1.1", "Host: example.org", "Accept: */*", "Connection: X-Mine, close",
             "X-Mine: 1", "Proxy-Authorization: Basic eA==", "Upgrade: h2c", "TE: trailers")
    )  # fmt: skip
    assert forwarded(found) == b"GET /a?b=c HTTP/1.1\r\nhost: example.org\r\naccept: */*\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("CONNECT example.org:443 HTTP/1.0", "Host: evil.org"),
        ("CONNECT example.org:443 HTTP/0.9", "Host: example.org"),
        ("GET http://example.org/ HTTP/1.0", "Host: example.org"),
        ("CONNECT example.org:443 HTTP/2.0", "Host: example.org"),
        ("CONNECT example.org HTTP/1.1", "Host: example.org"),
        ("CONNECT example.org:443 HTTP/1.1",),
        ("CONNECT example.org:443 HTTP/1.1", "Host: evil.org"),
        ("CONNECT example.org:443 HTTP/1.1", "Host: example.org:444"),
        ("CONNECT example.org:443 HTTP/1.1", "Host: example.org", "Host: example.org"),
        ("CONNECT example.org:443 HTTP/1.1", "Host: example.org", "Content-Length: 1"),
        ("CONNECT example.org:443 HTTP/1.1", "Host: example.org", "Transfer-Encoding: chunked"),
        ("CONNECT 127.0.0.1:443 HTTP/1.1", "Host: 127.0.0.1"),
        ("CONNECT [::1]:443 HTTP/1.1", "Host: [::1]"),
        ("CONNECT 2130706433:443 HTTP/1.1", "Host: 2130706433"),
        ("CONNECT example.org:443:22 HTTP/1.1", "Host: example.org"),
        ("CONNECT example.org:0443x HTTP/1.1", "Host: example.org"),
        ("CONNECT user@example.org:443 HTTP/1.1", "Host: example.org"),
        ("CONNECT example.org:443  HTTP/1.1", "Host: example.org"),
        (" CONNECT example.org:443 HTTP/1.1", "Host: example.org"),
        ("GET / HTTP/1.1", "Host: example.org"),
        ("GET http://evil.org/ HTTP/1.1", "Host: example.org"),
        ("GET http://example.org@evil.org/ HTTP/1.1", "Host: example.org"),
        ("GET http://example.org:80:80/ HTTP/1.1", "Host: example.org"),
        ("GET https://example.org/ HTTP/1.1", "Host: example.org"),
        ("GET ftp://example.org/ HTTP/1.1", "Host: example.org"),
        ("GET http://example.org/#x HTTP/1.1", "Host: example.org"),
        ("GET http://example.org\\@evil.org/ HTTP/1.1", "Host: example.org"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: 1", "Transfer-Encoding: chunked"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: 1", "Content-Length: 1"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: +1"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: 1, 1"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: 0x1"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Transfer-Encoding: xchunked"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Transfer-Encoding: gzip, chunked"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Transfer-Encoding : chunked"),
        ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Transfer-Encoding: chunked",
         "Transfer-Encoding: x"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "X: a", " folded"),
        ("GET http://example.org/ HTTP/1.1", " Host: example.org"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "X a"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", ": a"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "X: a\nY: b"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "X: a\rY: b"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "X: a\0b"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", "Expect: more"),
        ("GET http://example.org/ HTTP/1.1", "Host: example.org", *["X: a"] * 100),
        ("PRI * HTTP/2.0",),
    ],
)  # fmt: skip
def test_what_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadRequestError):
        parse_request(head(*lines))


def test_bare_line_feeds_end_no_head() -> None:
    with pytest.raises(BadRequestError):
        head_end(head("GET http://example.org/ HTTP/1.1", "Host: example.org", end="\n"))


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"\r\nGET", b" GET", b"\x05\x01\x00"])
def test_what_can_become_no_request_is_not_waited_for(start: bytes) -> None:
    with pytest.raises(BadRequestError):
        head_end(start)


def test_a_long_head_is_not_waited_for() -> None:
    assert head_end(b"G" * LIMIT) is None
    with pytest.raises(BadRequestError):
        head_end(b"G" * (LIMIT + 1))


HEADER = st.tuples(
    st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "X-A", "Connection", "x_b", "Expect", "Accept "]),
    st.sampled_from(["example.org", "evil.org", "5", "05", "+5",
                     "chunked", "Chunked", "identity", "close", " a\t",
                     "a\r\n b", "a\nb", "", "100-continue"]),
)  # fmt: skip


LINE = st.sampled_from(["{} http://example.org/ HTTP/1.1"] * 4 + ["{} http://a b/ HTTP/1.1", "{} * HTTP/1.1",
                        "{} http://example.org HTTP/1.0", "{} http://example.org HTTP/1.1 "])  # fmt: skip


@given(st.sampled_from(["GET", "POST", "PUT"]), LINE, st.lists(HEADER, max_size=4))
def test_what_is_let_through_another_parser_takes_too_and_frames_alike(
    method: str, line: str, headers: list[tuple[str, str]]
) -> None:
    raw = head(line.format(method), "Host: example.org", *(f"{name}: {value}" for name, value in headers))
    try:
        found = parse_request(raw)
    except BadRequestError:
        return
    messages, _, _ = _other_parser().feed_data(raw)
    (message, _) = messages[0]
    assert message.method == found.method
    assert message.headers["host"] == "example.org"
    assert message.chunked == (found.length is None)
    assert int(message.headers.get("content-length", "0")) == (found.length or 0)


def _other_parser() -> HttpRequestParser:
    loop = asyncio.new_event_loop()
    try:
        return HttpRequestParser(BaseProtocol(loop), loop, 2**16)
    finally:
        loop.close()


def test_the_other_parser_is_one_that_refuses() -> None:
    with pytest.raises(http_exceptions.BadHttpMessage):
        _other_parser().feed_data(head("POST / HTTP/1.1", "Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"))


def test_an_answer_says_that_its_connection_ends() -> None:
    status, written = answered(head("HTTP/1.1 200 OK", "Content-Length: 3", "Connection: keep-alive", "Keep-Alive: 5"))
    assert (status, written) == (200, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n")
    for line in ("HTTP/2 200", "200 OK", "HTTP/1.1 20", "HTTP/1.1 999 x"):
        with pytest.raises(BadRequestError):
            answered(head(line))


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(0, 30), max_size=30),
    st.binary(max_size=9),
)
def test_a_chunked_body_ends_where_it_ends(parts: list[bytes], cuts: list[int], after: bytes) -> None:
    data = b"".join(chunk(part) for part in parts) + chunk(b"") + after
    reader, at, content = ChunkedReader(), 0, b""
    for size in (*cuts, len(data)):
        content += reader.feed(data[at : at + size])
        at += size
    assert (content, reader.done, reader.rest) == (b"".join(parts), True, after)


@pytest.mark.parametrize("data", [b"x\r\n", b"-1\r\n", b"1;a=b\r\nx\r\n", b"1\nx\r\n", b"2\r\nabc\r\n",
                                  b"0\r\nTrailer: x\r\n\r\n",
                                  b"0x1\r\n",
                                  b"1 \r\nx\r\n", b"fffffffff\r\n", b"1" * 20])  # fmt: skip
def test_chunks_that_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequestError):
        ChunkedReader().feed(data)
