"""A git server with TLS and a token, as a process of its own in the network of an engine or a node.

Of team/other it gives tokens to a GitHub App as well, whose public key it has been told.
"""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from gatewaykit import authority
from github_api import APP, INSTALLATION, GitHub, private_key
from http_backend import http_backend
from provider_process import ADDRESS, provider_on

from claude_sandbox.backends.docker.gateway.settings import gateway_settings
from claude_sandbox.localcluster.engine import EngineDescription

TOKEN = "a-token-for-git-1"
_PUBLIC, _GIVEN = "app.pem", "given"
_HOLDS, _HELD = "holds", "held"
BEFORE_HELD = 1 << 20
"""Bytes of an answer that are sent before it is held."""
_CONFIG = {"http.receivepack": "true", "uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}
_WHO = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class GitProcess:
    """`port` is where it listens; repositories are below `files`, and `team/project` has a commit on `main`."""

    port: int
    files: Path
    app_key: str = ""
    """The App's private key, in PEM."""

    def app_secret(self) -> dict[str, str]:
        """The keys of a Secret with it."""
        return {"app-id": APP, "installation-id": str(INSTALLATION), "private-key": self.app_key}

    def given(self) -> list[str]:
        """The tokens that the App was given."""
        return (self.files.parent / _GIVEN).read_text().split()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Meanwhile no answer goes beyond BEFORE_HELD; afterwards those that are held go on."""
        holds, held = (self.files.parent / one for one in (_HOLDS, _HELD))
        held.unlink(missing_ok=True)
        holds.touch()
        try:
            yield
        finally:
            holds.unlink()

    def held(self) -> list[str]:
        """The repositories whose answers are, or were, held since it was begun, each as often as one was."""
        held = self.files.parent / _HELD
        return held.read_text().split() if held.exists() else []

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """What git says of what the server has, `team/project.git` unless another place is given."""
        place = at or self.files / "team/project.git"
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_WHO}
        done = subprocess.run(["git", *arguments], cwd=place, env=environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def refs(self) -> dict[str, str]:
        """The ids by name."""
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ", 1) for line in listed.splitlines())


@contextlib.contextmanager
def git_server_for(host: EngineDescription, directory: Path, name: str) -> Iterator[tuple[GitProcess, dict[str, Any]]]:
    """One of this name that the gateways of an engine's sandboxes reach, beside a provider, and what they are told."""
    trust = authority(directory, ADDRESS, name)
    with (
        provider_on(host, directory),
        git_process(host.netns, ADDRESS, (trust.certificate, trust.key), directory) as found,
    ):
        egress = {"hosts": {name: [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"], "caFile": str(trust.bundle)}
        yield found, gateway_settings(json.dumps({"egress": egress}), lambda file: Path(file).read_text())


@contextlib.contextmanager
def git_process(
    network: Path, address: str, certificate: tuple[Path, Path], directory: Path, port: int = 0
) -> Iterator[GitProcess]:
    """One in a network namespace, on an address that it has already; on a port of its own unless told which."""
    files, log = directory / "server", directory / "git.log"
    private, public = private_key()
    (directory / _PUBLIC).write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (directory / _GIVEN).write_text("")
    first = directory / "first"
    server = GitProcess(0, files, private)
    for made in (files, first):
        made.mkdir()
    for name in ("team/project.git", "team/other.git"):
        server.git("init", "-q", "--bare", "-b", "main", str(files / name), at=files)
    server.git("init", "-q", "-b", "main", at=first)
    for file, text in (("README", "first\n"), (".github/workflows/ci.yml", "on: push\n")):
        (first / file).parent.mkdir(parents=True, exist_ok=True)
        (first / file).write_text(text)
    server.git("add", "-A", at=first)
    server.git("commit", "-qm", "first", at=first)
    for name in ("team/project.git", "team/other.git"):
        server.git("push", "-q", str(files / name), "main", at=first)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                "nsenter",
                f"--net={network}",
                "--",
                sys.executable,
                __file__,
                address,
                str(files),
                *map(str, certificate),
                str(port),
            ],
            stdout=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        deadline = time.monotonic() + 30
        while not (text := log.read_text()).endswith("\n"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the git server does not listen"
            time.sleep(0.02)
        yield GitProcess(int(text), files, private)
    finally:
        process.kill()
        process.wait()


async def main(host: str, files: Path, certificate: str, key: str, port: int) -> None:
    """Serve until ended; anybody is turned away who has not the token."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    holds, held = (files.parent / one for one in (_HOLDS, _HELD))

    async def between(request: web.Request, sent: int) -> None:
        if sent < BEFORE_HELD or not holds.exists():
            return
        with held.open("a") as told:
            told.write(f"{request.path.removeprefix('/').rpartition('/')[0]}\n")
        while holds.exists():  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.05)

    backend = http_backend(files, _CONFIG, between)
    wants = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()

    github = GitHub((files.parent / _PUBLIC).read_bytes(), repositories=("team/other",))

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/api/"):
            answer = await github.handle(request)
            (files.parent / _GIVEN).write_text("\n".join(github.given))
            return answer
        if github.takes(request):
            return await backend(request)
        if request.headers.get("authorization") != wants:
            return web.Response(status=401, headers={"www-authenticate": "Basic"})
        return await backend(request)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
