"""What is known of each Docker host: whether its engine answers, since when it does not, and what it says of itself.

Nothing here decides what becomes of sandboxes. A host that does not answer is remembered as it last was.

Theory of operation. It holds an entry for each host: where it is, the connection to it, what was found when it was
last looked at, how often its engine was late, and until when it rests. One look at a time is at work on a host, in a
thread; a look that takes longer than its time is given up, and no other is begun before its thread has noticed.

- `known` and everything else of an entry is written on the event loop only, but for the connection, which the look's
  thread makes. It is kept first, and only then it is asked whether the host is still wanted there; who forgets or moves
  a host does it the other way round. So no connection is left to nobody, whoever comes first.
- A host at another address, or with other credentials, is another one: nothing that was known counts.
- A connection that failed is ended. The next look makes another, and asks what the engine is.
- A host that answers its ping and is late with work LATE_CALLS times in a row counts as silent until it has rested.

Looks come from the DockerHosts' passes, `told` from the engines' calls, `known` and `engine` are for anybody on the
event loop. A crash loses all; a host that was silent counts from the next start on.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from claude_sandbox.api.docker_hosts.endpoints import Address
from claude_sandbox.backends.docker.engine.connection.client_credentials import ClientCredentials
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.compliance.evidence.docker_hosts import EngineDocuments

LOOK_TIMEOUT = 15.0
"""Seconds for one look at an engine, whatever it does: it may answer byte by byte."""
DOCUMENTS_AGE = 60.0
"""Seconds after which an engine is asked again what it is; between, only whether it answers."""
LOOKS_AT_A_TIME = 32
LATE_CALLS = 3
"""Calls in a row that an engine was too late with, after which nothing is asked of it for a while."""
REST, LONGEST_REST = 30.0, 240.0
"""Seconds for which nothing is asked of such an engine; twice as long each time that it goes on so."""


@dataclass(frozen=True)
class Target:
    """Where an engine is, and with what to connect to it."""

    address: Address
    credentials: ClientCredentials | None = None


@dataclass(frozen=True)
class HostState:
    """What is known of one host.

    `error` None: it answered when it was last asked. `silent` is for how many seconds it has not, since it last did
    or, where it never did, since it was first asked. `documents` are of `read_at`.
    """

    documents: EngineDocuments | None = None
    read_at: datetime | None = None
    contact: datetime | None = None
    silent: float = 0.0
    error: ConnectError | None = None

    @property
    def answers(self) -> bool:
        """Whether the engine answered when it was last asked, and said what it is."""
        return self.error is None and self.documents is not None

    @property
    def engine_id(self) -> str | None:
        """The engine's own identifier."""
        return None if self.documents is None else str(self.documents.info.get("ID") or "") or None


@dataclass
class _Entry:
    """One host. `lock`: one look at a time."""

    first_asked: float
    target: Target | None = None
    engine: Connection | None = None
    known: HostState = field(default_factory=HostState)
    last_contact: float | None = None
    read: float = float("-inf")
    late: dict[str, int] = field(default_factory=dict)
    """Calls in a row that the engine was too late with, by their kind."""
    rests_until: float = float("-inf")
    rest: float = REST
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    looking: "asyncio.Future[EngineDocuments | None] | None" = None
    """A look that was given up, and whose thread has not noticed yet."""


