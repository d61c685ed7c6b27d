"""Package registries that want a credential, used by pip, npm and cargo as they find them in a sandbox: by what the
operator sets and nothing else. Each of the registries names its own host in what it lists."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from client_lab import Lab, needs
from gatewaykit import authority, document, running

from claude_sandbox.api.fields.work.services import Service
from claude_sandbox.blueprint.agent import SETTINGS_DIRECTORY
from claude_sandbox.blueprint.services import environment, files, for_gateway
from claude_sandbox.claudecode.pinned import Api, through

HOST, TOKEN = "registry.example.org", "token-of-the-registry"


@dataclass
class Registry:
    """`lab`: programs of a sandbox. `listed`: by path, what is answered, with its type."""

    lab: Lab
    at: str
    listed: dict[str, tuple[str, bytes]]
    refused: list[str]
    declared: Service


@contextlib.asynccontextmanager
async def registry(directory: Path, kind: str, path: str, paths: list[str]) -> AsyncIterator[Registry]:
    """A service of one sandbox, of this kind of registry."""
    trust, listed, refused = authority(directory, HOST), dict[str, tuple[str, bytes]](), list[str]()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Basic {TOKEN}":
            refused.append(request.raw_path)
            return web.Response(status=401, headers={"www-authenticate": "Basic"})
        if request.path == "/socket":
            return await _socket(request)
        content_type, body = listed.get(request.raw_path.partition("?")[0], ("", b""))
        return web.Response(body=body, content_type=content_type) if content_type else web.Response(status=404)

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust.server()).start()
    at = f"{HOST}:{runner.addresses[0][1]}"
    (directory / "token").write_text(TOKEN)
    header = {"prefix": "Basic ", "valueFrom": {"secretKeyRef": {"name": "registry"}}}
    registry = {"type": kind, "path": path} if kind else None
    spec = Service.model_validate(
        {"name": "packages", "host": at, "header": header, "paths": paths, "registry": registry}
    )
    (wanted,) = for_gateway([spec])
    one: dict[str, Any] = {
        "name": wanted.name, "host": wanted.host, "paths": list(wanted.paths), "methods": list(wanted.methods),
        "header": {"name": "Authorization", "prefix": "Basic ", "file": str(directory / "token")},
    }  # fmt: skip
    if wanted.registry is not None:
        one["registry"] = {"type": wanted.registry}
    configuration = document(directory, services=[one], proxyIdentity="Network")
    configuration["provider"]["caFile"] = str(trust.bundle)
    configuration["egress"]["hosts"] = {HOST: ["127.0.0.1"]}
    try:
        with running(directory, configuration) as gateway:
            api = Api(f"http://{gateway.broker}", f"http://{gateway.proxy}")
            kept = {
                name: os.environ[name] for name in ("PATH", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN") if name in os.environ
            }
            found = {**through(api), **environment([spec]), **kept}
            yield Registry(Lab(gateway, trust, directory / "files", "", "", found), at, listed, refused, spec)
    finally:
        await runner.cleanup()


async def _socket(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"{message.data} again")
    return socket


def packed(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path, content in ((name, text), (f"{name.partition('/')[0]}/src/lib.rs", "")):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return data.getvalue()


@needs("mvn")
async def test_maven_resolves_what_a_project_needs(tmp_path: Path) -> None:
    """Whatever repository the project names, here one without TLS, which Maven by itself would not ask. Maven 3.9 takes
    MAVEN_ARGS before its own arguments, as here an earlier one is given them."""
    async with registry(tmp_path, "Maven", "/maven/", ["/maven/*"]) as found:
        head = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        parent = "<groupId>org.example</groupId><artifactId>nothing-here</artifactId><version>1.0</version>"
        pom, name = f"{head}{parent}<packaging>pom</packaging></project>".encode(), "nothing-here-1.0.pom"
        there = f"/maven/org/example/nothing-here/1.0/{name}"
        found.listed[there] = "text/xml", pom
        found.listed[f"{there}.sha1"] = "text/plain", hashlib.sha1(pom).hexdigest().encode()  # noqa: S324
        home = found.lab.home
        (home / "pom.xml").write_text(
            f"{head}<parent>{parent}<relativePath/></parent><artifactId>here</artifactId><packaging>pom</packaging>"
            f"<repositories><repository><id>here</id><url>http://repo.example.net/maven</url></repository></repositories></project>"
        )
        given = tmp_path / "given"
        given.mkdir()
        for path, text in files([found.declared]):
            (given / path).write_text(text)
        arguments = found.lab.environment.pop("MAVEN_ARGS").replace(SETTINGS_DIRECTORY, str(given)).split()
        assert arguments[1].startswith(str(given))
        said = await found.lab.run(
            "mvn", *arguments, "--batch-mode", "--quiet", "validate", MAVEN_OPTS=f"-Duser.home={home}"
        )
        assert said.returncode == 0, said.stdout + said.stderr
        assert (home / ".m2/repository/org/example/nothing-here/1.0" / name).read_bytes() == pom
        assert found.refused == []


async def test_pip_installs(tmp_path: Path) -> None:
    async with registry(tmp_path, "PyPI", "/simple/", ["/simple/*", "/packages/*"]) as found:
        data, name = io.BytesIO(), "nothing_here-1.0-py3-none-any.whl"
        with zipfile.ZipFile(data, "w") as wheel:
            info = "nothing_here-1.0.dist-info"
            wheel.writestr("nothing_here.py", "")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nothing-here\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        digest = hashlib.sha256(data.getvalue()).hexdigest()
        link = f'<a href="https://{found.at}/packages/{name}#sha256={digest}">{name}</a>'
        found.listed["/simple/nothing-here/"] = "text/html", f"<!DOCTYPE html><html><body>{link}".encode()
        found.listed[f"/packages/{name}"] = "application/octet-stream", data.getvalue()
        said = await found.lab.run(
            sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-deps",
            "--target", str(found.lab.home / "there"), "nothing-here",
        )  # fmt: skip
        assert said.returncode == 0, said.stdout + said.stderr
        assert (found.lab.home / "there/nothing_here.py").exists()
        assert found.refused == []


@needs("npm")
async def test_npm_installs_a_package_with_a_scope(tmp_path: Path) -> None:
    async with registry(tmp_path, "NPM", "/", ["/*"]) as found:
        archive = packed("package/package.json", json.dumps({"name": "@team/nothing-here", "version": "1.0.0"}))
        digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        tarball = f"https://{found.at}/@team/nothing-here/-/nothing-here-1.0.0.tgz"
        version = {"name": "@team/nothing-here", "version": "1.0.0",
                   "dist": {"tarball": tarball, "integrity": f"sha512-{digest}"}}  # fmt: skip
        package = {"name": "@team/nothing-here", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        found.listed["/@team%2fnothing-here"] = "application/json", json.dumps(package).encode()
        found.listed["/@team/nothing-here/-/nothing-here-1.0.0.tgz"] = "application/octet-stream", archive
        said = await found.lab.run(
            "npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries", "0",
            "@team/nothing-here",
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert (found.lab.home / "node_modules/@team/nothing-here/package.json").exists()
        assert found.refused == []


@needs("cargo")
async def test_cargo_fetches_a_crate(tmp_path: Path) -> None:
    async with registry(tmp_path, "Cargo", "/index/", ["/index/*", "/crates/*"]) as found:
        name = "nothing-here"
        manifest = f'[package]\nname = "{name}"\nversion = "1.0.0"\nedition = "2021"\n'
        crate = packed(f"{name}-1.0.0/Cargo.toml", manifest)
        entry = {"name": name, "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
                 "cksum": hashlib.sha256(crate).hexdigest()}  # fmt: skip
        at = {"dl": f"https://{found.at}/crates/{{crate}}-{{version}}.crate"}
        found.listed["/index/config.json"] = "text/plain", json.dumps(at).encode()
        found.listed[f"/index/no/th/{name}"] = "text/plain", json.dumps(entry).encode() + b"\n"
        found.listed[f"/crates/{name}-1.0.0.crate"] = "application/octet-stream", crate
        (found.lab.home / "src").mkdir()
        (found.lab.home / "src/lib.rs").touch()
        (found.lab.home / "Cargo.toml").write_text(
            f'[package]\nname = "here"\nversion = "0.0.0"\nedition = "2021"\n'
            f'[dependencies]\n{name} = {{ version = "1", registry = "packages" }}\n'
        )
        rustup = {"RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
        said = await found.lab.run("cargo", "fetch", "--quiet", **rustup)
        assert said.returncode == 0, said.stderr
        assert list((found.lab.home / ".cargo/registry/cache").glob(f"*/{name}-1.0.0.crate"))
        assert found.refused == []


async def test_a_websocket(tmp_path: Path) -> None:
    async with registry(tmp_path, "", "", ["/socket"]) as found:
        host, _, port = found.lab.gateway.proxy.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET http://packages.services/socket HTTP/1.1\r\nHost: packages.services\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        # The answer to this key is the one of RFC 6455, 1.3.
        assert b" 101 " in head
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        for text in (b"one", b"two"):
            # A text, masked with zeros.
            writer.write(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
            assert await reader.readexactly(2 + len(text) + 6) == bytes([0x81, len(text) + 6]) + text + b" again"
        writer.transport.abort()
        (line,) = await found.lab.gateway.audited(1)
        assert (line["kind"], line["verdict"], line["status"]) == ("service", "Allowed", 101)
