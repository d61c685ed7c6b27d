"""`python -m claude_sandbox.demo.stand_in ADDRESS PORT`

Stands in for the Claude API where the demo has no key: whatever is asked, it answers the same, in the form in which the
API streams an answer. It runs in a container on the demo's engine, or in a pod of its cluster, and knows nothing of the
rest: the standard library is all that it needs.
"""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = "pong (said by the demo's stand-in for the Claude API)"
PAGE = b"hello from the demo's stand-in\n"
_LARGEST = 32 << 20


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A message, as a stream of events."""
        length = self.headers.get("content-length") or "0"
        self.rfile.read(min(int(length), _LARGEST) if length.isascii() and length.isdigit() else 0)
        self._answer("text/event-stream", "".join(_events()).encode())

    def do_GET(self) -> None:
        """A page, for who comes by the proxy."""
        self._answer("text/plain", PAGE)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway's audit tells what was asked."""


def _events() -> Iterator[str]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"id": "msg_demo", "type": "message", "role": "assistant", "model": "stand-in", "content": []}
    for event in (
        {"type": "message_start", "message": {**about, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ANSWER}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def main(address: str, port: str) -> None:
    """Serve until it is ended."""
    ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
