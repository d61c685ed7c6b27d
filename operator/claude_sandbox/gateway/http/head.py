"""The head of an HTTP/1 request to a proxy, read strictly (RFC 9112). Pure.

Two programs that read the same bytes differently are what request smuggling lives on. So nothing is repaired here:
what is not exactly in the grammar, or says the same thing twice, is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from claude_sandbox.gateway.destinations.names import NotANameError, is_address, normalise

LIMIT = 32 * 1024
"""Bytes of a request's or an answer's head."""
MAX_HEADERS = 100
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[\x21-\x7e]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%\[\]|^`{}\"\\-]*")
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade", "http2-settings")
)  # fmt: skip
"""Of one connection only (RFC 9110, 7.6.1), never passed on."""
_ONCE = frozenset(("host", "content-length", "transfer-encoding", "proxy-authorization", "authorization", "expect"))

Headers = tuple[tuple[str, str], ...]


class BadRequestError(Exception):
    """The request is refused. `status` is the answer's; the message has nothing of the request's."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request to the proxy. `method` CONNECT has no `path`. `host` is normalised.

    `headers`: end-to-end ones, names in lower case, without Host. `length`: of the body in bytes, None where it is
    chunked. `upgrade`: the protocol that the client would change to; who does not look at it passes none on.
    """

    method: str
    host: str
    port: int
    path: str
    headers: Headers
    authorization: str | None
    length: int | None = 0
    expects: bool = False
    upgrade: str | None = None


def head_end(data: bytes | bytearray) -> int | None:
    """Where the head ends (the index after its empty line), or None. BadRequestError where it can't become one."""
    end = data.find(b"\r\n\r\n")
    if end >= 0 and end + 4 <= LIMIT:
        return end + 4
    if end >= 0 or len(data) > LIMIT:
        raise BadRequestError("the head is too long", 431)
    if _BARE_LINE_FEED.search(data):
        raise BadRequestError("a line ends with something else than CR LF")
    # Such as the beginning of TLS, which may never have an empty line for which one could wait.
    if data[:1] and not data[:1].isalpha():
        raise BadRequestError("this is no HTTP request")
    return None


def parse_request(head: bytes) -> Request:
    """Read a whole head. Raises BadRequestError."""
    line, headers = split_head(head)
    parts = line.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise BadRequestError("the request line is malformed")
    method, target, version = parts
    if version == "HTTP/2.0":
        raise BadRequestError("HTTP/2 is not spoken here", 505)
    # Python before 3.12 asks for tunnels in HTTP/1.0, without a Host; there is nothing in one that differs.
    if version != "HTTP/1.1" and not (version == "HTTP/1.0" and method == "CONNECT"):
        raise BadRequestError("only HTTP/1.1 is spoken here", 505)
    found = _singles(headers)
    # So that what follows need not know of it.
    if version == "HTTP/1.0":
        found.setdefault("host", target)
    length = _body_length(found, headers)
    if method == "CONNECT":
        # What is behind its head is the tunnel's.
        if length != 0:
            raise BadRequestError("CONNECT has no body")
        host, port = authority(target, None)
        path = ""
    else:
        host, port, path = _absolute(target)
    # A proxy goes by the target and leaves Host out (RFC 9112, 3.2.2), as `forwarded` does. A second name is refused
    # nevertheless, like all that says a thing twice.
    if authority(_host(found), 443 if method == "CONNECT" else 80) != (host, port):
        raise BadRequestError("Host is not the target's")
    dropped = _dropped(headers)
    kept = tuple((name, value) for name, value in headers if name.replace("_", "-") not in dropped)
    expect = found.get("expect")
    if expect not in (None, "100-continue"):
        raise BadRequestError("Expect asks for what is not known", 417)
    upgrade = ",".join(value for name, value in headers if name == "upgrade") or None
    authorization = found.get("proxy-authorization")
    return Request(method, host, port, path, kept, authorization, length, expect is not None, upgrade)


def two_readings(version: tuple[int, int], headers: Sequence[tuple[str, str]]) -> str | None:
    """Why another reader might find another end of this request, which a tolerant one has read; None where none would.
    Names in lower case."""
    if version not in ((1, 0), (1, 1)):
        return "only HTTP/1.1 is spoken here"
    for name, value in headers:
        if name == "transfer-encoding" and (value.lower() != "chunked" or version == (1, 0)):
            return "Transfer-Encoding is something else than chunked, or is not of HTTP/1.1"
    return None


