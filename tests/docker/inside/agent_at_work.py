"""Runs in a container with Claude Code: a stand-in for its API, which has it use its Bash tool once; then its answer.

The argument is what the tool runs. Managed settings are written here, so that they lead to the stand-in.
"""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/claude-code/managed-settings.json")


def answer(block: dict[str, Any], delta: dict[str, Any], reason: str) -> bytes:
    """A streamed message of one block."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "stand-in", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


class StandIn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        results = [
            block
            for message in body.get("messages", ())
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == "tool_result"
        ]
        if results:
            told = json.dumps(results[-1]["content"])
            content = answer(
                {"type": "text", "text": ""}, {"type": "text_delta", "text": f"it said {told}"}, "end_turn"
            )
        else:
            wanted = json.dumps({"command": sys.argv[1], "description": "work"})
            use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
            content = answer(use, {"type": "input_json_delta", "partial_json": wanted}, "tool_use")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}"}
SETTINGS.write_text(json.dumps({"apiKeyHelper": "echo sk-ant-not-a-key", "env": environment}))
sys.exit(subprocess.run(["claude", "-p", "work", "--allowedTools", "Bash"], timeout=60, check=False).returncode)
