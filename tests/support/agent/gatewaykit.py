"""The gateway as a real program on loopback, a stand-in for the model's provider, and servers that speak TLS."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from claude_sandbox.localcluster.pki.certificates import Subject, issue, new_ca

KEY = "sk-ant-api03-the-real-key-of-the-provider"
PLACEHOLDER = "placeholder-b5d5a3f0c1e24f6c8b8d0a1f"
LOOPBACK = ["127.0.0.0/8"]
"""What tests have to open: the servers that they reach are all on this machine."""


@dataclass
class Gateway:
    """A running gateway. Addresses are `127.0.0.1:PORT`."""

    process: subprocess.Popen[bytes]
    directory: Path
    broker: str
    proxy: str
    health: str

    @property
    def proxy_url(self) -> str:
        return f"http://sandbox:{PLACEHOLDER}@{self.proxy}"

    def audit(self) -> list[dict[str, Any]]:
        """The lines so far."""
        text = (self.directory / "audit").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    async def audited(self, count: int) -> list[dict[str, Any]]:
        """The lines, once there are so many. Servers in the same loop go on: a tunnel waits for its server."""
        deadline = time.monotonic() + 60
        while len(lines := self.audit()) < count:
            assert time.monotonic() < deadline, lines
            await asyncio.sleep(0.02)
        return lines

    def output(self) -> str:
        """Everything that it wrote."""
        return (self.directory / "audit").read_text() + (self.directory / "errors").read_text()

    def configure(self, document: dict[str, Any]) -> None:
        """Put another configuration in the place of this one, as a kubelet does."""
        write(self.directory / "config.json", json.dumps(document))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def write(path: Path, text: str) -> None:
    """At once, by renaming."""
    partial = path.with_suffix(".new")
    partial.write_text(text)
    partial.rename(path)


def document(directory: Path, *, provider: str = "http://127.0.0.1:9", **sandbox: Any) -> dict[str, Any]:
    """A configuration of one sandbox whose key is in `directory`."""
    (directory / "key").write_text(KEY + "\n")
    one = {
        "uid": "uid-1",
        "identitySHA256": [hashlib.sha256(PLACEHOLDER.encode()).hexdigest()],
        "credential": {"file": str(directory / "key"), "generation": "g1"},
        **sandbox,
    }
    return {
        "version": 1,
        "listen": {},
        "provider": {"baseURL": provider},
        "egress": {"privateNetworks": LOOPBACK},
        "limits": {"drainSeconds": 10},
        "sandboxes": [one],
    }


@contextlib.contextmanager
def running(directory: Path, configuration: dict[str, Any]) -> Iterator[Gateway]:
    """The program, from when it listens to its end."""
    write(directory / "config.json", json.dumps(configuration))
    with (directory / "audit").open("wb") as audit, (directory / "errors").open("wb") as errors:
        process = subprocess.Popen(
            (sys.executable, "-m", "claude_sandbox.gateway", "--config", str(directory / "config.json")),
            stdout=audit, stderr=errors,
        )  # fmt: skip
    try:
        where = _listening(process, directory / "errors")
        yield Gateway(process, directory, where["broker"], where["proxy"], where["health"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def _listening(process: subprocess.Popen[bytes], errors: Path) -> dict[str, str]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for line in errors.read_text().splitlines(keepends=True):
            if line.startswith("gateway: listening {") and line.endswith("\n"):
                found: dict[str, str] = json.loads(line.removeprefix("gateway: listening "))
                return found
        assert process.poll() is None, errors.read_text()
        time.sleep(0.02)
    raise AssertionError("the gateway does not listen")


Handler = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as the provider got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Provider:
    """A stand-in for the model's provider; `answer` may be replaced."""

    url: str = ""
    begun: int = 0
    """Requests of which the head has come."""
    seen: list[Seen] = field(default_factory=list)
    cancelled: int = 0
    answer: Handler = field(default_factory=lambda: answered(200))


def message(output: int = 5, **usage: Any) -> dict[str, Any]:
    """A whole answer of the API."""
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": [],
            "usage": {"input_tokens": 10, "output_tokens": output, **usage}}  # fmt: skip


def answered(status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
        return web.json_response(message() if body is None else body, status=status, headers=headers)

    return handler


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """A provider that answers each request with a short message."""
    found = Provider()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        found.begun += 1
        try:
            body = b"".join([part async for part in request.content.iter_any()])
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
            found.seen.append(Seen(request.method, request.raw_path, headers, body))
            return await found.answer(request, body)
        except (asyncio.CancelledError, ConnectionError):
            found.cancelled += 1
            raise

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = "http://127.0.0.1:%d" % runner.addresses[0][1]  # noqa: UP031
    try:
        yield found
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Authority:
    """A CA of the tests' own, `bundle`, and certificates by it."""

    bundle: Path
    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def authority(directory: Path, *names: str) -> Authority:
    """A CA, and one certificate for all of the names."""
    now = datetime.now(UTC)
    ca = new_ca("tests of the gateway", now)
    pair = issue(ca, Subject(names[0], server=True, names=names), now)
    paths = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    for path, content in zip(paths, (ca.certificate, pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    return Authority(*paths)


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for what others bring about."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # in another process, mostly
            await asyncio.sleep(0.02)


def basic(password: str = PLACEHOLDER) -> str:
    return "Basic " + base64.b64encode(f"sandbox:{password}".encode()).decode()


def client_environment(gateway: Gateway, bundle: Path) -> dict[str, str]:
    """What programs that use a proxy go by, in both spellings; nothing else of this machine's."""
    names = {"https_proxy": gateway.proxy_url, "http_proxy": gateway.proxy_url}
    trust = dict.fromkeys(
        ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS"), str(bundle)
    )
    return {**names, **{key.upper(): value for key, value in names.items()}, **trust, "PATH": os.environ["PATH"]}
