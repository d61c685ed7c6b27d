"""Answers as a Docker Engine does, as far as it is asked what it is, and goes wrong when told to."""

import contextlib
import json
import socket
import socketserver
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

WELL, SILENT, DRIPPING, BROKEN, CLOSING = "well", "silent", "dripping", "broken", "closing"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "SmallEngine._Server"

    def do_GET(self) -> None:
        engine = self.server.engine
        engine.asked.append(self.path)
        match engine.mood:
            case "silent":
                engine.released.wait()
            case "dripping":
                self._drip(engine)
            case "broken":
                self._answer(500, b'{"message": "server error"}')
                return
            case "closing":
                self.close_connection = True
                return
        found = engine.answers.get(self.path.rpartition("/v1.")[2].partition("/")[2] or self.path.strip("/"))
        if self.path.endswith("_ping"):
            self._answer(200, b"OK")
        elif found is None:
            self._answer(404, b'{"message": "no such thing"}')
        else:
            self._answer(200, json.dumps(found).encode())

    def _drip(self, engine: "SmallEngine") -> None:
        """A byte now and then: no single wait is ever too long."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not engine.released.wait(0.2):
                self.wfile.write(b" ")
                self.wfile.flush()
        self.close_connection = True

    def _answer(self, code: int, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class SmallEngine:
    """Listens on a socket, or by TLS on a port of 127.0.0.1. Use as a context manager.

    `answers` are the documents by path, for example `info` and `networks/bridge`.
    """

    class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def __init__(self, engine: "SmallEngine", address: Any) -> None:
            self.engine = engine
            self.address_family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
            self.open: set[socket.socket] = set()
            super().__init__(address, _Handler)

        def get_request(self) -> tuple[Any, Any]:
            connection, peer = super().get_request()
            self.open.add(connection)
            return connection, peer

        def finish_request(self, request: Any, client_address: Any) -> None:
            # In the connection's own thread: a client that does not go on must not keep others out.
            if self.engine.context is not None:
                try:
                    request = self.engine.context.wrap_socket(request, server_side=True)
                except OSError:
                    return
            super().finish_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    def __init__(self, address: Path | tuple[str, int], answers: Json, context: ssl.SSLContext | None = None) -> None:
        self.address = address
        self.answers = answers
        self.context = context
        self.mood = WELL
        self.released = threading.Event()
        self.asked: list[str] = []
        self._server: SmallEngine._Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen."""
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)
        self.released.clear()
        self._server = self._Server(self, str(self.address) if isinstance(self.address, Path) else self.address)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """End all connections, as an engine that is killed does."""
        if self._server is None:
            return
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server = None
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)

    def is_asked(self, path: str, patience: float = 10.0) -> None:
        """Wait until it is asked for a path that ends so."""
        deadline, before = time.monotonic() + patience, len(self.asked)
        while not any(asked.endswith(path) for asked in self.asked[before:]):
            assert time.monotonic() < deadline, f"{path} was not asked for"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
