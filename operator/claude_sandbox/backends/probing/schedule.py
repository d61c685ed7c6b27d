"""When sandboxes are probed, and what their last probes found.

Theory of operation. A pass asks for what is known of a sandbox (`_known`), gives what it saw, and waits for nothing. A
probe holds for the place in the network that it was made from; so where the place is another, or nothing is known, one
is begun beside the passes. After it the sandbox is probed again every `interval` seconds, spread by a fifth, as it was
seen last. A few probes are at work at a time, some of them of one namespace, and one on a sandbox; one whose place
changes again and again is begun no more often than each `afresh` seconds.

Before a probe and after it the place is looked at: where it is not the same both times, what was found is thrown away.
Only a probe that found something else than the one before wakes its sandbox, so a steady state costs no pass and no
write. One that failed is tried again after FIRST_AGAIN seconds, and twice as long each time up to `interval`; until
then its reason is what is known.

A crash loses all of it: the next pass begins anew, and a probe removes what an earlier one left.
Used from one event loop.
"""

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.probing.wanted import Named
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.readings import Reading, Unread

logger = logging.getLogger(__name__)

S = TypeVar("S")
P = TypeVar("P")

FIRST_AGAIN = 5.0
SOON = 1.0
"""Seconds until a sandbox's new place is probed: whatever else is about to start comes first."""
UNDER_WAY = Unread("that is under way")
"""For the first time since the operator came to know the sandbox."""
CHANGED = Unread("its place in the network changed, and that is under way anew")

Found = Reading[ProbeReport] | Unread


class NothingFoundError(Exception):
    """A probe found nothing; the message says why, the same while the cause is the same."""


@dataclass(frozen=True)
class Probing:
    """What administrators choose. `interval` in seconds. `named`: what no sandbox may reach, and the operator can."""

    interval: float
    named: tuple[Named, ...] = ()


@dataclass
class Probed(Generic[S, P]):
    """A sandbox. `found` is of `place`; `seen` is what the last pass saw of it."""

    seen: S
    place: P
    found: Found
    failures: int = 0
    task: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = None


class Schedule(ABC, Generic[S, P]):
    """Of all sandboxes of one engine or cluster. A backend says how one is probed (`_find`).

    `at_a_time`: probes, and of each namespace `of_each` at most, so that slow ones of a tenant hold up no other's.
    `enough`: seconds for one with all that is asked for it. `whom`: who is asked. `afresh`: seconds between two for a
    sandbox whose place changes again and again.
    """

    def __init__(
        self,
        probing: Probing | None,
        wake: Callable[[str, str], None],
        *,
        at_a_time: int,
        enough: float,
        whom: str,
        afresh: float = 0.0,
        of_each: int | None = None,
    ) -> None:
        self._probing = probing
        self._wake = wake
        self._enough = enough
        self._whom = whom
        self._afresh = afresh
        self._of: dict[Identity, Probed[S, P]] = {}
        self._begun: dict[Identity, float] = {}
        self._room = asyncio.Semaphore(at_a_time)
        self._of_each = of_each or at_a_time
        self._rooms: dict[str, asyncio.Semaphore] = {}

    @property
    def max_age(self) -> timedelta:
        """After which what was found proves nothing any more: one probe may be missed, and not two."""
        if self._probing is None:
            return timedelta.max
        return timedelta(seconds=self._probing.interval * 2.5 + self._enough)

    async def forget(self, identity: Identity) -> None:
        """Probe it no more, and leave nothing of a probe that is under way."""
        self._begun.pop(identity, None)
        if (task := self._end(identity)) is not None:
            with suppress(asyncio.CancelledError):
                await task
        if not any(one.namespace == identity.namespace for one in self._of):
            self._rooms.pop(identity.namespace, None)

    async def close(self) -> None:
        """End all of them."""
        for identity in list(self._of):
            await self.forget(identity)

    @abstractmethod
    async def _find(self, identity: Identity, one: Probed[S, P]) -> ProbeReport:
        """Probe it once, looking before and afterwards whether it is at its place. Raises NothingFoundError."""

    def _known(self, identity: Identity, seen: S, place: P) -> Found:
        """What is known of where a sandbox is now; where that is nothing, a probe is begun."""
        one = self._of.get(identity)
        if one is None or one.place != place:
            found = UNDER_WAY if one is None else CHANGED
            self._end(identity)
            one = self._of[identity] = Probed(seen, place, found)
            loop = asyncio.get_running_loop()
            early = self._begun.get(identity, -self._afresh) + self._afresh - loop.time()
            wait = max(SOON * random.uniform(1.0, 2.0), early)  # noqa: S311
            one.timer = loop.call_later(wait, self._begin, identity)
        one.seen = seen
        return one.found

    def _end(self, identity: Identity) -> "asyncio.Task[None] | None":
        one = self._of.pop(identity, None)
        if one is None:
            return None
        if one.timer is not None:
            one.timer.cancel()
        if one.task is not None:
            one.task.cancel()
        return one.task

    def _begin(self, identity: Identity) -> None:
        one = self._of.get(identity)
        if one is not None:
            self._begun[identity] = asyncio.get_running_loop().time()
            one.task = asyncio.create_task(self._probe(identity, one), name=f"probe of {identity.name}")

    async def _probe(self, identity: Identity, one: Probed[S, P]) -> None:
        found = await self._reading(identity, one)
        # It was forgotten, or is at another place by now, and there another probe is due.
        if self._of.get(identity) is not one:
            return
        before, one.found = one.found, found
        one.failures = one.failures + 1 if isinstance(found, Unread) else 0
        one.timer = asyncio.get_running_loop().call_later(self._pause(one.failures), self._begin, identity)
        if _said(before) != _said(found):
            self._wake(identity.namespace, identity.name)

    async def _reading(self, identity: Identity, one: Probed[S, P]) -> Found:
        try:
            room = self._rooms.setdefault(identity.namespace, asyncio.Semaphore(self._of_each))
            # The namespace's share first: who waits for that takes no place from others. The seconds begin with its
            # turn.
            async with room, self._room, asyncio.timeout(self._enough):
                report = await self._find(identity, one)
        except TimeoutError:
            return Unread(f"{self._whom} did not do within {self._enough:.0f} s what was asked of it")
        except NothingFoundError as error:
            return Unread(str(error))
        except Exception as error:
            # What is answered is in part what a workload, or another user of the engine or the cluster, makes of it.
            logger.warning("a probe has ended early", exc_info=True)
            return Unread(mishap(error))
        return Reading(report, EvidenceSource.NETWORK_PROBE, datetime.now(UTC))

    def _pause(self, failures: int) -> float:
        assert self._probing is not None  # noqa: S101 - without it nothing is begun
        interval = self._probing.interval
        wait = min(interval, FIRST_AGAIN * 2 ** min(failures - 1, 20)) if failures else interval
        return wait * random.uniform(0.8, 1.0)  # noqa: S311


def _said(found: Found) -> Found:
    """The same without its time."""
    return found if isinstance(found, Unread) else replace(found, observed_at=datetime.min)
