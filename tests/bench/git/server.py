"""Git's own server over TLS in a process of its own: `python -m tests.bench.git.server FILES CERTIFICATE KEY`. Prints
its port."""

import asyncio
import ssl
import sys
from pathlib import Path

from git_lab import serve
from http_backend import http_backend


async def main() -> None:
    """Until it is ended."""
    files, certificate, key = map(Path, sys.argv[1:])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    backend = http_backend(files, {"uploadpack.allowFilter": "true"})
    async with serve(backend, "/{path:.*}", context) as port:
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
