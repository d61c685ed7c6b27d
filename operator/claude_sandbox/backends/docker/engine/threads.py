"""Threads for one engine's calls, so that no tenant has all of them.

Theory of operation. It holds a pool of threads for calls, one for pulls, which take minutes, and for each tenant how
many of the first it has. A tenant is a namespace: who calls says by `of_tenant` for whom, and what it starts inherits
that. What belongs to nobody (looking for what is left behind) is a tenant too. A call that is given up or takes too
long is ended in its thread, by its connection, so that the thread is free again. Use it from one event loop. A crash
leaves nothing: calls are requests of an engine, which sees their connections end.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from claude_sandbox.backends.docker.engine.client import Call, calling

T = TypeVar("T")

THREADS = 32
SHARE = 8
"""Calls of one tenant at a time: those of the fourth are the first that may have to wait for another's."""
PULLS = 8
"""Pulls of one engine at a time."""

KERNEL_TIMEOUT = 10.0
"""Seconds for what this machine's kernel is asked of one container."""

# Not the event loop's own threads, which look up names: what is read there is in part a container's doing.
_kernel = ThreadPoolExecutor(8, "kernel")
_tenant: ContextVar[str] = ContextVar("tenant", default="")


@contextmanager
def of_tenant(namespace: str) -> Iterator[None]:
    """What is called within is called for this namespace."""
    token = _tenant.set(namespace)
    try:
        yield
    finally:
        _tenant.reset(token)


async def ask_kernel(what: Callable[[], T]) -> T:
    """Read in a thread what this machine's kernel says of a container. Raises TimeoutError."""
    async with asyncio.timeout(KERNEL_TIMEOUT):
        return await asyncio.get_running_loop().run_in_executor(_kernel, what)


class ThreadPools:
    """The threads of one engine."""

    def __init__(self, threads: int = THREADS, share: int = SHARE, pulls: int = PULLS) -> None:
        self._calls = ThreadPoolExecutor(threads, "docker")
        self._pulls = ThreadPoolExecutor(pulls, "docker-pull")
        self._share = share
        self._rooms: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    def close(self) -> None:
        """Give the threads back; calls under way end when they are given up, or by their time-outs."""
        for pool in (self._calls, self._pulls):
            pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, what: Callable[[], T], seconds: float) -> T:
        """Do what blocks in a thread. Raises TimeoutError after so many seconds, RuntimeError after `close()`.

        The seconds begin when the tenant's other calls leave room for it.
        """
        async with self._room(_tenant.get()), asyncio.timeout(seconds):
            return await _run(self._calls, what)

    async def pull(self, what: Callable[[], T], seconds: float) -> T:
        """As `call`, for what takes minutes."""
        async with asyncio.timeout(seconds):
            return await _run(self._pulls, what)

    def _room(self, tenant: str) -> "_Room":
        return _Room(self._rooms, self._users, tenant, self._share)


class _Room:
    """One of a tenant's calls; what is remembered of the tenant goes with its last."""

    def __init__(self, rooms: dict[str, asyncio.Semaphore], users: dict[str, int], tenant: str, share: int) -> None:
        self._rooms, self._users, self._tenant = rooms, users, tenant
        self._room = rooms.setdefault(tenant, asyncio.Semaphore(share))

    async def __aenter__(self) -> None:
        # Counted before it waits: with the last that is counted the semaphore goes, and somebody may be waiting for it.
        self._users[self._tenant] = self._users.get(self._tenant, 0) + 1
        try:
            await self._room.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._room.release()
        self._leave()

    def _leave(self) -> None:
        self._users[self._tenant] -= 1
        if not self._users[self._tenant]:
            del self._users[self._tenant], self._rooms[self._tenant]


async def _run(pool: ThreadPoolExecutor, what: Callable[[], T]) -> T:
    call = Call()
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, calling, call, what)
    finally:
        call.abort()  # of one that is done nothing
