"""`python -m claude_sandbox.demo.stand_in ADDRESS PORT`

Stands in for the Claude API where the demo has no key: it has Claude Code do the demo's task, a step with each answer,
and answers everything else with the same word. It does so in the form in which the API streams an answer. It runs in a
container on the demo's engine, or in a pod of its cluster: the standard library is all that it needs.
"""

import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from claude_sandbox.demo.work.task import Step, next_step

ANSWER = "pong (said by the demo's stand-in for the Claude API)"
PAGE = b"hello from the demo's stand-in\n"
_LARGEST = 32 << 20


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A message, as a stream of events."""
        length = self.headers.get("content-length") or "0"
        body = self.rfile.read(min(int(length), _LARGEST) if length.isascii() and length.isdigit() else 0)
        self._answer("text/event-stream", answer(body))

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


def answer(request: bytes) -> bytes:
    """The events that answer a request."""
    said = _said(request)
    told = said if said is not None else ANSWER
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _events(told)).encode()


def _said(request: bytes) -> Step | str | None:
    try:
        return next_step(json.loads(request))
    except (ValueError, AttributeError, TypeError):
        # No message of the API's.
        return None


def _events(told: Step | str) -> Iterator[Mapping[str, Any]]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    # One that it has seen Claude Code takes for more of the same message.
    name = secrets.token_hex(8)
    about = {"id": f"msg_{name}", "type": "message", "role": "assistant", "model": "stand-in", "content": []}
    if isinstance(told, Step):
        block: Mapping[str, Any] = {"type": "tool_use", "id": f"toolu_{name}", "name": told.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(told.given)}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": told}
    reason = "tool_use" if isinstance(told, Step) else "end_turn"
    yield {"type": "message_start", "message": {**about, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def main(address: str, port: str) -> None:
    """Serve until it is ended."""
    ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
