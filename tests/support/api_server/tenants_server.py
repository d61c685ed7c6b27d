"""An API server that holds what tenants wrote: lists by pages and watches, over HTTP, from a thread of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials

Json = dict[str, Any]


class Tenants:
    """By the plural of a kind: what is listed, and what a watch tells then, each as JSON."""

    def __init__(self) -> None:
        self.listed: dict[str, list[bytes]] = {}
        self.told: dict[str, list[bytes]] = {}
        self._version = 100

    def has(self, plural: str, *objects: Json | bytes) -> None:
        """They are there from the beginning."""
        self.listed.setdefault(plural, []).extend(self._encoded(one) for one in objects)

    def tells(self, plural: str, kind: str, *objects: Json) -> None:
        """A watch tells of them, one after the other."""
        for one in objects:
            event = b'{"type":"%s","object":%s}\n' % (kind.encode(), self._encoded(one))
            self.told.setdefault(plural, []).append(event)

    def _encoded(self, obj: Json | bytes) -> bytes:
        if isinstance(obj, bytes):
            return obj
        self._version += 1
        metadata = {"uid": f"u-{obj['metadata']['name']}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata |= obj["metadata"] | {"resourceVersion": str(self._version)}
        return json.dumps(obj | {"metadata": metadata}, ensure_ascii=False).encode()


@contextmanager
def serving(tenants: Tenants) -> Iterator[Credentials]:
    """Its address, as credentials that need none."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            plural = url.path.rpartition("/")[2]
            if "watch" in query:
                self._watch(tenants.told.get(plural, []))
            else:
                self._list(tenants.listed.get(plural, []), query)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(403, b'{"kind":"Status","status":"Failure","reason":"Forbidden","message":"no","code":403}')

        def do_PATCH(self) -> None:
            self.do_POST()

        def do_DELETE(self) -> None:
            self.do_POST()

        def _list(self, items: list[bytes], query: dict[str, str]) -> None:
            first, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(items)
            rest = first + limit
            token = f',"continue":"{rest}"' if rest < len(items) else ""
            head = f'{{"metadata":{{"resourceVersion":"50000"{token}}},"items":['
            self._answer(200, head.encode() + b",".join(items[first:rest]) + b"]}")

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _watch(self, events: list[bytes]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in events:
                self.wfile.write(event)
            self.wfile.flush()
            ended.wait(60)

        def log_message(self, *_: Any) -> None: ...

        def handle(self) -> None:
            # Who has heard enough goes away in the midst of it.
            try:
                super().handle()
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Credentials(
            server=f"http://127.0.0.1:{server.server_port}", authorization=Authorization(None, lambda _: None)
        )
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
