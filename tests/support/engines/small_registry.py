"""A registry of one image, from its archive, for engines to pull from: `small_registry.py ARCHIVE PORT GATE`.

Anonymous, without TLS, on 127.0.0.1, as an engine accepts it there. As long as the file GATE exists nobody gets a blob
to its end, so that a pull is under way for as long as a test likes.
"""

import contextlib
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: Path
    gate: Path
    raw_requestline: bytes

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def parse_request(self) -> bool:
        if self.raw_requestline[:1] == b"\x16":
            # Somebody tries TLS first, and goes on without where the answer is plainly none.
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            self.close_connection = True
            return False
        return super().parse_request()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        kind, _, wanted = self.path.rpartition("/")
        if self.path in ("/v2/", "/v2"):
            self._send(b"{}", "application/json", "", body=body)
            return
        with tarfile.open(self.archive) as archive:
            try:
                if kind.endswith("/manifests") and not wanted.startswith("sha256:"):
                    index = archive.extractfile("index.json")
                    assert index is not None
                    wanted = json.load(index)["manifests"][0]["digest"]
                blob = archive.extractfile(f"blobs/sha256/{wanted.removeprefix('sha256:')}")
                assert blob is not None
            except KeyError:
                self.send_error(404)
                return
            content = blob.read()
        media = _MANIFEST if kind.endswith("/manifests") else "application/octet-stream"
        self._send(content, media, wanted, body=body)

    def _send(self, content: bytes, media: str, digest: str, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(content)))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if not body:
            return
        half = len(content) // 2 if media != _MANIFEST and digest else len(content)
        self.wfile.write(content[:half])
        self.wfile.flush()
        while half < len(content) and self.gate.exists():
            time.sleep(0.05)
        self.wfile.write(content[half:])


@contextlib.contextmanager
def registry(enter: tuple[str, ...], archive: Path, port: int, gate: Path) -> Iterator[None]:
    """Run it as a process in the namespaces that a command enters."""
    command = [*enter, sys.executable, "-I", __file__, str(archive), str(port), str(gate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the registry can't listen"
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    _Handler.archive, _Handler.gate = Path(sys.argv[1]), Path(sys.argv[3])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler)
    print("listening", flush=True)
    server.serve_forever()
