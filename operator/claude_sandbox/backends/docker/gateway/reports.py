"""Has a sandbox looked at when its gateway says something new by its health check: no event tells of that by itself.

Theory of operation. A pass reads what the gateway has said last from the document that it asks for anyway, and says so
here (`know`). The engine tells when a session in a container ends, a health check's too; where that is a known
gateway's, its document is read SETTLES seconds later, when the engine has kept the outcome. What is decisive wakes the
sandbox at once, anything else every EVERY seconds.

Held: by container, whose gateway it is, and what a pass saw last; it goes with the container. One look at a time is on
its way for each. Used on the event loop; a crash forgets, and the next pass says it anew.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.gateway.health import said_report
from claude_sandbox.backends.gateway_reports import Report, decisive

SETTLES = 0.5
"""Seconds after a check's end by which the engine has kept what it printed."""
EVERY = 60.0

Sandbox = tuple[str, str]
"""Namespace and name."""


@dataclass
class _Known:
    sandbox: Sandbox
    seen: Report | None
    at: float
    task: asyncio.Task[None] | None = None


class GatewayReports:
    """Of the gateways on one engine. `wake` is called with the namespace and name of a sandbox."""

    def __init__(
        self, engine: Engine, wake: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._wake = wake
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._of: dict[Sandbox, str] = {}

    def know(self, sandbox: Sandbox, gateway: Object) -> None:
        """A pass has seen this gateway."""
        identifier = str(gateway["Id"])
        if self._of.get(sandbox) != identifier:
            self.forget(sandbox)
        known = self._known.get(identifier)
        self._of[sandbox] = identifier
        task = known.task if known is not None else None
        self._known[identifier] = _Known(sandbox, said_report(gateway), self._clock(), task)

    def forget(self, sandbox: Sandbox) -> None:
        """The sandbox is gone, or has another gateway."""
        known = self._known.pop(self._of.pop(sandbox, ""), None)
        if known is not None and known.task is not None:
            known.task.cancel()

    def checked(self, container: str) -> None:
        """A health check in this container has ended."""
        known = self._known.get(container)
        if known is not None and (known.task is None or known.task.done()):
            known.task = asyncio.create_task(self._look(container), name="what a gateway reports")

    async def _look(self, container: str) -> None:
        await asyncio.sleep(SETTLES)
        live = None
        with suppress(EngineError):
            live = await self._engine.container(container)
        known = self._known.get(container)
        said = said_report(live) if live is not None else None
        if known is None or said is None or said == known.seen:
            return
        if decisive(said) != decisive(known.seen) or self._clock() - known.at >= EVERY:
            self._wake(*known.sandbox)
