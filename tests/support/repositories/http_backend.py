"""Git's own server (`git http-backend`), as a handler of aiohttp's."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

_CHUNK = 256 * 1024


def http_backend(
    files: Path,
    config: dict[str, str] | None = None,
    between: Callable[[web.Request, int], Awaitable[None]] | None = None,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """For a route with `{path:.*}`: repositories are below `files`; `config` is git's.

    `between` is waited for before each further part of an answer; it is given how many bytes were sent already.
    """
    settings = {"safe.directory": "*", **(config or {})}

    async def handle(request: web.Request) -> web.StreamResponse:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(files),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": str(len(settings)),
            **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(settings)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(settings.values())},
            "REMOTE_USER": "somebody",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": f"/{request.match_info['path']}",
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "HTTP_GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        }
        pipe = asyncio.subprocess.PIPE
        backend = await asyncio.create_subprocess_exec("git", "http-backend", stdin=pipe, stdout=pipe, env=environment)
        assert backend.stdin is not None
        assert backend.stdout is not None
        feeding = asyncio.create_task(_feed(request, backend.stdin))
        try:
            head = await backend.stdout.readuntil(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().strip().split("\r\n"))
            response = web.StreamResponse(status=int(headers.pop("Status", "200").split()[0]), headers=headers)
            await response.prepare(request)
            sent = 0
            while part := await backend.stdout.read(_CHUNK):
                if between is not None:
                    await between(request, sent)
                await response.write(part)
                sent += len(part)
            await backend.wait()
            await response.write_eof()
            return response
        except BaseException:
            # Its pipes too: a child of it may still be writing to them, and would be waited for.
            backend._transport.close()  # type: ignore[attr-defined]
            raise
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    return handle


async def _feed(request: web.Request, program: asyncio.StreamWriter) -> None:
    """The request's body. One that is cut off is cut off for the program as well, as a web server would."""
    with contextlib.suppress(ConnectionError):
        while part := await request.content.readany():
            program.write(part)
            await program.drain()
    program.close()
