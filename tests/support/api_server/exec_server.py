"""An API server with one sandbox in it, whose commands are run on this machine: `pods/exec` as Kubernetes speaks it.

Sessions and logs are real as far as the protocol goes; what runs is whatever the test puts first in the PATH, so that a
sandbox can be as hostile as the test likes.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

Object = dict[str, Any]
PATCHED = "patched"
"""The file that is there once somebody tried to patch the sandbox."""
POD = "/api/v1/namespaces/agents/pods/sandbox-alice"


@dataclass
class ExecServer:
    """What it answers, for tests to change, and what it was asked."""

    directory: Path
    """Where commands begin."""
    path: str = os.environ.get("PATH", "")
    """Of commands."""
    protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
    status: Object = field(default_factory=lambda: {"workload": {"name": "sandbox-alice", "uid": "p-1"}})
    spec: Object = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    """Last parts of paths that are answered with 403."""
    may_patch: bool = True
    """Whether the user may patch the sandbox."""
    patches: list[Object] = field(default_factory=list)
    log: bytes = b""
    cut_after: int | None = None
    """Bytes of input or output after which the connection is lost."""
    asked: list[str] = field(default_factory=list)
    sizes: list[Object] = field(default_factory=list)
    kubeconfig: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        last = request.path.rpartition("/")[2]
        if last in self.refused or (last == "alice" and "claudesandboxes" in self.refused):
            return _status(403, "Forbidden", f'{last} is forbidden: User "me" cannot do that')
        if request.method == "PATCH":
            (self.directory / PATCHED).touch()
            if not self.may_patch:
                return _status(403, "Forbidden", f'{last} is forbidden: User "me" cannot patch that')
            self.patches.append(await request.json())
            return web.json_response({})
        if request.path.endswith("/claudesandboxes/alice"):
            metadata = {"namespace": "agents", "name": "alice", "uid": "u-1"}
            return web.json_response({"metadata": metadata, "spec": self.spec, "status": self.status})
        if request.path == POD:
            return web.json_response({"metadata": {"uid": "p-1"}, "status": {"phase": "Running"}})
        if request.path == f"{POD}/log":
            return web.Response(body=self.log)
        if request.path == f"{POD}/exec":
            return await self._exec(request)
        return _status(404, "NotFound", "not found")

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=self.protocols, max_msg_size=0)
        if not socket.can_prepare(request).ok:
            return _status(400, "BadRequest", "Upgrade request required")
        await socket.prepare(request)
        try:
            process = await asyncio.create_subprocess_exec(
                *request.query.getall("command"), cwd=self.directory, env={"PATH": self.path, "HOME": "/"},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            lost = {"status": "Failure", "reason": "InternalError", "message": f"executable file not found: {error}"}
            await socket.send_bytes(b"\x03" + json.dumps(lost).encode())
            await socket.close()
            return socket
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        left = [self.cut_after]
        outputs = [self._copy(socket, process.stdout, 1, left), self._copy(socket, process.stderr, 2, left)]
        feeding = asyncio.create_task(self._feed(socket, process.stdin, left))
        try:
            await asyncio.gather(*outputs)
            code = await process.wait()
        finally:
            feeding.cancel()
            # As a kubelet does: a command whose connection is lost sees its input end.
            process.stdin.close()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await process.wait()
            finally:
                # Also where this server ends before the ten seconds are over.
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        cause = {"reason": "ExitCode", "message": str(code)}
        status: dict[str, Any] = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        if not socket.closed:
            await socket.send_bytes(b"\x03" + json.dumps(status if code else {"status": "Success"}).encode())
            await socket.close()
        return socket

    async def _copy(
        self, socket: web.WebSocketResponse, stream: asyncio.StreamReader, channel: int, left: list[int | None]
    ) -> None:
        while part := await stream.read(30_000):
            if self._is_cut(left, len(part)):
                await socket.close(code=1011)
            if not socket.closed:
                await socket.send_bytes(bytes([channel]) + part)

    async def _feed(self, socket: web.WebSocketResponse, stdin: asyncio.StreamWriter, left: list[int | None]) -> None:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            channel, data = message.data[0], message.data[1:]
            if channel == 0:
                if self._is_cut(left, len(data)):
                    await socket.close(code=1011)
                    break
                stdin.write(data)
                await stdin.drain()
            elif channel == 4:
                self.sizes.append(json.loads(data))
            elif channel == 255:
                stdin.close()
        stdin.close()

    @staticmethod
    def _is_cut(left: list[int | None], size: int) -> bool:
        if left[0] is None:
            return False
        left[0] -= size
        return left[0] < 0


@contextmanager
def exec_server(directory: Path, scratch: Path) -> Iterator[ExecServer]:
    """Serves on a port of this machine until the end of the block."""
    found = ExecServer(directory)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    port = 0

    async def serve() -> web.AppRunner:
        nonlocal port
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", found.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    kubeconfig = scratch / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "agents"}}],
                "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "me", "user": {"token": "x"}}],
            }
        )
    )
    found.kubeconfig = str(kubeconfig)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)