class Hosts:
    """All hosts, by name. Use it from one event loop; `close()` it."""

    def __init__(
        self,
        connect: Callable[[Address, ClientCredentials | None], Connection] = connect,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_timeout: float = LOOK_TIMEOUT,
        documents_age: float = DOCUMENTS_AGE,
        on_slow: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._look_timeout = look_timeout
        self._documents_age = documents_age
        self._on_slow = on_slow
        self._entries: dict[str, _Entry] = {}
        self._threads = ThreadPoolExecutor(LOOKS_AT_A_TIME, thread_name_prefix="docker-host")

    async def look(self, name: str, target: Target) -> HostState:
        """Ask the engine whether it answers, and now and then what it is. Takes a bounded time and never raises."""
        entry = self._entries.setdefault(name, _Entry(self._clock()))
        async with entry.lock:
            if entry.target != target:
                self._disconnect(entry)
                entry.target, entry.read = target, float("-inf")
                # Another address may be another machine.
                entry.known, entry.last_contact, entry.first_asked = HostState(), None, self._clock()
                entry.late, entry.rests_until, entry.rest = {}, float("-inf"), REST
            try:
                documents = await self._ask(entry, target)
            except ConnectError as error:
                self._failed(entry, error)
            else:
                self._answered(entry, documents)
                if self._clock() < entry.rests_until:
                    entry.known = replace(entry.known, error=_slow(max(entry.late.values(), default=0)))
            return entry.known

    def known(self, name: str) -> HostState:
        """What was found when it was last looked at."""
        entry = self._entries.get(name)
        return entry.known if entry is not None else HostState()

    def engine(self, name: str) -> Connection | None:
        """The connection to a host that answered when it was last asked."""
        entry = self._entries.get(name)
        return entry.engine if entry is not None and entry.known.answers else None

    def told(self, name: str, kind: str, answered: bool) -> None:
        """A call of that kind to the host's engine was answered, or not in time.

        A host that is late again and again is one that does not answer, until it has rested.
        """
        if (entry := self._entries.get(name)) is None:
            return
        if answered:
            # Of each kind by itself: an engine whose disk hangs answers what it has in memory, and would never be late
            # in a row.
            if entry.late.pop(kind, 0):
                entry.rest = REST
            return
        entry.late[kind] = entry.late.get(kind, 0) + 1
        if entry.late[kind] >= LATE_CALLS and self._clock() >= entry.rests_until:
            entry.rests_until = self._clock() + entry.rest
            entry.rest = min(entry.rest * 2, LONGEST_REST)
            entry.known = replace(entry.known, error=_slow(entry.late[kind]))
            self._on_slow(name)

    def forget(self, name: str) -> None:
        """The host is no longer to be looked after."""
        if (entry := self._entries.pop(name, None)) is not None:
            entry.target = None  # a look that is under way gives its connection up
            self._disconnect(entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def close(self) -> None:
        """End all connections. Looks that are under way end by themselves, within their time-outs."""
        for name in list(self._entries):
            self.forget(name)
        self._threads.shutdown(wait=False)

    async def _ask(self, entry: _Entry, target: Target) -> EngineDocuments | None:
        # One thread for a host that hangs, however often it is looked at: else it would take those of all others.
        if entry.looking is not None and not entry.looking.done():
            raise ConnectError(
                ConnectErrorReason.UNREACHABLE, "the engine still has not answered what it was asked before"
            )
        wanted = self._clock() - entry.read >= self._documents_age
        loop = asyncio.get_running_loop()
        entry.looking = loop.run_in_executor(self._threads, _look, entry, target, self._connect, wanted)
        try:
            # Shielded: a thread can't be ended, and it has to be known that it is still there.
            return await asyncio.wait_for(asyncio.shield(entry.looking), self._look_timeout)
        except TimeoutError:
            entry.looking.add_done_callback(_ignore)
            message = f"the engine did not say all that it was asked within {self._look_timeout:.0f} s"
            raise ConnectError(ConnectErrorReason.UNREACHABLE, message) from None

    def _answered(self, entry: _Entry, documents: EngineDocuments | None) -> None:
        entry.last_contact = self._clock()
        now = datetime.now(UTC)
        if documents is None:
            entry.known = HostState(entry.known.documents, entry.known.read_at, now)
            return
        entry.read = entry.last_contact
        entry.known = HostState(documents, now, now)

    def _failed(self, entry: _Entry, error: ConnectError) -> None:
        # The next look makes a new connection, and asks what it is: it may have been restarted as something else.
        self._disconnect(entry)
        since = entry.first_asked if entry.last_contact is None else entry.last_contact
        before = entry.known
        entry.known = HostState(before.documents, before.read_at, before.contact, self._clock() - since, error)

    def _disconnect(self, entry: _Entry) -> None:
        if entry.engine is not None:
            # An ssh client may take a while to end.
            self._threads.submit(entry.engine.close)
            entry.engine = None


def _look(
    entry: _Entry, target: Target, connect: Callable[[Address, ClientCredentials | None], Connection], wanted: bool
) -> EngineDocuments | None:
    """In a thread of its own. Raises ConnectError."""
    engine = entry.engine
    if engine is None:
        engine = connect(target.address, target.credentials)
        # Kept before it is asked whether it is still wanted: who forgets the host at this moment ends it, or we do.
        entry.engine, wanted = engine, True
        if entry.target != target:
            entry.engine = None
            engine.close()
            raise ConnectError(ConnectErrorReason.UNREACHABLE, "the host was changed meanwhile")
    if wanted:
        return engine.documents()
    engine.ping()
    return None


def _slow(late: int) -> ConnectError:
    return ConnectError(
        ConnectErrorReason.SLOW,
        f"the engine answers its ping, but the last {late} calls in a row were not answered in time: see what keeps it"
        " (its disk, its memory, its log); it is tried again after a while",
    )


def _ignore(future: "asyncio.Future[EngineDocuments | None]") -> None:
    """Nobody waits for it any more; that its exception was not asked for is no news."""
    if not future.cancelled():
        future.exception()
