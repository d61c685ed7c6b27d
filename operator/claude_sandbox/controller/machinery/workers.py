"""The workers of a queue: they run a reconcile for each key, and have those that failed tried again.

Holds nothing but the runs that are under way: what is to be done is the queue's. A run that is cancelled, or raises,
has ended as well, and its key is in work no more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from claude_sandbox.controller.machinery.queue import K, ShutDown, WorkQueue
from claude_sandbox.kubernetes_api.errors import ApiError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a reconcile wants next. `requeue_after` in seconds; None: only when something happens.

    `retry`: not everything could be done, which the reconcile has said itself; try again later and later, and no later
    than `requeue_after`, where that is given too.
    """

    requeue_after: float | None = None
    retry: bool = False


Reconcile = Callable[[K], Awaitable[Result | None]]
OnResult = Callable[[str, float], None]
"""Called after each run with "success", "requeue", "requeue_after" or "error", and the seconds it took."""


async def run_workers(
    queue: WorkQueue[K], workers: int | None, reconcile: Reconcile[K], on_result: OnResult | None = None
) -> None:
    """Work on the queue's keys until `queue.shutdown()`, and finish those in work.

    Up to `workers` of them at a time; None: as many as the limits of the keys' groups let through.
    A reconcile that raises is logged and tried again later; an exception's `retry_after` (seconds) is respected.
    Cancelling this coroutine cancels the reconciles in work.
    """
    room = asyncio.Semaphore(workers) if workers is not None else None
    async with asyncio.TaskGroup() as group:
        while True:
            # Before a key is taken: one that was taken and waits here could not be overtaken, nor merged with the next.
            if room is not None:
                await room.acquire()
            try:
                key = await queue.get()
            # The group waits for the runs that are under way.
            except ShutDown:
                return
            task = group.create_task(_work(queue, key, reconcile, on_result), name=f"work on {key}")
            if room is not None:
                task.add_done_callback(lambda _: room.release())


async def _work(queue: WorkQueue[K], key: K, reconcile: Reconcile[K], on_result: OnResult | None) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    outcome = "error"
    try:
        outcome = await _reconcile_once(queue, key, reconcile)
    finally:
        # A reconcile that is cancelled has ended too: its key must not be in work for ever.
        queue.done(key)
        if on_result is not None:
            on_result(outcome, loop.time() - started)


async def _reconcile_once(queue: WorkQueue[K], key: K, reconcile: Reconcile[K]) -> str:
    try:
        result = await reconcile(key)
    except Exception as error:
        # An ApiError has `retry_after` where the server was busy and said for how long.
        pause = queue.retry(key, at_least=getattr(error, "retry_after", None) or 0.0)
        # Where such a one was raised tells nothing: the server was away, or somebody else wrote first.
        overtaken = isinstance(error, ApiError) and error.is_conflict
        expected = bool(getattr(error, "is_transient", False)) or overtaken
        logger.warning("reconcile of %s failed: %s; next try in %.1f s", key, error, pause, exc_info=not expected)
        return "error"
    result = result or Result()
    if result.requeue_after is not None:
        queue.add_after(key, result.requeue_after)
    if result.retry:
        queue.retry(key)
        return "requeue"
    queue.forget(key)
    return "success" if result.requeue_after is None else "requeue_after"
