"""When containers' own files are looked at, on this machine, and what was found last.

Theory of operation. A pass asks what is known (`known`): where a container was not looked at since it was started, or
not for INTERVAL seconds, a look is begun. Nobody waits for it but who comes upon a container that was ready before, and
for a few seconds: so an operator that starts anew does not first take back what its last one found. One look is
under way at a time, whichever engine it is of, in a thread of its own; it is bounded, and pauses now and then, so that
it takes little from everybody else. The files of an image can't be changed in a sandbox: what a look found holds until
the next. Only one that found something else wakes its sandbox, so that a steady state costs no pass and no write. Where
nothing may be looked at, nothing is known. It holds what was found of each sandbox, in memory only; a crash loses that,
and the next pass begins anew.
From the event loop alone.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.evidence.image_files import look
from claude_sandbox.backends.docker.evidence.proc import own_group
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.image_files import ImageFiles
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.procfs.files import PROC

INTERVAL = 3600.0
FIRST = 5.0
"""Seconds that a pass waits for the first look at a container of which something may have been said before."""
FRESH = 60.0
"""Seconds after its start in which that is one that is healthy, and after which it is any."""

_one = ThreadPoolExecutor(1, "files")


def look_at(container: Object, process: Process, proc: Path = PROC) -> ImageFiles | None:
    """What a container's own files are now; None where they may not be looked at, or it is another by now. Blocks."""
    if process.mounts is None:
        return None
    mounted = {mount.place for mount in process.mounts}
    try:
        root = proc / str(Document(container).number("State.Pid")) / "root"
        found = look(root, mounted) if own_group(container, proc) is not None else None
        # The number may have become another process's while it was looked at.
        return found if own_group(container, proc) is not None else None
    except (OSError, ValueError):
        return None


@dataclass
class _Known:
    """Of one start of one container. `due`: when to look again."""

    start: tuple[str, str]
    due: float = float("-inf")
    found: ImageFiles | None = None
    is_awaited: bool = False
    looking: "asyncio.Task[None] | None" = field(default=None, repr=False)


class FileLooks:
    """Of all sandboxes of one engine. `wake`: have a sandbox looked at."""

    def __init__(
        self,
        wake: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[Object, Process], ImageFiles | None] = look_at,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._wake = wake
        self._clock = clock
        self._look = look
        self._now = now
        self._of: dict[Identity, _Known] = {}

    async def known(self, identity: Identity, container: Object, process: Process) -> ImageFiles | None:
        """What was found last of this container, since it was started."""
        start = Document(container).text("Id") or "", started_at(container)
        one = self._of.get(identity)
        # By its start too: what is mounted into a container, and so what of its files is seen, is of one start.
        is_first = one is None or one.start != start
        if one is None or is_first:
            self.forget(identity)
            one = self._of[identity] = _Known(start)
        if one.looking is None and self._clock() >= one.due:
            one.looking = asyncio.create_task(
                self._find(identity, one, container, process), name="files of a container"
            )
        if is_first and one.looking is not None and self._may_be_known(container):
            one.is_awaited = True
            await asyncio.wait((one.looking,), timeout=FIRST)
            one.is_awaited = False
        return one.found

    def _may_be_known(self, container: Object) -> bool:
        # Who starts a container sees it before its first check has come to an end.
        return health.status(container) == "healthy" or _age(container, self._now()) > FRESH

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone, or its container is another."""
        one = self._of.pop(identity, None)
        if one is not None and one.looking is not None:
            one.looking.cancel()

    async def close(self) -> None:
        """Look at nothing more."""
        for identity in list(self._of):
            self.forget(identity)

    async def _find(self, identity: Identity, one: _Known, container: Object, process: Process) -> None:
        look = partial(self._look, container, process)
        found = await asyncio.get_running_loop().run_in_executor(_one, look)
        one.due = self._clock() + INTERVAL * random.uniform(1.0, 1.2)  # noqa: S311
        before, one.found, one.looking = one.found, found, None
        if found != before and not one.is_awaited:
            self._wake(identity.namespace, identity.name)


def _age(container: Object, now: datetime) -> float:
    """Seconds since its start; 0 where its engine does not tell."""
    try:
        return (now - datetime.fromisoformat(started_at(container))).total_seconds()
    except (ValueError, TypeError):
        return 0.0
