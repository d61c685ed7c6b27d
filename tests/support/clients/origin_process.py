"""The server of `origin`, with TLS and without, as a process of its own in the network of an engine or a node."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewaykit import Authority
from origin import origin


@dataclass(frozen=True)
class OriginProcess:
    """Its ports, where it serves `files`, and who vouches for its certificate."""

    secure: int
    plain: int
    files: Path
    trust: Authority


@contextlib.contextmanager
def origin_process(network: Path, address: str, trust: Authority, directory: Path) -> Iterator[OriginProcess]:
    """One in a network namespace, on an address that it has already."""
    files, log = directory / "files", directory / "origin.log"
    files.mkdir()
    inside = ("nsenter", f"--net={network}", "--", sys.executable, __file__)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*inside, address, str(files), str(trust.certificate), str(trust.key)],
            stdout=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        deadline = time.monotonic() + 30
        while not (text := log.read_text()).endswith("\n"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.02)
        secure, plain = map(int, text.split())
        yield OriginProcess(secure, plain, files, trust)
    finally:
        process.kill()
        process.wait()


async def main(address: str, files: Path, certificate: str, key: str) -> None:
    """Serve until ended."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with origin(files, context, address) as secure, origin(files, address=address) as plain:
        print(secure, plain, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
