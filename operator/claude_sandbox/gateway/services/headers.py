"""The headers of a request to a service, and of its answer. Pure.

What a client's own program would be known by, or would turn the request into another one, ends here; then the service's
credential is put in, the last of all. Names are compared as servers do that read `_` as `-`.
"""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import urljoin, urlsplit

from claude_sandbox.gateway.destinations.domains import HTTP_PORT
from claude_sandbox.gateway.http.head import HOP_BY_HOP, Request
from claude_sandbox.gateway.services.declared import HTTPS, Opened, Service

Headers = Sequence[tuple[str, str]]
_NAME = re.compile(r"[a-z0-9-]+")
_ENDS_HERE = re.compile(
    r"cookie2?|forwarded|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|x-originating-.*|x-host|via|max-forwards"
    r"|x-http-method|x-http-method-override|x-method-override|x-original-.*|x-rewrite-.*|sec-websocket-.*"
    r"|.*authorization.*|.*api-?key.*|.*token.*|.*secret.*|.*password.*|.*credential.*|dpop|npm-otp|x-jfrog-art-api"
    r"|.*signature.*"
)
_ENDS_HERE_ON_THE_WAY_BACK = re.compile(
    r"set-cookie2?|www-authenticate|authentication-info|proxy-.*|alt-svc|server-timing|clear-site-data|trailer"
    r"|content-length|refresh|strict-transport-security"
)
_OF_A_BODY = frozenset(("etag", "content-md5", "digest", "content-digest", "repr-digest", "accept-ranges"))
_LOCATION = re.compile(r"[\x21-\x7e]+")
WEBSOCKET = frozenset(
    ("sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions")
)


def onward(request: Request, opened: Opened, *, websocket: bool, identity: bool) -> bytes:
    """The head of the request as it goes to the service. `identity`: its answer is to come as it is, not compressed."""
    service = opened.service
    own = service.header.name if service.header is not None else None
    kept = [
        (name, value)
        for name, value in request.headers
        if _NAME.fullmatch(name) and name != own and not (identity and name == "accept-encoding")
        and (not _ENDS_HERE.fullmatch(name) or (websocket and name in WEBSOCKET))
    ]  # fmt: skip
    if identity:
        kept.append(("accept-encoding", "identity"))
    if request.length is None:
        kept.append(("transfer-encoding", "chunked"))
    elif request.length or request.method in ("POST", "PUT", "PATCH"):
        kept.append(("content-length", str(request.length)))
    # The server isn't asked to end the connection: its end may overtake what came before it, where a slow client holds
    # that up. The gateway ends it when all is read.
    kept += [("connection", "Upgrade"), ("upgrade", "websocket")] if websocket else [("connection", "keep-alive")]
    if own is not None and opened.value is not None:
        kept.append((own, opened.value))
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {service.authority}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in kept)]).encode("latin-1") + b"\r\n\r\n"


def back(headers: Headers, service: Service, path: str, *, rewritten: bool) -> list[tuple[str, str]]:
    """The headers of an answer as the client gets them, without those that frame it. `rewritten`: its body is another
    one. Raises ValueError for a redirect that can't be read."""
    ends = HOP_BY_HOP | _named(headers)
    found = []
    for name, value in headers:
        lower = name.lower()
        if lower in ends or _ENDS_HERE_ON_THE_WAY_BACK.fullmatch(lower) or (rewritten and lower in _OF_A_BODY):
            continue
        is_place = lower in ("location", "content-location")
        found.append((name, location(value, service, path) if is_place else value))
    return found


def location(value: str, service: Service, path: str) -> str:
    """Where a redirect leads, for the client: within the service by its name, anywhere else as it is. The credential
    goes with neither: the client has none. Raises ValueError for what clients read in more than one way."""
    if not _LOCATION.fullmatch(value) or "\\" in value:
        raise ValueError("the redirect can't be read")
    whole = urljoin(f"https://{service.authority}{path}", value)
    parts = urlsplit(whole)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise ValueError("the redirect leads to no server")
    port = parts.port or (HTTPS if parts.scheme == "https" else HTTP_PORT)
    # By the usual ports, what leads to plain HTTP leads to the service as well.
    same = port == service.port or (port, service.port) == (HTTP_PORT, HTTPS)
    if parts.hostname.rstrip(".") != service.host or not same:
        return whole
    rest = whole.partition("//")[2]
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return f"{service.url}{'' if rest[cut:].startswith('/') else '/'}{rest[cut:]}"


def _named(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    named = (value.split(",") for name, value in headers if name.lower() == "connection")
    return frozenset(part.strip().lower() for parts in named for part in parts)
