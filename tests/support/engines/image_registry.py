"""A registry that takes and gives images, by the distribution API, for a test that decides what its tags stand for.

Anonymous and without TLS, on a port of 127.0.0.1. It keeps no list of referrers, so that clients keep one at a tag.
A private one has TLS by an authority of its own, and wants a login: at once (Basic), or for a token (Bearer).
"""

import base64
import contextlib
import hashlib
import json
import ssl
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from claude_sandbox.localcluster.pki.certificates import Subject, issue, new_ca

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_FORWARDER = Path(__file__).with_name("port_to_socket.py")
_CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class ImageRegistry:
    """An asynchronous context manager. `asked`: each request's method and path; `silent`: it answers 503.

    `path`: where it listens as well, for `forwarded`. `elsewhere`: what else answers, by the beginnings of paths; None
    of it leaves the request to the registry.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.asked: list[str] = []
        self.silent = False
        self.host = ""
        self.elsewhere: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse | None]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._uploads: dict[str, bytearray] = {}

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/v2{path:.*}", self._first)
        application.router.add_route("*", "/{other:.*}", self._first)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        if self.path is not None:
            await web.UnixSite(self._runner, str(self.path)).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def put(self, repository: str, tag: str, content: str = "") -> str:
        """An image of nothing, which `content` makes another one; its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "author": content}).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [],
        }
        self.blobs[digest_of(config)] = config
        return self.put_manifest(repository, tag, manifest)

    def put_archive(self, repository: str, tag: str, archive: Path) -> str:
        """An image from its archive; its digest."""
        with tarfile.open(archive) as content:

            def read(name: str) -> bytes:
                found = content.extractfile(name)
                assert found is not None
                return found.read()

            digest = str(json.loads(read("index.json"))["manifests"][0]["digest"])
            for member in content.getnames():
                if member.startswith("blobs/sha256/") and content.getmember(member).isfile():
                    self.blobs[f"sha256:{member.rpartition('/')[2]}"] = read(member)
        kept = self._keep(repository, tag, MANIFEST, self.blobs[digest])
        assert kept == digest
        return digest

    def put_manifest(self, repository: str, tag: str, manifest: dict[str, Any]) -> str:
        """Any manifest; its digest."""
        return self._keep(repository, tag, manifest.get("mediaType", MANIFEST), json.dumps(manifest).encode())

    def _keep(self, repository: str, wanted: str, media: str, content: bytes) -> str:
        digest = digest_of(content)
        for name in (wanted, digest):
            self.manifests[repository, name] = media, content
        return digest

    async def _first(self, request: web.Request) -> web.StreamResponse:
        for beginning, answer in self.elsewhere.items():
            if request.path.startswith(beginning) and (said := await answer(request)) is not None:
                return said
        return await self._answer(request) if "path" in request.match_info else web.Response(status=404)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.silent:
            return web.Response(status=503)
        path = request.match_info["path"].strip("/")
        if not path:
            return web.json_response({})
        if "/blobs/uploads" in path:
            return await self._upload(request, path)
        kind = "manifests" if "/manifests/" in path else "blobs"
        repository, found, wanted = path.partition(f"/{kind}/")
        if not found:
            return web.Response(status=404)
        if request.method == "PUT":
            digest = self._keep(repository, wanted, request.headers["Content-Type"], await request.read())
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        media, content = "application/octet-stream", self.blobs.get(wanted)
        if kind == "manifests":
            media, content = self.manifests.get((repository, wanted), ("", None))
        if content is None:
            return web.Response(status=404)
        headers = {"Docker-Content-Digest": digest_of(content), "Content-Type": media}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        return web.Response(body=content, headers=headers)

    async def _upload(self, request: web.Request, path: str) -> web.Response:
        repository = path.partition("/blobs/uploads")[0]
        if request.method == "POST":
            name = uuid.uuid4().hex
            self._uploads[name] = bytearray()
            return web.Response(status=202, headers={"Location": f"/v2/{repository}/blobs/uploads/{name}"})
        name = path.rpartition("/")[2]
        self._uploads[name] += await request.read()
        if request.method == "PATCH":
            location = f"/v2/{repository}/blobs/uploads/{name}"
            return web.Response(status=202, headers={"Location": location, "Range": f"0-{len(self._uploads[name])}"})
        content = bytes(self._uploads.pop(name))
        self.blobs[digest_of(content)] = content
        return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(content)})


class PrivateRegistry(ImageRegistry):
    """`wants`: Basic or Bearer. `told`: the Authorization of each request. `login` is who may ask."""

    def __init__(self, directory: Path, wants: str, login: tuple[str, str] = ("robot", "not-a-password")) -> None:
        super().__init__()
        self.wants, self.login = wants, login
        self.told: list[str] = []
        self.realm = ""
        """Where tokens are had; empty: here."""
        now = datetime.now(UTC)
        authority = new_ca(f"authority {uuid.uuid4().hex}", now)
        pair = issue(authority, Subject("registry", server=True, names=("127.0.0.1",)), now)
        self.authority = authority.certificate.decode()
        file = directory / f"registry-{uuid.uuid4().hex}.pem"
        file.write_bytes(pair.key + pair.certificate)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(file)
        self.elsewhere = {"/v2": self._let, "/token": self._token}

    @property
    def _basic(self) -> str:
        return f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}"

    async def _let(self, request: web.Request) -> web.Response | None:
        said = request.headers.get("Authorization", "")
        self.told.append(said)
        repository = request.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        repository = repository.partition("/referrers/")[0]
        if said == (self._basic if self.wants == "Basic" else f"Bearer for-{repository}"):
            return None
        realm = self.realm or f"https://{self.host}/token"
        scope = f"repository:{repository}:pull"
        challenge = f'Bearer realm="{realm}",service="{self.host}",scope="{scope}"'
        headers = {"WWW-Authenticate": 'Basic realm="here"' if self.wants == "Basic" else challenge}
        return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers=headers)

    async def _token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != self._basic:
            return web.Response(status=401)
        return web.json_response({"token": f"for-{request.query['scope'].split(':')[1]}"})


@contextlib.contextmanager
def forwarded(registry: ImageRegistry, enter: tuple[str, ...]) -> Iterator[None]:
    """Have the registry listen at its address in the network that a command enters, too."""
    port = registry.host.rpartition(":")[2]
    command = [*enter, sys.executable, "-I", str(_FORWARDER), port, str(registry.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "it can't listen"
            yield
        finally:
            process.terminate()
