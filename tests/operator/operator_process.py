"""The operator as a process of its own, which can be killed."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from nursery import Nursery

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
        self._arguments = [
            f"--kubeconfig={kubeconfig}",
            f"--sandbox-image={IMAGE}",
            "--bind=127.0.0.1:0",
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
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
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

    def said(self) -> str:
        """All that it has logged."""
        return self.log.read_text() if self.log.exists() else ""
