"""A stand-in for the provider as a process of its own, in the network of an engine or a node, and what it was told."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from anthropic_stand_in import serving

from claude_sandbox.localcluster.engine import EngineDescription

ADDRESS = "10.99.99.99"
"""The engine's own; its containers reach it by their way out."""


@dataclass(frozen=True)
class ProviderProcess:
    """`url` is where it listens, for the engine's containers."""

    url: str
    _log: Path

    def answers(self, status: int) -> None:
        """From now on it answers each request so (`anthropic_stand_in.HANGS`: not at all)."""
        _status_file(self._log.parent).write_text(str(status))

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked, the headers with a key among it."""
        return [json.loads(line) for line in self._log.read_text().splitlines()[1:]]


def provider_on(
    of: EngineDescription, directory: Path, certificate: tuple[Path, ...] = ()
) -> contextlib.AbstractContextManager[ProviderProcess]:
    """One that the engine's containers can reach, and nothing else on the machine; with a certificate and its key it
    speaks TLS."""
    return provider_in(of.netns, directory, certificate)


@contextlib.contextmanager
def provider_in(
    network: Path, directory: Path, certificate: tuple[Path, ...] = (), address: str = ADDRESS
) -> Iterator[ProviderProcess]:
    """One in a network namespace, on an address of its own there, of IPv4 or IPv6."""
    inside = ("nsenter", f"--net={network}", "--")
    subprocess.run([*inside, "ip", "address", "replace", str(ip_interface(address)), "dev", "lo"], check=True)
    log = directory / "provider.log"
    path = os.pathsep.join(sys.path)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*inside, sys.executable, __file__, address, str(_status_file(directory)), *map(str, certificate)],
            stdout=out,
            env=os.environ | {"PYTHONPATH": path},
        )
    try:
        deadline = time.monotonic() + 30
        while not (text := log.read_text()).endswith("\n"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the stand-in does not listen"
            time.sleep(0.02)
        yield ProviderProcess(text.split("\n", 1)[0], log)
    finally:
        process.kill()
        process.wait()
        subprocess.run([*inside, "ip", "address", "del", str(ip_interface(address)), "dev", "lo"], check=False)


def _status_file(directory: Path) -> Path:
    return directory / "provider.status"


def main(host: str, status: Path, *certificate: str) -> None:
    def now() -> int:
        text = status.read_text() if status.exists() else ""
        return int(text) if text else 200

    tls = (Path(certificate[0]), Path(certificate[1])) if certificate else None
    with serving(host, tls, now) as api:
        print(api.url, flush=True)
        told = 0
        while True:
            time.sleep(0.02)
            for one in api.requests[told:]:
                told += 1
                print(
                    json.dumps({"method": one.method, "path": one.path, "key": one.key, "token": one.token}), flush=True
                )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
