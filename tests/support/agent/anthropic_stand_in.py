"""Servers on this machine that pods talk to in place of the API, or of an attacker, and what they were told."""

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# The events of a streamed answer to POST /v1/messages, as little as Claude Code is content with.
_EVENTS = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "stand-in",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "pong"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
)
_ANSWER = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _EVENTS).encode()


def _error(key: str | None) -> bytes:
    message = f"invalid x-api-key {key}"
    return json.dumps({"type": "error", "error": {"type": "authentication_error", "message": message}}).encode()


@dataclass(frozen=True)
class Request:
    """A request as it arrived; `key` is its x-api-key header, `token` what its Authorization bears."""

    method: str
    path: str
    key: str | None
    token: str
    body: bytes = field(default=b"", repr=False)


@dataclass
class StandIn:
    """A server that answers every message with `pong`; `url` is where it listens, `requests` what it got."""

    url: str
    requests: list[Request] = field(default_factory=list)


HANGS = 0
"""The status of an answer that does not come."""


def _good() -> int:
    return 200


@contextlib.contextmanager
def serving(
    host: str, certificate: tuple[Path, Path] | None = None, status: Callable[[], int] = _good
) -> Iterator[StandIn]:
    """A stand-in on a free port of `host`; with a certificate and its key it speaks TLS.

    `status`: what it answers now; an error has the key that was sent in its words, and HANGS is no answer.
    """
    requests: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("content-length") or 0))
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            key = self.headers.get("x-api-key")
            requests.append(Request(self.command, self.path, key, token, asked))
            while (now := status()) == HANGS:
                time.sleep(0.1)
            body, kind = (_ANSWER, "text/event-stream") if now == 200 else (_error(key), "application/json")
            self.send_response(now)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: what was asked is in `requests`."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing: a client that doesn't trust the certificate goes away in the middle."""

    server = Server((host, 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if certificate is None else "https"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        where = f"[{host}]" if ":" in host else host
        yield StandIn(f"{scheme}://{where}:{server.server_address[1]}", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
