"""The operator as a process of its own, seen from outside: its process, its health endpoint and its metrics."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from tests.bench.objects import IMAGE

_OBSERVED = re.compile(r"^claudesandbox_sandboxes\{[^}]*\} (\S+)$", re.MULTILINE)
_LEADS = re.compile(r"^leader_election_master_status\{[^}]*\} 1\.0$", re.MULTILINE)
_RECONCILES = re.compile(r"^controller_runtime_reconcile_total\{[^}]*\} (\S+)$", re.MULTILINE)


class OperatorEnded(Exception):  # noqa: N818 - said to a person
    """The operator is not running, or did not come to work."""


class Operator:
    """One operator process: of possibly several replicas, for all namespaces, as in its pod."""

    def __init__(
        self,
        kubeconfig: Path,
        lease_namespace: str,
        port: int,
        log: Path,
        image: str = IMAGE,
        options: tuple[str, ...] = (),
    ) -> None:
        self._argv = (
            *(sys.executable, "-m", "claude_sandbox.cli.main", "run"),
            f"--kubeconfig={kubeconfig}",
            f"--sandbox-image={image}",
            f"--bind=127.0.0.1:{port}",
            f"--lease-namespace={lease_namespace}",
            "--log-format=json",
            *options,
        )
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Raises OperatorEnded where it does not run."""
        return self._running().pid

    def must_run(self) -> None:
        """Raises OperatorEnded where it does not run."""
        self._running()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-20:]
            raise OperatorEnded("\n".join(["The operator does not run. The end of its log:", *lines]))
        return self._process

    async def start(self) -> None:
        """Start it and wait until it leads. Raises OperatorEnded."""
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inherited | {"HOME": str(self._log.parent)},
            )
        await self._until(lambda page: bool(_LEADS.search(page)), 90)

    async def restart(self, *options: str) -> None:
        """With other options in the end, which outweigh those before. Raises OperatorEnded."""
        await self.stop()
        self._argv = (*self._argv, *options)
        await self.start()

    async def observed(self, count: int, within: float) -> float:
        """Wait until it has looked at so many sandboxes; when that was. Raises OperatorEnded."""
        await self._until(lambda page: sum(map(float, _OBSERVED.findall(page))) >= count, within)
        return time.perf_counter()

    async def reconciles(self) -> int:
        """How many it has done since its start."""
        return int(sum(map(float, _RECONCILES.findall(await self._page()))))

    async def stop(self, grace: float = 30.0) -> None:
        """Tell it to stop, and wait until it has; by force after `grace` seconds."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _page(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(self._url) as response:
            return await response.text()

    async def _until(self, true: Callable[[str], bool], within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not await self._is(true):  # noqa: ASYNC110 - nothing tells
                    # A page with a thousand sandboxes takes the operator some 20 ms: not more often.
                    await asyncio.sleep(0.25)
        except TimeoutError:
            self._running()
            raise OperatorEnded(f"The operator did not get there within {within:.0f} s; see {self._log}.") from None

    async def _is(self, true: Callable[[str], bool]) -> bool:
        self._running()
        try:
            return true(await self._page())
        except aiohttp.ClientError:
            return False
