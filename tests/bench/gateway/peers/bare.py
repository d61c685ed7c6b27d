"""Thirty lines of aiohttp that replace the key and pass everything on: what any broker costs in this language.

It counts nothing, reads no body, refuses nothing and writes nothing down. Run with the provider's port, the key and a
port to listen on.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from tests.bench.gateway.peers.running import Running, Wanted, free_port, process


def here(_report: Callable[[str], None]) -> Path:
    """This program."""
    return Path(sys.executable)


@contextlib.asynccontextmanager
async def bare(program: Path, directory: Path, wanted: Wanted) -> AsyncIterator[Running]:
    """It, as a broker."""
    port = free_port()
    argv = (str(program), __file__, str(wanted.provider), wanted.key, str(port))
    environment = {"PYTHONPATH": str(Path(__file__).parents[4])}
    async with process(argv, directory, port, environment) as started:
        yield Running(started.pid, broker=f"127.0.0.1:{port}")


async def serve(provider: int, key: str, port: int) -> None:
    """Until it is ended."""
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            headers = {**request.headers, "x-api-key": key}
            url = f"http://127.0.0.1:{provider}{request.raw_path}"
            body = await request.read()
            async with session.request(request.method, url, data=body, headers=headers) as answer:
                response = web.StreamResponse(status=answer.status)
                response.headers["content-type"] = answer.headers["content-type"]
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                return response

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
