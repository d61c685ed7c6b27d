"""A server of S3 that answers as a test says: in front of a real one, which gets all else."""

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from serverkit import Server

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass
class Answers:
    """What it answers. `told`: of a request's method and path, the status, code and message instead of the real one."""

    port: int = 0
    told: Callable[[str, str], tuple[int, str, str] | None] = lambda _method, _path: None
    given: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and status of what was answered here."""


@contextmanager
def s3_answers(server: Server) -> Iterator[Answers]:
    """In front of that server, with its certificate, at a port of its own."""
    found = Answers()
    trusted = ssl.create_default_context(cadata=server.credentials["ca.crt"].decode())

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if (told := found.told(self.command, self.path)) is not None:
                status, code, message = told
                found.given.append((self.command, self.path, status))
                text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else message
                self._send(status, {"Content-Type": "application/xml" if code else "text/html"}, text.encode())
                return
            upstream = http.client.HTTPSConnection(server.address, server.port, context=trusted)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    upstream.putheader(name, value)
            if body or self.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            length = answer.getheader("Content-Length")
            self._send(answer.status, kept, answer.read(), length if self.command == "HEAD" else None)
            upstream.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - as its base has them

        def _send(self, status: int, headers: dict[str, str], body: bytes, length: str | None = None) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        front.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.files["crt"], server.files["key"])
        front.socket = context.wrap_socket(front.socket, server_side=True, do_handshake_on_connect=False)
        found.port = front.server_address[1]
        serving = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield found
        finally:
            front.shutdown()
            serving.join()
