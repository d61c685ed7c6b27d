"""Which sandboxes an engine's events concern, for as long as it is wanted, through lost connections and restarts.

Theory of operation. One task of the backend runs `changed_sandboxes`, one thread at a time reads the connection that it
has opened, and hands each event to the event loop; all else is done there. Events that wait are bounded: then the
engine is read no further, and it is the engine that has to keep them.

What is told while nobody listens is not told again. So all sandboxes that are known are woken after a connection was
opened, when nothing is missed any more, and after it has ended. One that is silent for SILENCE seconds is taken for
dead. An event without labels finds its sandbox by `Registry`, which passes fill with what they observed: an object
that is not in it yet is one that the pass at work has still to look at.

A crash loses the registry, and the first pass of each sandbox fills it; the first pass needs no event.
"""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from requests import Response

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.client import lines
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.events.expectations import container_of
from claude_sandbox.backends.docker.events.outside_sessions import BEGINS, ENDS, OutsideSessions
from claude_sandbox.compliance.containers.document import Document

_LOG = logging.getLogger(__name__)

SandboxKey = tuple[str, str]
"""The namespace and the name of a sandbox that is worth a look."""

# What can change a sandbox's objects. Events of volumes and networks carry no labels, and so can't be filtered by them.
_ACTIONS = {
    "container": (
        *("create", "start", "die", "stop", "oom", "pause", "unpause", "rename", "update", "destroy", "health_status"),
        # Health checks as well; who it is, is asked for each that begins.
        *(BEGINS, ENDS),
    ),
    # One of the name may be made beside the sandbox's own on older engines.
    "network": ("create", "connect", "disconnect", "destroy"),
    "volume": ("destroy",),
}
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
# Seconds of silence after which a connection is taken for dead: where any sandbox runs, its health is checked sooner.
SILENCE = 300.0
# Events that wait to be looked at; then the engine is read no further.
_MANY = 10_000


class Registry:
    """Whose the objects of an engine are, by their names and identifiers: for events that carry no labels."""

    def __init__(self) -> None:
        self._wakes: dict[str, SandboxKey] = {}
        self._of: dict[SandboxKey, set[str]] = {}

    def put(self, wake: SandboxKey, handles: Iterable[str]) -> None:
        """Remember names and identifiers of a sandbox's objects, and no others of it."""
        self.forget(wake)
        self._of[wake] = set(handles)
        self._wakes |= dict.fromkeys(self._of[wake], wake)

    def add(self, wake: SandboxKey, handle: str) -> None:
        """Remember one more, until `put` says which there are."""
        self._of.setdefault(wake, set()).add(handle)
        self._wakes[handle] = wake

    def forget(self, wake: SandboxKey) -> None:
        """The sandbox is gone."""
        for handle in self._of.pop(wake, ()):
            self._wakes.pop(handle, None)

    def find(self, handle: str) -> SandboxKey | None:
        """The sandbox that an object of this name or identifier belongs to."""
        return self._wakes.get(handle)

    def all(self) -> tuple[SandboxKey, ...]:
        """Every sandbox that is known here."""
        return tuple(self._of)


def sandboxes_of(event: Object, cluster: str, registry: Registry) -> Iterator[SandboxKey]:
    """The sandboxes that an event concerns, each at most once. Pure."""
    if not _matters(event):
        return
    told = Document(event)
    attributes = told.mapping("Actor.Attributes", omissible=True) or {}
    if attributes.get(names.LABEL_COMPONENT) in names.PASSING:
        # What comes and goes for a moment, and changes nothing.
        return
    found: list[SandboxKey | None] = []
    if event.get("Type") == "container" and (owner := names.identity_in(attributes, cluster)) is not None:
        found.append((owner.namespace, owner.name))
    handles = (told.text("Actor.ID"), attributes.get("name"), attributes.get("container"), attributes.get("oldName"))
    found += [registry.find(str(handle).removeprefix("/")) for handle in handles if handle]
    yield from dict.fromkeys(wake for wake in found if wake is not None)


