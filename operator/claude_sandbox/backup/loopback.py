"""What restic finds at ports of the helper's own loopback: S3's key, and the way to the one address of the server.

restic takes S3's key from files and variables, which links of the agent's could lead to, or asks for it as programs in
containers of AWS do. And it dials what a name resolves to, unless it has a proxy: this one has one answer.
"""

import contextlib
import json
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CHUNK = 256 << 10
_CONNECT = 30.0
"""Seconds until there is a connection to the server."""


@contextmanager
def giving(key: str, secret: str) -> Iterator[str]:
    """A server that gives S3's key to who asks: its URL."""
    told = {
        "Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret, "Token": "",
        "Expiration": "2199-01-01T00:00:00Z",
    }  # fmt: skip
    body = json.dumps(told).encode()

    class Giving(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Giving)) as port:
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def leading(to: tuple[str, int]) -> Iterator[str]:
    """A proxy whose tunnels all end at this address and port: its URL."""

    class Leading(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                # Byte by byte: what comes behind the head is for the server, and must not be read here.
                part = self.request.recv(1)
                if not part or len(head) > _CHUNK:
                    return
                head += part
            try:
                server = socket.create_connection(to, timeout=_CONNECT)
            except OSError:
                self.request.sendall(b"HTTP/1.1 502 the server does not answer\r\n\r\n")
                return
            server.settimeout(None)
            with server, contextlib.suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                _both_ways(self.request, server)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with _serving(Server(("127.0.0.1", 0), Leading)) as port:
        yield f"http://127.0.0.1:{port}"


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    """Until one of both ends."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select():
                part = key.fileobj.recv(_CHUNK)  # type: ignore[union-attr]  # one of both
                if not part:
                    return
                key.data.sendall(part)


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Its port."""
    server_thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    server_thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        # Tunnels that are still open end with the process.
        server.socket.close()
