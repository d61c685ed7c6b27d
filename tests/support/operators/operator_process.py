"""The operator as a process of its own, which can be killed."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
from loopback import free_address
from nursery import ENVIRONMENT, Nursery

IMAGE = "example.org/sandbox@sha256:" + "a" * 64
GRACE = 30.0


class OperatorProcess:
    """`claude-sandbox run` with one set of options; may be started again and again.

    Without a nursery it is started as a person would, and its return code is known.
    """

    def __init__(self, kubeconfig: Path, log: Path, *options: str, nursery: Nursery | None = None) -> None:
        self.log = log
        self.on_end: Callable[[], None] = lambda: None
        """Called when the process ends."""
        self.returncode: int | None = None
        self._nursery = nursery
        self._address = f"{free_address(8080)}:8080"
        self._arguments = [
            f"--kubeconfig={kubeconfig}",
            f"--sandbox-image={IMAGE}",
            f"--bind={self._address}",
            "--log-format=text",
            *options,
        ]
        self._pidfd: int | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._gone = asyncio.Event()
        self._to_end = True

    async def start(self) -> None:
        """Start it, and return when the process exists."""
        assert not self.alive
        self._to_end = False
        self._gone.clear()
        if self._nursery is not None:
            pid = self._nursery.start(self._arguments, self.log)
        else:
            pid = await self._exec()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    async def _exec(self) -> int:
        with self.log.open("ab") as out:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "claude_sandbox.cli.main", "run", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=ENVIRONMENT,
            )
        return self._child.pid

    def _ended(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = None
        self._gone.set()
        self.on_end()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._pidfd is not None

    @property
    def failed(self) -> bool:
        """Whether it ended without having been told to."""
        return not self._to_end and not self.alive

    def expect_end(self) -> None:
        """It is going to end by itself, and that is no failure."""
        self._to_end = True

    def kill(self) -> None:
        """As a crash or the kernel would. Returns at once; the process does nothing more."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """As Kubernetes does first."""
        self._send(signal.SIGTERM)

    def freeze(self) -> None:
        """As a machine that is suspended does."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """End what `freeze` began."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        self._to_end = self._to_end or number in (signal.SIGKILL, signal.SIGTERM)
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def ended(self) -> None:
        """Wait for the end."""
        await asyncio.wait_for(self._gone.wait(), GRACE)
        if self._child is not None:
            self.returncode = await self._child.wait()

    async def stop(self) -> None:
        """Tell it to stop, and wait."""
        if self.alive:
            self.terminate()
            await self.ended()

    async def crash(self) -> None:
        """Kill it and wait until it is gone."""
        if self.alive:
            self.kill()
            await self.ended()

    async def restart(self) -> None:
        """Kill it, where it runs, and start it anew."""
        await self.crash()
        await self.start()

    async def metrics(self) -> dict[str, float]:
        """What it counts, by name and labels as the page has them; empty while it does not answer."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{self._address}/metrics") as answer:
                lines = (await answer.text()).splitlines()
        except aiohttp.ClientError:
            return {}
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def why_not_ready(self) -> str:
        """What keeps it from its work, as it says itself; empty where nothing does."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{self._address}/readyz") as answer:
                return "" if answer.status == 200 else await answer.text()
        except aiohttp.ClientError:
            return "no answer"

    async def is_up(self, patience: float = 60.0) -> None:
        """Wait until it is ready."""
        async with asyncio.timeout(patience):
            while await self.why_not_ready():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.05)

    async def is_not_ready(self, part: str, patience: float = 60.0) -> str:
        """Wait until it says that it is not ready, and why; all that it says."""
        async with asyncio.timeout(patience):
            while part not in (said := await self.why_not_ready()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        return said

    async def passes(self) -> int:
        """How often it has looked at sandboxes."""
        return _passes(await self.metrics())

    async def has_looked(self, passes: int, since: int | None = None, patience: float = 60.0) -> None:
        """Wait until it has looked at sandboxes so many times more, since then or now, and has none in hand."""
        wanted = passes + (await self.passes() if since is None else since)
        async with asyncio.timeout(patience):
            while True:
                now = await self.metrics()
                idle = not any(value for name, value in now.items() if name.startswith(_BUSY))
                if _passes(now) >= wanted and idle:
                    return
                await asyncio.sleep(0.05)

    async def is_at_work(self, sandboxes: int, patience: float = 60.0) -> None:
        """Wait until it has so many sandboxes in hand at the same time."""
        async with asyncio.timeout(patience):
            while True:
                active = (value for name, value in (await self.metrics()).items() if name.startswith(_BUSY[1]))
                if sum(active) >= sandboxes:
                    return
                await asyncio.sleep(0.05)

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text() if self.log.exists() else ""


_BUSY = ("workqueue_depth", "controller_runtime_active_workers")


def _passes(metrics: dict[str, float]) -> int:
    return int(sum(value for name, value in metrics.items() if name.startswith("controller_runtime_reconcile_total")))
