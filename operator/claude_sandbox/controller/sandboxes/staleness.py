"""What a status claims lapses: where no look at a sandbox comes to its end any more, its evaluation is no evidence.

A status at rest is never written again, so it does not tell by itself how old it is. Three things do: here, the replica
that works takes back what is older than a bound; the metric of the last evaluation ages while nobody evaluates; and the
Lease tells whether any operator works at all.

Theory of operation. Holds when a look at each sandbox last came to its end, in memory only: after a restart, or a
change of the leader, the bound begins anew. Always true: a sandbox that was not looked at for the bound loses its
verdicts, or the log says why not; no sandbox keeps that from another; and what is being written is waited for before it
is judged overdue, for it may be the very evaluation. Passes say when they are done (`evaluated`) or that a sandbox is
gone; one task, of the replica that works, does the rest, and the process ends where that task does. All on the event
loop. A crash leaves verdicts as they are until the next leader has been up for the bound.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from claude_sandbox.api.mishap import mishap
from claude_sandbox.controller.machinery.merge_patch import merge_patch
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.sandboxes.reporting.conditions import overdue
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.unstructured import terminating

logger = logging.getLogger(__name__)

OVERDUE_AFTER = 3.0
"""Rounds of looking at everything after which a sandbox is overdue: each is looked at within 1.7 of them."""
LOOK_EVERY = 30.0
"""Seconds between two looks at what is overdue."""


class Writer(Protocol):
    """What writes a status."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status; the object as it is now, or None where it is gone. Raises ApiError."""


class Evaluations:
    """When each sandbox was evaluated last."""

    def __init__(self, sandboxes: Sandboxes, writer: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        self._sandboxes = sandboxes
        self._writer = writer
        self._clock = clock
        # Or, where none was yet, when that was first noticed.
        self._evaluated: dict[Key, float] = {}

    def evaluated(self, key: Key) -> None:
        """A look at the sandbox came to its end just now."""
        self._evaluated[key] = self._clock()

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._evaluated.pop(key, None)

    async def mark_overdue(self, seconds: float) -> list[Key]:
        """Take back what the statuses of overdue sandboxes claim; which those are.

        Raises ApiError where the API server is away. That it refuses one sandbox's write keeps it from no other's.
        """
        now, lapsed = self._clock(), []
        for key in list(self._sandboxes):
            raw = self._sandboxes.get(key)
            # One that no pass has come to is overdue as well: its time begins when it is first noticed here.
            if raw is not None and now - self._evaluated.setdefault(key, now) > seconds:
                # And asked again after that, with the clock as it is then.
                await self._sandboxes.written(raw)
                if self._clock() - self._evaluated.get(key, now) > seconds and await self._taken_back(key, seconds):
                    lapsed.append(key)
        return lapsed

    async def _taken_back(self, key: Key, seconds: float) -> bool:
        try:
            return await self._take_back(key, seconds)
        except ApiError as error:
            # Where the server is away the others need not be tried either.
            if error.is_transient:
                raise
            logger.warning("that %s is overdue could not be reported: %s", key, error)
        except Exception as error:  # noqa: BLE001 (nothing that one status holds may keep the others as they are)
            logger.warning("that %s is overdue could not be reported: %s", key, mishap(error))
        return False

    async def _take_back(self, key: Key, seconds: float) -> bool:
        raw = self._sandboxes.get(key)
        if raw is None or terminating(raw):
            return False
        previous = raw.get("status") or {}
        at = datetime.now(UTC).replace(microsecond=0)
        status = overdue(previous, raw["metadata"]["generation"], seconds, at)
        if status is None:
            return False
        return await write(self._sandboxes, self._writer, raw, merge_patch(previous, status)) is not None


async def write(sandboxes: Sandboxes, writer: Writer, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
    """Write a sandbox's status, and know what came of it; None where the sandbox is gone. Raises ApiError."""
    with sandboxes.writing(raw):
        written = await writer.write_status(raw, patch)
        if written is not None:
            sandboxes.learn(written)
    return written


async def mark_overdue_forever(
    evaluations: Evaluations,
    queue: WorkQueue[Key],
    seconds: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Now and then, while this replica works; who is overdue is looked at as soon as that is possible."""
    while True:
        await sleep(LOOK_EVERY)
        try:
            for key in await evaluations.mark_overdue(seconds):
                logger.warning("%s was not evaluated for more than %.0f s", key, seconds)
                queue.add(key)
        except ApiError as error:
            logger.warning("what is overdue could not be reported: %s", error)
