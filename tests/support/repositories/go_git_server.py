"""A git server that is not git: go-git's, in pure Go, built once into the cache."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web
from git_lab import Handler

from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.locks import locked
from claude_sandbox.localcluster.programs import toolchain

_SOURCE = Path(__file__).parent / "go_git"
_GO = (1, 26)
_CHUNK = 256 * 1024


def go_git_server() -> Path:
    """The program. Raises LocalClusterError, or CalledProcessError where it can't be built."""
    sources = [_SOURCE / name for name in ("main.go", "go.mod", "go.sum")]
    digest = hashlib.sha256(b"".join(one.read_bytes() for one in sources)).hexdigest()[:16]
    home = cache_dir() / "peers" / f"go-git-{digest}"
    with locked(home.parent):
        if not (home / "server").exists():
            home.mkdir(exist_ok=True)
            for one in sources:
                shutil.copy(one, home)
            argv = (str(toolchain.go(_GO, print)), "build", "-o", "server", ".")
            subprocess.run(argv, cwd=home, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return home / "server"


@contextlib.asynccontextmanager
async def go_git(files: Path) -> AsyncIterator[Handler]:
    """What passes requests for `{path:.*}` on to it; repositories are below `files`."""
    program = await asyncio.to_thread(go_git_server)
    process = await asyncio.create_subprocess_exec(program, str(files), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async def handle(request: web.Request) -> web.StreamResponse:
        kept = ("content-type", "content-encoding", "git-protocol", "accept")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        body = request.content.iter_any() if request.can_read_body else None
        url = f"http://127.0.0.1:{port}{request.path_qs}"
        async with session.request(request.method, url, headers=headers, data=body) as answer:
            response = web.StreamResponse(status=answer.status, headers={"content-type": answer.content_type})
            await response.prepare(request)
            async for part in answer.content.iter_chunked(_CHUNK):
                await response.write(part)
            await response.write_eof()
            return response

    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield handle
    finally:
        process.kill()
        await process.wait()
