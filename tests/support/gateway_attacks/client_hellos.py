"""ClientHellos, as OpenSSL says them and as an attacker changes them."""

import contextlib
import ssl
import struct


def client_hello(name: str | None) -> bytes:
    """The bytes with which OpenSSL begins for this name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of this size."""
    message = data[5:]
    parts = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part for part in parts)


def with_extension(data: bytes, kind: int, content: bytes) -> bytes:
    """The ClientHello with another extension at its end."""
    body = bytearray(data[9:])
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extension = struct.pack(">HH", kind, len(content)) + content
    length = int.from_bytes(body[at : at + 2], "big") + len(extension)
    body[at : at + 2] = struct.pack(">H", length)
    body += extension
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def sni_extension(*names: bytes) -> bytes:
    """The content of server_name, with several names in its list if so wanted."""
    entries = b"".join(b"\0" + struct.pack(">H", len(name)) + name for name in names)
    return struct.pack(">H", len(entries)) + entries
