"""A git server with TLS and a token, as a process of its own in the network of an engine or a node."""

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from http_backend import http_backend

TOKEN = "a-token-for-git-1"
_CONFIG = {"http.receivepack": "true", "uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}
_WHO = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass(frozen=True)
class GitProcess:
    """`port` is where it listens; repositories are below `files`, and `team/project` has a commit on `main`."""

    port: int
    files: Path

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
def git_process(network: Path, address: str, certificate: tuple[Path, Path], directory: Path) -> Iterator[GitProcess]:
    """One in a network namespace, on an address that it has already."""
    files, log = directory / "server", directory / "git.log"
    first = directory / "first"
    server = GitProcess(0, files)
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
        yield GitProcess(int(text), files)
    finally:
        process.kill()
        process.wait()


async def main(host: str, files: Path, certificate: str, key: str) -> None:
    """Serve until ended; anybody is turned away who has not the token."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    backend = http_backend(files, _CONFIG)
    wants = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != wants:
            return web.Response(status=401, headers={"www-authenticate": "Basic"})
        return await backend(request)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=context).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
