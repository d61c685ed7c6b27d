"""The operator's port for sessions, behind an API server that keeps sessions and proxies as kube-apiserver does.

Admission, server and streams are the real ones. What runs "in the sandbox" are commands of this machine, so that a test
needs no engine; who connects by the proxy is whoever the test says.
"""

import asyncio
import json
import os
import selectors
import ssl
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import WSMsgType, web

from claude_sandbox.api.kinds.sessions import Opening
from claude_sandbox.backends.docker.engine.execution import STDERR, STDOUT
from claude_sandbox.controller.sandboxes.store import Sandboxes
from claude_sandbox.controller.sessions.admission import Admission, Admitted, Refused
from claude_sandbox.controller.sessions.places import Places
from claude_sandbox.controller.sessions.server import SessionServer
from claude_sandbox.controller.sessions.streams import Bounds, Running
from claude_sandbox.controller.sessions.tidying import forgetting
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig

Object = dict[str, Any]
SERVICE = "operators/sessions:8443"
PROXY = "/api/v1/namespaces/operators/services/https:sessions:8443/proxy/session"
_GROUP = "/apis/claudesandbox.dev/v1alpha1/namespaces"


class Process:
    """A `Running`: a command here."""

    def __init__(self, command: list[str], directory: Path, *, can_end_input: bool = True) -> None:
        self.can_end_input = can_end_input
        self.sizes: list[tuple[int, int]] = []
        self.carried = 0
        self._process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self._ends = selectors.DefaultSelector()
        self._ends.register(self._process.stdout or 0, selectors.EVENT_READ, STDOUT)
        self._ends.register(self._process.stderr or 0, selectors.EVENT_READ, STDERR)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._process.stdin.fileno(), view) :]  # type: ignore[union-attr]
        except (OSError, ValueError):
            pass

    def end_input(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    def read(self) -> tuple[int, bytes] | None:
        while self._ends.get_map():
            for key, _ in self._ends.select():
                if part := os.read(key.fd, 65536):
                    self.carried += len(part)
                    return key.data, part
                self._ends.unregister(key.fileobj)
        return None

    def exit_code(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        self._process.kill()


@dataclass
class SessionLab:
    """What it answers, for tests to change, and what came of it."""

    directory: Path
    kubeconfig: str = ""
    url: str = ""
    sandboxes: Sandboxes = field(default_factory=Sandboxes)
    sessions: dict[tuple[str, str], Object] = field(default_factory=dict)
    created: list[Object] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    ran: list[Process] = field(default_factory=list)
    openings: list[tuple[Admitted, Opening]] = field(default_factory=list)
    leads: bool = True
    can_end_input: bool = True
    unavailable: int = 0
    """How many connections are answered as by a replica that does not lead."""
    forbidden: str = ""
    """The kind of which requests are refused: `services` or `claudesandboxsessions`."""
    server: Any = None
    _version: int = 1

    def may_lead(self) -> bool:
        return self.leads

    def add(self, namespace: str = "agents", name: str = "alice", uid: str = "u-1", **spec: Any) -> Object:
        """A sandbox, which the API server has and the operator knows."""
        self._version += 1
        raw = {
            "metadata": {
                "namespace": namespace, "name": name, "uid": uid, "generation": 1, "resourceVersion": str(self._version)
            },
            "spec": {"backend": {"type": "Docker"}, **spec},
            "status": {
                "placement": {"host": "engine-1", "engineId": "e"},
                "workload": {"name": name, "uid": f"container-of-{uid}", "host": "engine-1", "sessions": SERVICE},
            },
        }  # fmt: skip
        self.sandboxes.put(raw)
        return raw

    async def run(self, admitted: Admitted, opening: Opening, threads: Executor) -> Running:
        self.openings.append((admitted, opening))
        log = opening.log
        command = ["printf", f"log {log.tail} {log.since}\\n"] if log else (opening.run.command if opening.run else [])
        try:
            process = Process(command, self.directory, can_end_input=self.can_end_input and log is None)
        except OSError as error:
            raise Refused(f"executable file not found: {error.strerror}", "Name another.") from None
        self.ran.append(process)
        return process

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.forbidden and f"/{self.forbidden}" in request.path:
            message = f'{self.forbidden} "x" is forbidden: User "me" cannot do that'
            return _status(403, "Forbidden", message)
        if request.path == PROXY:
            return await self._proxied(request)
        if not request.path.startswith(_GROUP):
            return _status(404, "NotFound", "not found")
        namespace, kind, *rest = request.path.removeprefix(f"{_GROUP}/").split("/")
        if kind == "claudesandboxes":
            found = next((one for one in self._all(namespace) if one["metadata"]["name"] == rest[0]), None)
            return web.json_response(found) if found is not None else _status(404, "NotFound", "no sandbox")
        return await self._session(request, namespace, rest)

    def _all(self, namespace: str) -> list[Any]:
        return [dict(one) for one in self.sandboxes._by_namespace.get(namespace, {}).values()]

    async def _session(self, request: web.Request, namespace: str, rest: list[str]) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response(self.make(namespace, await request.json()), status=201)
        if not rest:
            items = [one for (space, _), one in self.sessions.items() if space == namespace]
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        key = namespace, rest[0]
        live = self.sessions.get(key)
        if live is None:
            return _status(404, "NotFound", "no session")
        metadata = live["metadata"]
        if request.method == "DELETE":
            wanted = json.loads(await request.read() or b"{}").get("preconditions") or {}
            if wanted.get("uid", metadata["uid"]) != metadata["uid"]:
                return _status(409, "Conflict", "another one")
            del self.sessions[key]
            return web.json_response(live)
        if request.method == "PATCH":
            patch = json.loads(await request.read())
            if any(metadata[name] != value for name, value in patch["metadata"].items()):
                return _status(409, "Conflict", "it was changed")
            self._version += 1
            metadata["resourceVersion"] = str(self._version)
            live["status"] = patch["status"]
        return web.json_response(live)

    def make(self, namespace: str, body: Object, made: datetime | None = None) -> Object:
        """A session as the API server keeps it."""
        self._version += 1
        metadata = {
            "namespace": namespace, "uid": f"s-{self._version}", "resourceVersion": str(self._version), "generation": 1,
            "creationTimestamp": (made or datetime.now(UTC)).isoformat(), **body["metadata"],
        }  # fmt: skip
        live = {**body, "metadata": metadata, "status": {"observedGeneration": -1}}
        self.sessions[namespace, metadata["name"]] = live
        self.created.append(live)
        return live

    async def _proxied(self, request: web.Request) -> web.StreamResponse:
        if self.unavailable:
            self.unavailable -= 1
            return _status(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        near = web.WebSocketResponse(protocols=("v5.channel.k8s.io",), max_msg_size=0)
        async with aiohttp.ClientSession() as session:
            try:
                far = await session.ws_connect(
                    self.url, protocols=("v5.channel.k8s.io",), ssl=unverified(), max_msg_size=0
                )
            except aiohttp.WSServerHandshakeError as error:
                return _status(error.status, "ServiceUnavailable", "as it answered")
            await near.prepare(request)
            ways = [asyncio.create_task(_copy(near, far)), asyncio.create_task(_copy(far, near))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await near.close()
            await far.close()
        return near


def unverified() -> ssl.SSLContext:
    """As the API server's proxy connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _copy(source: Any, target: Any) -> None:
    while (message := await source.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
        if message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)
        else:
            await target.send_str(message.data)


@asynccontextmanager
async def session_lab(
    directory: Path,
    scratch: Path,
    *,
    places: Places | None = None,
    bounds: Bounds = Bounds(looks=0.05),  # noqa: B008 - it is frozen
    admission: type[Admission] = Admission,
) -> AsyncIterator[SessionLab]:
    """Serves until the end of the block, in the running loop."""
    lab = SessionLab(directory)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", lab.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    lab.kubeconfig = _kubeconfig(scratch / "kubeconfig", runner.addresses[0][1])
    try:
        async with Api(from_kubeconfig(lab.kubeconfig), attempts=1) as api:
            lab.server = SessionServer(
                admission(api, lab.sandboxes), lab.run, lab.may_lead,
                lambda _, reason, message: lab.told.append((reason, message)), forgetting(api),
                host="127.0.0.1", port=0, places=places, bounds=bounds,
            )  # fmt: skip
            async with lab.server:
                lab.url = f"https://127.0.0.1:{lab.server.port}/session"
                yield lab
    finally:
        for process in lab.ran:
            process.close()
        await runner.cleanup()


def _kubeconfig(path: Path, port: int) -> str:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "agents"}}],
                "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "me", "user": {"token": "x"}}],
            }
        )
    )
    return str(path)


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)
