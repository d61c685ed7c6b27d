"""Clones of one repository from git's own server over TLS: directly, by the gateway as on Docker, where nobody else is
on the network to it, and by the gateway as on Kubernetes, where it is reached by TLS too; in turn.

Client, server and gateway share the machine, so the figures are good for comparing within the run. The repository's
files can't be compressed and its pack is made before: what is measured is the way, and what git does with what comes.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewaykit import PLACEHOLDER, Authority, Gateway, authority, document, running
from tests.bench.gateway.load import NAME, cpu
from tests.bench.machine import memory

DIRECT, PLAIN, TLS = "direct", "gateway", "gateway by TLS"
_FILE = 1024 * 1024


@dataclass(frozen=True)
class Sizes:
    """MiB of each repository that is cloned, and how often."""

    megabytes: tuple[int, ...] = (100,)
    rounds: int = 6


@dataclass(frozen=True)
class Cloned:
    """Of a repository of so many MiB: seconds of each clone by each way; of the gateway on a way, CPU seconds for one
    clone, and bytes of memory at most."""

    megabytes: int
    seconds: Mapping[str, tuple[float, ...]]
    cpu: Mapping[str, float]
    memory: Mapping[str, int]


async def measure(directory: Path, sizes: Sizes, report: Callable[[str], None]) -> tuple[Cloned, ...]:
    """Make the repositories, start everything, and measure."""
    trust, files = authority(directory, NAME), directory / "server"
    (directory / "token").write_text("token\n")
    for megabytes in sizes.megabytes:
        report(f"A repository of {megabytes} MiB.")
        await made(files / f"team/{megabytes}.git", directory / "work", megabytes)
    found = []
    async with _server(files, trust.certificate, trust.key) as port:
        for size in sizes.megabytes:
            with contextlib.ExitStack() as stack:
                gateways = {}
                for way in (PLAIN, TLS):
                    (own := directory / way.replace(" ", "-")).mkdir(exist_ok=True)
                    told = _configuration(own, directory, port, sizes, trust, tls=way == TLS)
                    gateways[way] = stack.enter_context(running(own, told))
                ways = _Ways(directory, port, gateways, trust.bundle)
                found.append(await _measured(ways, size, sizes.rounds, report))
    return tuple(found)


def _configuration(
    own: Path, directory: Path, port: int, sizes: Sizes, trust: Authority, *, tls: bool
) -> dict[str, Any]:
    """Of a gateway whose files are in `own`."""
    one = document(own)
    one["egress"]["hosts"] = {NAME: ["127.0.0.1"]}
    one["provider"]["caFile"] = str(trust.bundle)
    one["sandboxes"][0]["repositories"] = [
        {"url": f"https://{NAME}:{port}/team/{size}", "credential": {"file": str(directory / "token")}}
        for size in sizes.megabytes
    ]
    if tls:
        one["listen"] = {"broker": {"certificateFile": str(trust.certificate), "keyFile": str(trust.key)}}
    return one


@dataclass(frozen=True)
class _Ways:
    """To one server."""

    directory: Path
    port: int
    gateways: Mapping[str, Gateway]
    bundle: Path

    async def clone(self, way: str, megabytes: int) -> float:
        """Seconds."""
        there, at = self.directory / "clone", f"{NAME}:{self.port}/team/{megabytes}.git"
        helper = f"!f() {{ echo username=sandbox; echo password={PLACEHOLDER}; }}; f"
        options, url = ("-c", f"credential.helper={helper}"), f"https://{at}"
        if way == PLAIN:
            url = f"http://{self.gateways[way].broker}/git/{at}"
        else:
            to = self.port
            if way == TLS:
                to = int(self.gateways[way].broker.rpartition(":")[2])
                url = f"https://{NAME}:{to}/git/{at}"
            options += ("-c", f"http.curloptResolve={NAME}:{to}:127.0.0.1", "-c", f"http.sslCAInfo={self.bundle}")
        started = time.monotonic()
        await _git(self.directory, *options, "clone", "-q", url, str(there))
        seconds = time.monotonic() - started
        await asyncio.to_thread(shutil.rmtree, there)
        return seconds


async def _measured(ways: _Ways, megabytes: int, rounds: int, report: Callable[[str], None]) -> Cloned:
    seconds: dict[str, list[float]] = {DIRECT: [], PLAIN: [], TLS: []}
    for way in seconds:
        await ways.clone(way, megabytes)
    pids = {way: gateway.process.pid for way, gateway in ways.gateways.items()}
    before = {way: cpu(pid) for way, pid in pids.items()}
    for number in range(rounds):
        report(f"Clones of {megabytes} MiB ({number + 1} of {rounds}).")
        # Each way is the first one in turn: what is written by one is on the disk's way in the next.
        order = [*seconds][number % 3 :] + [*seconds][: number % 3]
        for way in order:
            seconds[way].append(await ways.clone(way, megabytes))
    return Cloned(
        megabytes,
        {way: tuple(each) for way, each in seconds.items()},
        {way: (cpu(pid) - before[way]) / rounds for way, pid in pids.items()},
        {way: memory(pid).peak for way, pid in pids.items()},
    )


async def made(bare: Path, work: Path, megabytes: int) -> None:
    """A bare repository of so many MiB, which nothing makes smaller; `work` is there meanwhile."""
    await asyncio.to_thread(work.mkdir)
    await _git(work, "init", "-q", "-b", "main")
    await _git(work, "config", "core.compression", "0")
    content = random.Random(megabytes)  # noqa: S311
    for number in range(megabytes):
        (work / hashlib.sha256(b"%d" % number).hexdigest()[:8]).write_bytes(content.randbytes(_FILE))
    await _git(work, "add", "-A")
    await _git(work, "commit", "-qm", "all")
    await _git(work, "clone", "-q", "--bare", "--no-local", str(work), str(bare))
    await asyncio.to_thread(shutil.rmtree, work)


@contextlib.asynccontextmanager
async def _server(files: Path, certificate: Path, key: Path) -> AsyncIterator[int]:
    argv = (sys.executable, "-m", "tests.bench.git.server", str(files), str(certificate), str(key))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def _git(at: Path, *arguments: str) -> None:
    who = {f"GIT_{one}_{what}": "a@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", **who}
    process = await asyncio.create_subprocess_exec("git", *arguments, cwd=at, env=environment)
    if await process.wait():
        raise RuntimeError(f"git {arguments[0]} failed")
