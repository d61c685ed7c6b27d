"""The backends of all Docker hosts: one for each host, for as long as the host is known.

Theory of operation. It holds, of each host that was asked for, its backend and two tasks: one follows the engine's
events, one tidies its images now and then. Neither ends before the host is forgotten: whatever it raises is logged, and
it goes on. A backend has no connection of its own; it asks `hosts` for the one that there is now, so that it goes on
after a silence as if nothing had been, and calls fail at once while there is none.

Used from one event loop. A host that is forgotten has its tasks ended and its pulls and threads given back; calls under
way end by themselves, and what runs on the host goes on. A crash leaves nothing.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.client import Client
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.events.watch import FIRST_PAUSE
from claude_sandbox.backends.docker.hosts.hosts import Hosts

logger = logging.getLogger(__name__)

TIDY = 900.0
"""Seconds between two looks for images that nothing needs any more."""


@dataclass(frozen=True)
class _Member:
    backend: DockerBackend
    tasks: "tuple[asyncio.Task[None], ...]"


class Fleet:
    """Makes a backend when it is first asked for, and follows the events of its engine from then on.

    A backend outlives the connection that it began with: a host that is silent for a while is the same host after it.
    `wake` is called with a sandbox's namespace and name when its host tells that something happened to it, `failed`
    with a host and an HTTP status, or 0, when a call to its engine failed. `keeps` tells for how many hours a host's
    unused images are kept that the operator had pulled; None: for ever. `refused` tells why nothing may be asked of a
    host's engine, whether it answers or not; None where it may.
    """

    def __init__(
        self,
        hosts: Hosts,
        make: Callable[[str, Engine], DockerBackend],
        wake: Callable[[str, str], None],
        failed: Callable[[str, int], None] = lambda _host, _status: None,
        keeps: Callable[[str], int | None] = lambda _: None,
        refused: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._hosts = hosts
        self._make = make
        self._wake = wake
        self._failed = failed
        self._keeps = keeps
        self._refused = refused
        self._members: dict[str, _Member] = {}

    def of(self, host: str) -> DockerBackend:
        """The backend of a host, whether it answers now or not."""
        member = self._members.get(host)
        if member is None:
            engine = Engine(
                lambda: self.client(host),
                failed=lambda status: self._failed(host, status),
                timely=lambda kind, answered: self._hosts.told(host, kind, answered),
            )
            backend = self._make(host, engine)
            events = asyncio.create_task(self._follow(backend), name=f"events of {host}")
            tidying = asyncio.create_task(self._tidy(host, backend), name=f"images of {host}")
            member = self._members[host] = _Member(backend, (events, tidying))
        return member.backend

    async def forget(self, host: str) -> None:
        """The host is no longer known; what runs on it goes on."""
        if (member := self._members.pop(host, None)) is not None:
            for task in member.tasks:
                task.cancel()
            await member.backend.close()

    async def close(self) -> None:
        """Give all of it back."""
        for host in list(self._members):
            await self.forget(host)

    def __iter__(self) -> Iterator[DockerBackend]:
        return iter([member.backend for member in self._members.values()])

    def client(self, host: str) -> Client:
        """The connection that there is now. Raises EngineError where the host does not answer, or may not be asked."""
        if (why := self._refused(host)) is not None:
            raise EngineError(UNREACHABLE, why)
        if (connection := self._hosts.engine(host)) is not None:
            return connection.api
        error = self._hosts.known(host).error
        raise EngineError(UNREACHABLE, error.message if error is not None else "it has not answered yet")

    async def _follow(self, backend: DockerBackend) -> None:
        while True:
            try:
                async for namespace, name in backend.wakes():
                    self._wake(namespace, name)
            except Exception:
                # Nobody would be woken by this host any more.
                logger.warning("the events of a Docker host are followed anew", exc_info=True)
            await asyncio.sleep(FIRST_PAUSE)

    async def _tidy(self, host: str, backend: DockerBackend) -> None:
        while True:
            # Not all hosts at the same moment, though all are known from the operator's start on.
            await asyncio.sleep(TIDY * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                if (hours := self._keeps(host)) is None:
                    continue
                if gone := await backend.tidy(hours):
                    logger.info("DockerHost %s: removed images that nothing needs: %s", host, ", ".join(gone))
            except Exception as error:  # noqa: BLE001 - whatever an engine answered, the next time comes
                logger.warning("the images of DockerHost %s could not be tidied: %s", host, mishap(error))
