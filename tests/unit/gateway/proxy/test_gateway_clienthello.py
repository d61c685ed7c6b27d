"""ClientHellos as OpenSSL makes them, cut in every way and damaged at every byte."""

import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.gateway.proxy.client_hello import (
    LIMIT,
    Hello,
    HelloReader,
    Outcome,
    SecondHello,
    parse_client_hello,
)


def openssl_hello(name: str | None, *, old: bool = False) -> bytes:
    """The bytes with which OpenSSL begins, for this name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def records(message: bytes, *sizes: int) -> bytes:
    """The message in records of these sizes, the rest in one."""
    parts, at = [], 0
    for size in (*sizes, len(message)):
        part = message[at : at + size]
        if part:
            parts.append(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part)
        at += size
    return b"".join(parts)


def hello(
    *extensions: tuple[int, bytes], session: bytes = b"", tail: bytes = b"", version: bytes = b"\x03\x03"
) -> bytes:
    """A handshake message with these extensions."""
    block = b"".join(struct.pack(">HH", kind, len(content)) + content for kind, content in extensions)
    body = version + bytes(32) + bytes([len(session)]) + session + b"\x00\x02\x13\x01\x01\x00"
    body += struct.pack(">H", len(block)) + block + tail
    return b"\x01" + len(body).to_bytes(3, "big") + body


def sni(name: bytes, kind: int = 0) -> tuple[int, bytes]:
    entry = bytes([kind]) + struct.pack(">H", len(name)) + name
    return 0, struct.pack(">H", len(entry)) + entry


def read(data: bytes) -> Hello:
    reader = HelloReader()
    return reader.feed(data) or reader.end()


REAL, OTHER = openssl_hello("www.example.org"), openssl_hello("other.example.org")


@pytest.mark.parametrize("old", [False, True])
def test_the_name_that_openssl_asks_for(old: bool) -> None:
    assert read(openssl_hello("www.Example.org", old=old)) == Hello(Outcome.OK, "www.example.org")
    assert read(openssl_hello(None, old=old)).outcome is Outcome.NO_SNI
    assert read(openssl_hello("127.0.0.1", old=old)).outcome is Outcome.NO_SNI


@given(st.lists(st.integers(1, 200), max_size=8), st.lists(st.integers(0, 700), max_size=20))
def test_however_it_is_cut_it_is_the_same(record_sizes: list[int], segment_sizes: list[int]) -> None:
    data = records(REAL[5:], *record_sizes)
    reader, at, found = HelloReader(), 0, None
    for size in (*segment_sizes, len(data)):
        found = reader.feed(data[at : at + size])
        at += size
    assert found == Hello(Outcome.OK, "www.example.org")


def test_a_byte_at_a_time_and_not_a_byte_too_soon() -> None:
    reader = HelloReader()
    assert [reader.feed(REAL[at : at + 1]) for at in range(len(REAL) - 1)] == [None] * (len(REAL) - 1)
    assert reader.feed(REAL[-1:]) == Hello(Outcome.OK, "www.example.org")


@given(st.integers(0, len(REAL) - 1))
def test_cut_off_is_said(at: int) -> None:
    assert read(REAL[:at]).outcome is Outcome.CUT_OFF


@settings(max_examples=300)
@given(st.integers(0, len(REAL) - 1), st.integers(0, 255))
def test_a_damaged_byte_never_makes_an_exception_or_the_name_of_another(at: int, value: int) -> None:
    found = read(REAL[:at] + bytes([value]) + REAL[at + 1 :])
    where = REAL.index(b"www.example.org")
    if not where <= at < where + 15:
        assert found.sni in ("www.example.org", None)


@given(st.binary(max_size=400))
def test_any_bytes_are_some_outcome(data: bytes) -> None:
    assert isinstance(read(data).outcome, Outcome)
    assert isinstance(parse_client_hello(data).outcome, Outcome)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"GET / HTTP/1.1\r\n", Outcome.NOT_TLS),
        (b"SSH-2.0-x", Outcome.NOT_TLS),
        (b"\x15\x03\x01\x00\x02\x01\x00", Outcome.NOT_TLS),
        (b"\x16\x02\x00", Outcome.NOT_TLS),
        (b"\x80\x2e\x01\x03\x01", Outcome.NOT_TLS),
        (b"\x16\x03\x01\x00\x00", Outcome.MALFORMED),
        (b"\x16\x03\x01\x40\x01", Outcome.MALFORMED),
        (records(b"\x02\x00\x00\x00"), Outcome.NOT_CLIENT_HELLO),
        (records(b"\x01\xff\xff\xff"), Outcome.TOO_LONG),
        (records(hello()), Outcome.NO_SNI),
        (records(hello(sni(b"a.org"), sni(b"b.org"))), Outcome.DUPLICATE_EXTENSION),
        (records(hello((0x0A0A, b""), (0x0A0A, b""))), Outcome.DUPLICATE_EXTENSION),
        (records(hello(sni(b""))), Outcome.BAD_SNI),
        (records(hello(sni(b"a.org", 1))), Outcome.BAD_SNI),
        (records(hello(sni(b"a.org\0.evil.org"))), Outcome.BAD_SNI),
        (records(hello(sni(b"127.0.0.1"))), Outcome.BAD_SNI),
        (records(hello(sni("bücher.example".encode()))), Outcome.BAD_SNI),
        (records(hello((0, sni(b"a.org")[1] + b"x"))), Outcome.BAD_SNI),
        (records(hello((0, b"\x00\x10\x00\x00\x05a.org\x00\x00\x05b.org"))), Outcome.BAD_SNI),
        (records(hello(sni(b"a.org"), tail=b"x")), Outcome.MALFORMED),
        (records(hello(sni(b"a.org"), session=bytes(33))), Outcome.MALFORMED),
        (records(hello(sni(b"a.org"), version=b"\x02\x00")), Outcome.MALFORMED),
        (records(hello(sni(b"a.org")) + b"\x01"), Outcome.MALFORMED),
        (records(hello(sni(b"a.org"))) + b"\x16\x03\x01", Outcome.MALFORMED),
        (records(hello((21, bytes(LIMIT - 100)), sni(b"a.org"))[:16000], 8000), Outcome.CUT_OFF),
    ],
)  # fmt: skip
def test_each_malformation_has_a_name(data: bytes, outcome: Outcome) -> None:
    assert read(data).outcome is outcome


def test_more_than_the_limit_is_not_waited_for() -> None:
    reader = HelloReader()
    message = hello((21, bytes(LIMIT - 200)), sni(b"a.org"))
    cut = records(message, *[20] * 800)
    assert reader.feed(cut[:LIMIT]) is None
    assert reader.feed(cut[LIMIT:]) == Hello(Outcome.TOO_LONG)


def test_grease_is_nothing_and_an_encrypted_hello_is_said() -> None:
    assert read(records(hello((0x0A0A, b"x"), (0xFAFA, b""), sni(b"A.org.")))) == Hello(Outcome.OK, "a.org")
    assert read(records(hello((0xFE0D, b"\x00" * 40), sni(b"a.org")))) == Hello(Outcome.OK, "a.org", ech=True)
    assert read(records(hello((0xFE0D, b"")))) == Hello(Outcome.NO_SNI, None, ech=True)


CCS = b"\x14\x03\x03\x00\x01\x01"
DATA = b"\x17\x03\x03\x00\x10" + bytes(16)


def watched(data: bytes, *sizes: int) -> str | None:
    """What comes of the bytes that a client sends after its ClientHello for www.example.org."""
    watch, at = SecondHello("www.example.org"), 0
    for size in (*sizes, len(data)):
        reason = watch.feed(data[at : at + size])
        if reason:
            return reason
        at += size
    return None


@given(st.lists(st.integers(1, 200), max_size=8), st.lists(st.integers(0, 300), max_size=20), st.booleans())
def test_a_second_hello_is_found_however_it_is_cut(record_sizes: list[int], sizes: list[int], ccs: bool) -> None:
    before = CCS * ccs
    other = records(OTHER[5:], *record_sizes)
    assert watched(before + other + DATA, *sizes) == "SNIMismatch in a second ClientHello"
    assert watched(before + records(REAL[5:], *record_sizes) + DATA, *sizes) is None


def test_a_second_hello_without_a_name_or_too_long() -> None:
    assert watched(CCS + records(hello())) == "SNIMismatch in a second ClientHello"
    assert watched(records(hello((21, bytes(LIMIT)), sni(b"www.example.org")), 16000)) == "TooLong"


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        CCS + DATA,
        records(b"\x10\x00\x00\x21" + bytes(33)) + CCS + b"\x16\x03\x03\x00\x28" + b"\x01" * 40,
        CCS + b"\x16\x03\x03\x00\x28" + bytes(40),
        CCS + b"\x16\x03\x03\x00\x28" + b"\x01\xff" + bytes(38),
    ],
)
def test_what_follows_in_ordinary_handshakes_is_let_through(data: bytes) -> None:
    """TLS 1.3, also with early data; TLS 1.2 with a key exchange; TLS 1.2 resumed, its Finished encrypted."""
    assert watched(data + DATA * 10) is None
    assert watched(data + DATA * 10, *[1] * 60) is None
