"""A git server that wants a credential, the gateway's part for git before it, and git itself as its client."""

import asyncio
import base64
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from http_backend import http_backend

from claude_sandbox.gateway.git.forwarder import GitForwarder, Judging
from claude_sandbox.gateway.git.passage import Passage, Server
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.spool import Room

AUTHORIZATION = "Basic " + base64.b64encode(b"x-access-token:not-for-the-agent").decode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CONFIG = {"http.receivepack": "true", "uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}


@dataclass
class Said:
    """What a command said, and how it ended."""

    code: int
    text: str


@dataclass
class GitLab:
    """`direct` is the server itself, `url` the way by the gateway; both for `team/project.git`."""

    files: Path
    direct: str
    url: str
    rules: PushRules | None
    passages: list[Passage] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of what reached the server."""
    wants: str = AUTHORIZATION
    """The credential that the server takes."""
    takes: Callable[[web.Request], bool] | None = None
    """Which requests the server takes, where it isn't one credential."""
    elsewhere: dict[str, Handler] = field(default_factory=dict)
    """What else answers, by the beginnings of paths."""
    path: str = field(default_factory=lambda: os.environ["PATH"])
    """Where git and what it runs are looked for."""
    before: Callable[[web.Request], Awaitable[None]] | None = None
    """What the server waits for before it answers."""
    answers: web.Response | None = None
    """What the server answers next, instead of git's."""

    async def git(self, *arguments: str, at: Path | None = None, **environment: str) -> Said:
        """Run git as an agent's program does: without a credential."""
        who = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        process = await asyncio.create_subprocess_exec(
            *("git", *arguments),
            cwd=at or self.files,
            env={"PATH": self.path, "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", **who, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, said.decode(errors="replace"))

    async def run(self, *arguments: str, at: Path | None = None) -> str:
        """As `git`, which has to go well."""
        said = await self.git(*arguments, at=at)
        assert said.code == 0, f"git {arguments}: {said.text}"
        return said.text

    async def refs(self) -> dict[str, str]:
        """The server's, by name."""
        listed = await self.run("for-each-ref", "--format=%(refname) %(objectname)", at=self.files / "team/project.git")
        return dict(line.split(" ", 1) for line in listed.splitlines())


@contextlib.asynccontextmanager
async def git_lab(
    directory: Path,
    rules: PushRules | None,
    config: dict[str, str] | None = None,
    *,
    made: bool = False,
    context: ssl.SSLContext | None = None,
    judging: Judging | None = None,
    server_program: Callable[[Path], contextlib.AbstractAsyncContextManager[Handler]] | None = None,
) -> AsyncIterator[GitLab]:
    """Servers on loopback, and `team/project.git` with a first commit on `main`, which may be `made` already.

    `server_program`: what answers as git's server, instead of git's own.
    """
    files, spool = directory / "server", directory / "spool"
    files.mkdir(exist_ok=made)
    spool.mkdir(exist_ok=made)
    lab = GitLab(files, "", "", rules)
    backend: Handler = http_backend(files, _CONFIG | (config or {}))

    async def server(request: web.Request) -> web.StreamResponse:
        for begins, other in lab.elsewhere.items():
            if request.path.startswith(begins):
                return await other(request)
        lab.asked.append((request.method, request.path_qs))
        if lab.before is not None:
            await lab.before(request)
        if lab.answers is not None:
            answer, lab.answers = lab.answers, None
            return answer
        if not (lab.takes(request) if lab.takes else request.headers.get("authorization") == lab.wants):
            return web.Response(status=401, headers={"www-authenticate": "Basic"})
        return await backend(request)

    async def gateway(request: web.Request) -> web.StreamResponse:
        passage = Passage()
        lab.passages.append(passage)
        there = Server(lab.direct, AUTHORIZATION, lab.rules)
        return await forwarder.handle(request, request.match_info["below"], there, passage)

    async with (
        aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(force_close=True)) as session,
        serve(server, "/{path:.*}", context) as port,
        serve(gateway, "/git/{below:.*}") as by_gateway,
        contextlib.AsyncExitStack() as stack,
    ):
        if server_program is not None:
            backend = await stack.enter_async_context(server_program(files))
        forwarder = GitForwarder(lambda: session, judging or Judging(Room(spool, 1 << 30, 4 << 30)))
        lab.direct, lab.url = f"http://127.0.0.1:{port}/team/project.git", f"http://127.0.0.1:{by_gateway}/git"
        if not made:
            await _first(lab, directory / "first")
        yield lab
        assert not list(spool.iterdir())


@contextlib.asynccontextmanager
async def serve(handler: Handler, path: str, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback with one handler; its port."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _first(lab: GitLab, work: Path) -> None:
    await lab.run("init", "-q", "--bare", "-b", "main", str(lab.files / "team/project.git"))
    await lab.run("init", "-q", "-b", "main", str(work))
    for name in ("README", ".github/workflows/ci.yml", "src/a.py"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"{name}\n")
    await lab.run("add", "-A", at=work)
    await lab.run("commit", "-qm", "first", at=work)
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=work)