def split_head(head: bytes) -> tuple[str, Headers]:
    """The first line, and the headers with their names in lower case. Raises BadRequestError."""
    if not head.endswith(b"\r\n\r\n"):
        raise BadRequestError("the head is cut off")
    text = head[:-4].decode("latin-1")
    lines = text.split("\r\n")
    # Also what is left when CR LF are taken away is none: a bare one would be an end of line to somebody else.
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise BadRequestError("a line ends with something else than CR LF")
    if len(lines) - 1 > MAX_HEADERS:
        raise BadRequestError("there are too many headers", 431)
    return lines[0], tuple(_header(line) for line in lines[1:])


def _header(line: str) -> tuple[str, str]:
    if line[:1] in (" ", "\t"):
        raise BadRequestError("a header is folded over lines")
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise BadRequestError("a header's name is malformed")
    if not _VALUE.fullmatch(value):
        raise BadRequestError("a header's value has control characters")
    return name.lower(), value.strip(" \t")


def _singles(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in found:
                raise BadRequestError(f"{name} is there twice")
            found[name] = value
    return found


def _body_length(found: dict[str, str], headers: Headers) -> int | None:
    encoding, length = found.get("transfer-encoding"), found.get("content-length")
    if encoding is not None:
        if length is not None:
            raise BadRequestError("both Content-Length and Transfer-Encoding are there")
        if encoding.lower() != "chunked":
            raise BadRequestError("Transfer-Encoding is something else than chunked", 501)
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadRequestError("Content-Length is no number")
    return int(length)


def _host(found: dict[str, str]) -> str:
    if "host" not in found:
        raise BadRequestError("there is no Host")
    return found["host"]


def authority(text: str, default: int | None) -> tuple[str, int]:
    """A normalised name and a port from `name:port`; without `default` it must be there. Raises BadRequestError."""
    host, colon, digits = text.rpartition(":")
    # An address of IPv6 has colons of its own.
    if not colon or is_address(text):
        host, digits = text, "" if default is None else str(default)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= 65535):
        raise BadRequestError("the target's port is malformed")
    if is_address(host):
        raise BadRequestError("the target is an address; only names are let through", 403)
    try:
        if not host.isascii():
            raise NotANameError
        return normalise(host), int(digits)
    except NotANameError:
        raise BadRequestError("the target's name is malformed") from None


def _absolute(target: str) -> tuple[str, int, str]:
    if not target.lower().startswith("http://"):
        raise BadRequestError("a proxy is asked with http://NAME/… or CONNECT NAME:PORT")
    rest = target[len("http://") :]
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    host, port = authority(rest[:cut], 80)
    path = rest[cut:] if rest[cut:].startswith("/") else f"/{rest[cut:]}"
    # Backslashes and the fragment are where readers of URLs differ; what the standard library reads has to be the same.
    if "#" in path or not _PATH.fullmatch(path) or urlsplit(f"http://x{path}").netloc != "x":
        raise BadRequestError("the target's path is malformed")
    return host, port, path


def _dropped(headers: Headers) -> frozenset[str]:
    """Names of headers that end here: hop by hop, those that Connection names, and what is written anew. Servers that
    read `_` as `-` take others for these."""
    named = {part.strip().lower() for name, value in headers if name == "connection" for part in value.split(",")}
    return HOP_BY_HOP | named | {"host", "content-length", "expect"}


def forwarded(request: Request) -> bytes:
    """The head of a plain HTTP request as it goes on to the server: origin form, its own Host, one connection each."""
    host = request.host if request.port == 80 else f"{request.host}:{request.port}"
    framing = (("transfer-encoding", "chunked"),) if request.length is None else ()
    if request.length:
        framing = (("content-length", str(request.length)),)
    elif request.length == 0 and request.method in ("POST", "PUT", "PATCH"):
        framing = (("content-length", "0"),)
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in (*request.headers, *framing, ("connection", "close"))]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def answered(head: bytes) -> tuple[int, bytes]:
    """The status of a server's head, and the head as the client gets it: with the connection's end said.

    Raises BadRequestError where it is no head of an answer.
    """
    line, headers = split_head(head)
    if not re.fullmatch(r"HTTP/1\.[01] [1-5][0-9]{2}( [^\x00-\x08\x0a-\x1f\x7f]*)?", line):
        raise BadRequestError("the server's status line is malformed", 502)
    # These two frame the body, which is passed on as it comes.
    kept = [(name, value) for name, value in headers if name not in HOP_BY_HOP - {"transfer-encoding", "trailer"}]
    lines = [line, *(f"{name}: {value}" for name, value in kept), "connection: close"]
    return int(line[9:12]), "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
