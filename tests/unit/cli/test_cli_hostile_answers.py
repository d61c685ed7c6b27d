"""What an API server, or a proxy before it, says to a command: a webhook and a tenant chose some of the words."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from claude_sandbox.cli.main import cli

HOSTILE = "no \x1b[31mred\x07 \u202eright\x9b2J"
SANDBOX = "agents/alice"
COMMANDS = {
    "logs": ["logs", SANDBOX],
    "shell": ["shell", SANDBOX, "--", "ls"],
    "diff": ["diff", SANDBOX],
    "cp": ["cp", f"{SANDBOX}:a", "nowhere"],
    "resume": ["resume", SANDBOX],
    "status": ["incident", "status", SANDBOX],
    "lift": ["incident", "lift", SANDBOX],
    "kept": ["incident", "kept", "list", SANDBOX],
    "due": ["due"],
    "usage": ["usage"],
    "report": ["report"],
    "audit": ["audit", SANDBOX],
    "check": ["check", "sandbox", SANDBOX],
}


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status = {"kind": "Status", "apiVersion": "v1", "message": HOSTILE, "reason": "Forbidden", "code": 403}
        body = json.dumps(status).encode()
        self.send_response(403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PATCH(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is said of requests."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "agents"}}
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    user = {"name": "u", "user": {"token": "t"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({**config, "clusters": [cluster], "users": [user]}))
    yield path
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_terminal_obeys_nothing_of_it(kubeconfig: Path, command: list[str]) -> None:
    # As at a terminal: elsewhere click itself takes some of it out.
    found = CliRunner().invoke(cli, command, env={"KUBECONFIG": str(kubeconfig)}, color=True)
    assert found.exit_code not in (0, 2)
    assert "\\x1b[31mred" in found.stderr
    assert "Remedy:" in found.stderr
    assert not [one for one in found.output if not one.isprintable() and one != "\n"]
