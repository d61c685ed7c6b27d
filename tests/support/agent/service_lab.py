"""A service with TLS that wants a credential, and a gateway that has it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from gatewaykit import Authority, Gateway, Seen, authority, document, running

LARGE = 16 << 20
HOST, IMPOSTOR = "issues.example.org", "impostor.example.org"
TOKEN = "service-token-that-is-not-for-the-agent"


@dataclass
class ServiceLab:
    """`at`: the service's own name and port. `seen`: what came to it. `go_on` lets its events end."""

    trust: Authority
    credential: Path
    at: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    gateway: Gateway = None  # type: ignore[assignment]

    @property
    def service(self) -> dict[str, Any]:
        """The first of the sandbox's services, as it is configured."""
        found: dict[str, Any] = self.document["sandboxes"][0]["services"][0]
        return found


@contextlib.asynccontextmanager
async def service(directory: Path) -> AsyncIterator[ServiceLab]:
    """The service alone."""
    credential = directory / "service"
    credential.write_text(TOKEN + "\n")
    lab = ServiceLab(authority(directory, HOST), credential)
    runner = web.ServerRunner(web.Server(lambda request: _answer(lab, request), access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=lab.trust.server()).start()
    lab.at = f"{HOST}:{runner.addresses[0][1]}"
    try:
        yield lab
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def service_lab(directory: Path, provider: str = "http://127.0.0.1:9", **more: Any) -> AsyncIterator[ServiceLab]:
    """The service and the gateway; `more`: what else is said of it."""
    async with service(directory) as lab:
        lab.document = one = document(directory, provider=provider)
        one["egress"]["hosts"] = {HOST: ["127.0.0.1"], IMPOSTOR: ["127.0.0.1"]}
        one["provider"]["caFile"] = str(lab.trust.bundle)
        header = {"name": "Authorization", "prefix": "Bearer ", "file": str(lab.credential)}
        first = {"name": "issues", "host": lab.at, "header": header, "paths": ["/api/*"],
                 "methods": ["GET", "HEAD", "POST"], **more}  # fmt: skip
        impostor = {**first, "name": "impostor", "host": lab.at.replace(HOST, IMPOSTOR)}
        one["sandboxes"][0]["services"] = [first, impostor]
        with running(directory, one) as gateway:
            lab.gateway = gateway
            yield lab


async def _answer(lab: ServiceLab, request: web.BaseRequest) -> web.StreamResponse:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
    if request.path == "/api/socket":
        lab.seen.append(Seen(request.method, request.raw_path, headers, b""))
        return await _socket(request)
    body = await request.read() if request.path != "/api/length" else b""
    lab.seen.append(Seen(request.method, request.raw_path, headers, body))
    if request.path == "/api/length":
        return web.Response(text=str(sum([len(part) async for part in request.content.iter_any()])))
    if request.path == "/api/moved":
        return web.Response(status=302, headers={"location": f"https://{lab.at}/api/items"})
    if request.path == "/api/elsewhere":
        return web.Response(status=302, headers={"location": "https://files.example.net/x?signature=1"})
    if request.path == "/api/events":
        return await _events(lab, request)
    if request.path == "/api/large":
        return web.Response(body=bytes(range(256)) * (LARGE // 256))
    if request.path == "/api/mcp":
        return _mcp(request, body)
    return web.Response(text="items\n", headers={"set-cookie": "session=1"})


def _mcp(request: web.BaseRequest, body: bytes) -> web.Response:
    """A server of the Model Context Protocol (2025-06-18) by HTTP, with one tool."""
    if request.method != "POST":
        return web.Response(status=405)
    asked = json.loads(body)
    if "id" not in asked:
        return web.Response(status=202)
    known = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "i", "version": "1"},
    }
    tool = {"name": "count", "description": "Counts.", "inputSchema": {"type": "object", "properties": {}}}
    results = {"initialize": known, "tools/list": {"tools": [tool]}}
    unknown = {"error": {"code": -32601, "message": "there is no such method"}}
    said = {"result": results[asked["method"]]} if asked["method"] in results else unknown
    return web.json_response({"jsonrpc": "2.0", "id": asked["id"], **said})


async def _events(lab: ServiceLab, request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: 0\n\n")
    await lab.go_on.wait()
    await response.write(b"data: 1\n\n")
    return response


async def _socket(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"{message.data} again")
    return socket
