"""A provider, as a process of its own in the network of an engine or a node.

To POST it answers with the SHA-256 of the key that came with it, after as many seconds as the header x-slow says, and
says that it wrote all that it was allowed to; asked to stream, with EVENTS numbered events, TICK seconds apart unless
said otherwise, as the Claude API does. To GET it answers with as many numbered lines. Each POST is a line of its log.
"""

import contextlib
import hashlib
import http.server
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from provider_process import ADDRESS

from claude_sandbox.localcluster.engine import EngineDescription

EVENTS, TICK = 100, 0.05
PORT = 18080


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers until it is done or nobody listens any more."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        print("asked", flush=True)
        if b'"stream":true' not in body:
            key = hashlib.sha256(self.headers.get("x-api-key", "").encode()).hexdigest()
            time.sleep(float(self.headers.get("x-slow") or 0))
            self._begin("application/json")
            used = {"input_tokens": 1, "output_tokens": json.loads(body)["max_tokens"]}
            self.wfile.write(json.dumps({"id": key, "usage": used}).encode())
            return
        self._begin("text/event-stream")
        usage = '"usage":{"input_tokens":1,"output_tokens":1}'
        self._event("message_start", f'"message":{{"id":"m","type":"message","role":"assistant","content":[],{usage}}}')
        self._all(lambda number: self._event("content_block_delta", f'"index":0,"delta":{{"n":{number}}}'))
        self._event("message_delta", f'"delta":{{"stop_reason":"end_turn"}},{usage}')
        self._event("message_stop", '"last":true')

    def do_GET(self) -> None:
        self._begin("text/plain")
        self._all(lambda number: self.wfile.write(f"line {number}\n".encode()))

    def _begin(self, kind: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        self.end_headers()

    def _event(self, kind: str, content: str) -> None:
        self.wfile.write(f'event: {kind}\ndata: {{"type":"{kind}",{content}}}\n\n'.encode())

    def _all(self, write: Callable[[int], object]) -> None:
        for number in range(EVENTS):
            write(number)
            self.wfile.flush()
            time.sleep(float(sys.argv[2]))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, request: object, client_address: object) -> None:
        """Nobody listens any more."""


def slow_provider_on(of: EngineDescription, directory: Path) -> contextlib.AbstractContextManager[str]:
    """One that the engine's containers reach at the URL, and nothing else on the machine."""
    return slow_provider_in(of.netns, directory)


@contextlib.contextmanager
def slow_provider_in(network: Path, directory: Path, address: str = ADDRESS, tick: float = TICK) -> Iterator[str]:
    """One in a network namespace, on an address of its own there."""
    inside = ("nsenter", f"--net={network}", "--")
    subprocess.run([*inside, "ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    log = directory / "slow-provider.log"
    with log.open("wb") as out:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [*inside, sys.executable, __file__, address, str(tick)]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        deadline = time.monotonic() + 30
        while not log.read_text().endswith("ready\n"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the provider does not listen"
            time.sleep(0.02)
        yield f"http://{address}:{PORT}"
    finally:
        process.kill()
        process.wait()
        subprocess.run([*inside, "ip", "address", "del", f"{address}/32", "dev", "lo"], check=False)


if __name__ == "__main__":
    server = Server((sys.argv[1], PORT), Handler)
    print("ready", flush=True)
    server.serve_forever()
