"""`python3 -c SOURCE ADDRESS PORT DIRECTORY HOST`

The demo's git server: git's own (`git http-backend`) by TLS, with one private repository, for who has the token.

It runs in a container of the sandbox's image, which has git, Python and OpenSSL, and is given to it as text: so it
knows nothing of the rest, and the standard library is all that it needs. When it begins, it makes in DIRECTORY, which
has to be empty or its own from before:

- `team/project.git`, whose first commit is the same wherever it is made,
- `token`, by which a client is let in, whatever user it names,
- `certificate.pem` and `key.pem`, of HOST and of itself.

None of them leaves the container by itself: the demo reads the token and the certificate there. Once the certificate
is there, connections are taken.
"""

import base64
import binascii
import hmac
import os
import secrets
import shutil
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = "team/project"
FILES = {
    ".gitignore": "__pycache__/\n",
    "greeting.py": 'def greeting(name):\n    return f"Hello, {nmae}!"\n',
    "test_greeting.py": (
        "import unittest\n\nfrom greeting import greeting\n\n\n"
        "class GreetingTest(unittest.TestCase):\n"
        "    def test_it_greets_by_name(self):\n"
        '        self.assertEqual(greeting("Ada"), "Hello, Ada!")\n'
    ),
}
"""What the repository begins with: a test that fails, and why."""
SUBJECT = "Greet by name"
_WHEN = "2026-01-01T00:00:00Z"
_LARGEST = 16 << 20
"""Bytes of a request: the repository has a few hundred."""
_SECONDS = 60
_DAYS = 365
_CERTIFICATE = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = the demo's git server
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
subjectAltName = DNS:{host}
"""
"""How OpenSSL is told of a certificate that is its own authority."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request, by git."""

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    directory = Path()
    token = ""

    def do_GET(self) -> None:
        """What a fetch or a push begins with."""
        self._answer(b"")

    def do_POST(self) -> None:
        """A fetch or a push."""
        body = self._body()
        if body is None:
            self.close_connection = True
            self._say(413, {}, b"too large\n")
        else:
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if not allowed(self.headers.get("authorization") or "", self.token):
            self._say(401, {"www-authenticate": 'Basic realm="the demo"'}, b"a token is needed\n")
            return
        asked = urlsplit(self.path)
        environment = {
            **environment_of(self.directory),
            "GIT_PROJECT_ROOT": str(self.directory),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "somebody",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": asked.path,
            "QUERY_STRING": asked.query,
            "CONTENT_TYPE": self.headers.get("content-type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding") or "",
            "HTTP_GIT_PROTOCOL": self.headers.get("git-protocol") or "",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=False, env=environment, timeout=_SECONDS
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        self._say(int(headers.pop("Status", "200" if headers else "500").split()[0]), headers, content)

    def _body(self) -> bytes | None:
        """None for one that is too large."""
        if (self.headers.get("transfer-encoding") or "").lower() != "chunked":
            length = self.headers.get("content-length") or "0"
            wanted = int(length) if length.isascii() and length.isdigit() else 0
            return self.rfile.read(wanted) if wanted <= _LARGEST else None
        found = b""
        while size := int(self.rfile.readline(32).split(b";")[0], 16):
            if len(found) + size > _LARGEST:
                return None
            found += self.rfile.read(size)
            self.rfile.readline(8)
        self.rfile.readline(8)
        return found

    def _say(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway's audit tells what was asked."""


class Server(ThreadingHTTPServer):
    """Of one connection at a time in each thread; a handshake waits in its own."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a probe opens a connection and closes it."""


def allowed(authorization: str, token: str) -> bool:
    """Whether a request's header has the token, as a password."""
    kind, _, told = authorization.partition(" ")
    try:
        _, _, password = base64.b64decode(told.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(password.encode(), token.encode())


def environment_of(directory: Path) -> dict[str, str]:
    """Of git, which is to heed no configuration but the repository's; and everybody who commits is the same."""
    who = {f"GIT_{one}_{what}": "demo@example.com" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {f"GIT_{one}_DATE": _WHEN for one in ("AUTHOR", "COMMITTER")}
    alone = {"GIT_CONFIG_NOSYSTEM": "1", "HOME": str(directory), "PATH": os.environ["PATH"]}
    return {**alone, **who, **when}


def make(directory: Path, host: str) -> str:
    """Make what is not there yet, the certificate last; the token."""
    repository = directory / f"{REPOSITORY}.git"
    if not repository.exists():
        _repository(directory, repository)
    token = directory / "token"
    if not token.exists():
        _write(token, secrets.token_urlsafe(32))
    if not (directory / "certificate.pem").exists():
        settings, made = directory / "openssl.cnf", directory / "certificate.new"
        settings.write_text(_CERTIFICATE.format(host=host))
        _run(
            "openssl", "req", "-x509", "-config", str(settings), "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", str(_DAYS), "-keyout", str(directory / "key.pem"),
            "-out", str(made), at=directory,
        )  # fmt: skip
        made.rename(directory / "certificate.pem")
    return token.read_text()


def _repository(directory: Path, repository: Path) -> None:
    """Whole, or not there."""
    partial, tree = directory / "partial", directory / "tree"
    for one in (partial, tree):
        shutil.rmtree(one, ignore_errors=True)
    tree.mkdir()
    for name, text in FILES.items():
        (tree / name).write_text(text)
    _run("git", "init", "--quiet", "--initial-branch=main", at=tree)
    _run("git", "add", "--all", at=tree)
    _run("git", "commit", "--quiet", "--message", SUBJECT, at=tree)
    _run("git", "clone", "--quiet", "--bare", str(tree), str(partial), at=directory)
    # The gateway asks for commits without their files, to see what a push builds on.
    for name in ("http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        _run("git", "config", name, "true", at=partial)
    repository.parent.mkdir(exist_ok=True)
    partial.rename(repository)


def _run(*command: str, at: Path) -> None:
    done = subprocess.run(
        command, cwd=at, env=environment_of(at), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout.decode(errors='replace')}")


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def main(address: str, port: str, directory: str, host: str) -> None:
    """Serve until it is ended."""
    os.umask(0o077)
    place = Path(directory)
    server = Server((address, int(port)), Handler)
    Handler.directory, Handler.token = place, make(place, host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place / "certificate.pem", place / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
