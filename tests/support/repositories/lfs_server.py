"""A server of large files: its batch API at the repository, and a storage at another name with signed URLs."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

STORAGE = "storage.example.org"
CONTENT_TYPE = "application/vnd.git-lfs+json"


def oid_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pointer(content: bytes) -> str:
    """What is in the repository instead of the file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid_of(content)}\nsize {len(content)}\n"


@dataclass
class LfsServer:
    """`port`: of both. `wants`: the credential that the batch API takes."""

    port: int
    wants: str
    files: dict[str, bytes] = field(default_factory=dict)
    batches: list[dict[str, Any]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    signature: str = field(default_factory=lambda: secrets.token_hex(16))
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    href: str = ""
    """Named instead of the storage's own."""
    cut: int = 0
    """Bytes after which a download breaks off, once."""

    async def api(self, request: web.Request) -> web.StreamResponse:
        """Requests below the repository's `info/lfs/`."""
        if request.headers.get("authorization") != self.wants:
            return web.Response(status=401)
        said = await request.json()
        if request.path.endswith("/verify"):
            self.verified.append(said["oid"])
            return web.Response(status=200 if len(self.files.get(said["oid"], b"")) == said["size"] else 404)
        assert (request.method, request.path) == ("POST", "/team/project.git/info/lfs/objects/batch")
        self.batches.append(said)
        objects = [self._told(said["operation"], one) for one in said["objects"]]
        return web.Response(body=json.dumps({"transfer": "basic", "objects": objects}), content_type=CONTENT_TYPE)

    def _told(self, operation: str, one: dict[str, Any]) -> dict[str, Any]:
        there = one["oid"] in self.files
        if operation == "download" and not there:
            return one | {"error": {"code": 404, "message": "Object does not exist"}}
        if operation == "upload" and there:
            return one
        href = self.href or f"https://{STORAGE}:{self.port}/storage/{one['oid']}?X-Signature={self.signature}"
        actions = {operation: {"href": href, "header": {"X-Storage-Token": self.token}, "expires_in": 60}}
        if operation == "upload":
            verify = f"https://git.example.org:{self.port}/team/project.git/info/lfs/verify"
            actions["verify"] = {"href": verify, "header": {}}
        return one | {"authenticated": True, "actions": actions}

    async def storage(self, request: web.Request) -> web.StreamResponse:
        """Requests below `/storage/`, of whoever has the signature."""
        oid = request.path.rpartition("/")[2]
        if (
            request.query.get("X-Signature") != self.signature
            or request.headers.get("x-storage-token") != self.token
            or request.host != f"{STORAGE}:{self.port}"
            or "authorization" in request.headers
        ):
            return web.Response(status=403)
        if request.method == "PUT":
            content = await request.read()
            self.files[oid] = content
            self.stored.append(oid)
            return web.Response()
        content = self.files[oid]
        begin = 0
        if "range" in request.headers:
            self.ranges.append(request.headers["range"])
            begin = int(request.headers["range"].removeprefix("bytes=").partition("-")[0])
        headers = {"content-length": str(len(content) - begin)}
        if begin:
            headers["content-range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await response.prepare(request)
        cut, self.cut = self.cut, 0
        await response.write(content[begin : begin + cut] if cut else content[begin:])
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response