async def changed_sandboxes(
    engine: Engine,
    cluster: str,
    registry: Registry,
    *,
    keep: Callable[[SandboxKey, Object], bool] = lambda _sandbox, _event: False,
    note: Callable[[Object], None] = lambda _event: None,
    sessions: OutsideSessions | None = None,
    checked: Callable[[str], None] = lambda _container: None,
    pause: Callable[[float], Any] = asyncio.sleep,
) -> AsyncIterator[SandboxKey]:
    """Sandboxes that are worth a look, without end. `keep`: whether one is not to be woken by an event. `note` is
    told of each event, `checked` of each container in which a health check has ended.

    Whenever the events could not be followed for a while, all known ones are: what happened is not told again.
    """
    wait = FIRST_PAUSE
    while True:
        stream = _Stream(engine, asyncio.get_running_loop())
        try:
            if await stream.open():
                wait = FIRST_PAUSE
                with suppress(EngineError):
                    # It may have been upgraded while it was away.
                    await engine.look()
                for wake in registry.all():
                    yield wake
                async for event in stream:
                    note(event)
                    found = tuple(sandboxes_of(event, cluster, registry))
                    if found and sessions is not None and _is_visit(event) and not await sessions.concerns(event):
                        if str(event.get("Action")).partition(":")[0] == ENDS:
                            checked(container_of(event))
                        continue
                    for wake in found:
                        if not keep(wake, event):
                            yield wake
        finally:
            stream.close()
        for wake in registry.all():
            yield wake
        await pause(wait)
        wait = min(wait * 2, LONGEST_PAUSE)


class _Stream:
    """One connection that events come over, read in a thread of its own: reading blocks while nothing comes."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._events: asyncio.Queue[Object | None] = asyncio.Queue()
        self._opened: asyncio.Future[bool] = loop.create_future()
        self._response: Response | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._read, name="docker-events", daemon=True).start()

    async def open(self) -> bool:
        """Whether the engine answered; then no event is missed any more."""
        return await self._opened

    def close(self) -> None:
        """End the connection, and with it the thread."""
        self._closed.set()
        if self._response is not None:
            _hang_up(self._response)

    async def __aiter__(self) -> AsyncIterator[Object]:
        while (event := await self._events.get()) is not None:
            yield event

    def _read(self) -> None:
        actions = {one for some in _ACTIONS.values() for one in some}
        filters = {"type": list(_ACTIONS), "event": sorted(actions)}
        try:
            self._response = response = self._engine.stream_events(filters, SILENCE)
            if self._closed.is_set():
                # Given up while it was being opened, when there was nothing yet that `close` could end.
                _hang_up(response)
                return
            self._tell(self._opened_with, True)
            for line in lines(response):
                # A loop that is behind is not to hold all that an engine tells meanwhile.
                while self._events.qsize() > _MANY and not self._closed.wait(0.05):
                    pass
                if self._closed.is_set():
                    break
                if (event := event_in(line)) is not None and _matters(event):
                    self._tell(self._events.put_nowait, event)
        except Exception as error:  # noqa: BLE001 - whatever ended it, it is opened again
            _LOG.debug("the events of a Docker host ended: %s", type(error).__name__)
        finally:
            self._tell(self._opened_with, False)
            self._tell(self._events.put_nowait, None)

    def _opened_with(self, answer: bool) -> None:
        if not self._opened.done():
            self._opened.set_result(answer)

    def _tell(self, call: Callable[[Any], None], value: Any) -> None:
        # The loop may have ended meanwhile, and then no one wants to know.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, value)


def event_in(line: bytes | str) -> Object | None:
    """The event that a line of the engine's is; None where it is none. What else it tells must not end the watch."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _matters(event: Object) -> bool:
    """Whether it may concern a sandbox: an engine tells of all pairs of the kinds and actions that it was asked for."""
    # What is told of health has the outcome behind a colon.
    return str(event.get("Action")).partition(":")[0] in _ACTIONS.get(str(event.get("Type")), ())


def _is_visit(event: Object) -> bool:
    """Whether it is about an exec session, a health check's too."""
    return str(event.get("Action")).partition(":")[0] in (BEGINS, ENDS)


def _hang_up(response: Response) -> None:
    """Close the socket under a response: closing the response waits for the reader, who waits for the engine."""
    with suppress(Exception):
        raw: Any = response.raw
        connection: Any = getattr(raw, "connection", None) or getattr(raw, "_connection", None)
        connection.sock.shutdown(socket.SHUT_RDWR)
    with suppress(Exception):
        response.close()
