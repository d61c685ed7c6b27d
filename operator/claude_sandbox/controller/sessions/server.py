"""Where sessions are opened: a port of the operator, to which clients come by the API server's proxy of a Service, or,
where there are no pods and no proxy to them, by themselves.

A user of a sandbox on Docker needs rights in the cluster then, and no engine. Why it is done so:

- An extension of the API (an APIService) would know the user's name and need no object, but while the operator is down
  the API server could not list all kinds, and no namespace of the cluster could be deleted.
- A node and pods of one's own making for sandboxes on Docker (a kubelet of one's own) would make `kubectl exec` work,
  but takes rights on nodes and leases, and schedulers, autoscalers and quotas would count what is no pod.
- Streams in objects would be slow, and would fill etcd.

So: who works in a sandbox makes a `ClaudeSandboxSession`, which the API server lets them or not, with the digest of a
secret; connects to this port by the proxy; and says the secret in the first message (`admission`). The proxy takes the
user's own credential off a request, so nothing here ever sees one.

Theory of operation. It holds the listening socket (`listening`), how many connections have not said yet what they want
(at most WAITING, for OPENS seconds each), and the tasks of sessions. Anybody in the cluster's network may connect; who
has no session's secret gets no further than one read of the API server. Each replica listens. Only the leader opens
sessions: another one answers 503, and the client asks again, since the proxy picks a replica for each request. What is
opened lasts until it ends by itself, the sandbox or the session's object goes, a bound is reached, or the operator
stops. A crash ends all sessions; their objects are deleted by the next leader (`tidying`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import WSMsgType, web
from pydantic import ValidationError

from claude_sandbox.api.kinds.sessions import LARGEST_OPENING, Answer, Opening
from claude_sandbox.controller.machinery.logs import about
from claude_sandbox.controller.sessions.admission import Admission, Admitted, Refused
from claude_sandbox.controller.sessions.certificate import Certificate
from claude_sandbox.controller.sessions.listening import Listener
from claude_sandbox.controller.sessions.places import MOST, FullError, Places
from claude_sandbox.controller.sessions.streams import Bounds, Running, Stream
from claude_sandbox.kubernetes_api.pod_exec import CLOSES_INPUT

logger = logging.getLogger(__name__)

PATH = "/session"
WAITING = 64
"""Connections that have not said yet what they want."""
OPENS = 10.0
"""Seconds in which a client says what it wants, and is told whether it gets it."""

Run = Callable[[Admitted, Opening, ThreadPoolExecutor], Awaitable[Running]]
"""Begins what a session asks for. Raises Refused."""
Tell = Callable[[Admitted, str, str], None]
"""Of a session: in an Event's reason and message."""


class SessionServer:
    """Serves sessions: `async with SessionServer(...)`. Raises OSError where the address can't be bound.

    `certificate`: the files of one and of its key, which may be exchanged; without, one is made.
    `leads`: whether this replica may open any.
    `over` is called with each session that has ended.
    """

    def __init__(
        self,
        admission: Admission,
        run: Run,
        leads: Callable[[], bool],
        tell: Tell,
        over: Callable[[Admitted], Awaitable[None]],
        *,
        host: str,
        port: int,
        certificate: tuple[str, str] | None = None,
        places: Places | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008 - it is frozen
    ) -> None:
        self._admission = admission
        self._run = run
        self._leads = leads
        self._tell = tell
        self._over = over
        self._address = host, port
        self.certificate = Certificate(certificate)
        """What who connects is shown."""
        self._following: asyncio.Task[None] | None = None
        self.places = places or Places()
        """Which of them are taken, for who counts them."""
        self._bounds = bounds
        # Its own: sessions mostly block, and would take the threads of all else.
        self._threads = ThreadPoolExecutor(2 * MOST + 8, "session")
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.open: set[str] = set()
        """The UIDs of sessions that are open."""
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    @property
    def port(self) -> int:
        """The port that is bound; another than was asked for where that was 0."""
        assert self._listener is not None, "not started"  # noqa: S101
        return self._listener.port

    async def __aenter__(self) -> "SessionServer":
        app = web.Application()
        app.router.add_get(PATH, self._serve)
        app.on_response_prepare.append(_once)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - it is set up
        self._listener = Listener(self._runner.server, self.certificate.context)
        self._listener.start(*self._address)
        self._following = asyncio.create_task(self.certificate.follow(), name="sessions: certificate")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
        if self._listener is not None:
            self._listener.close()
        # Before the runner, which would wait for them as for requests.
        await self.end_all()
        if self._runner is not None:
            await self._runner.cleanup()
        # Not waited for: a thread may hang in an engine that does not answer.
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def end_all(self) -> None:
        """End what is open: the operator stops, or leads no more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._listener is not None:
            self._listener.asks(request.transport)
        # Before anything is read: another replica knows neither hosts nor sessions that are open.
        if not self._leads():
            return _busy("Another replica of the operator opens sessions.")
        # Counted apart from sessions: who only connects must not take their places.
        if self._waiting >= WAITING:
            return _busy("Too many connections wait.")
        # Nothing compressed: a few bytes could become many.
        socket = web.WebSocketResponse(protocols=(CLOSES_INPUT,), max_msg_size=LARGEST_OPENING, compress=False)
        if not socket.can_prepare(request).ok:
            return web.Response(status=400, text="Sessions are opened by WebSocket: claude-sandbox shell.\n")
        self._waiting += 1
        waits = True

        def served() -> None:
            nonlocal waits
            if waits:
                waits = False
                self._waiting -= 1

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is one
        # So that all can be ended at once: aiohttp would wait for them as for requests.
        self._tasks.add(task)
        try:
            await self._opened(request, socket, served)
        finally:
            served()
            self._tasks.discard(task)
        return socket

    async def _opened(self, request: web.Request, socket: web.WebSocketResponse, served: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(OPENS):
                await socket.prepare(request)
                opening = await _opening(socket)
                admitted = await self._admission.admit(opening)
        except Refused as error:
            await _refuse(socket, error)
            return
        except (TimeoutError, ConnectionError):
            await _refuse(socket, Refused("Nothing was said in time.", "Try again."))
            return
        served()
        identity = admitted.identity
        # From here on `tidying` leaves its object alone.
        self.open.add(admitted.uid)
        with about(identity.namespace, identity.name, identity.uid):
            try:
                with self.places.of(admitted.namespace):
                    await self._carry(socket, admitted, opening)
            except FullError as error:
                await _refuse(
                    socket, Refused(f"{error}.", "End one: kubectl get claudesandboxsessions, and delete it.")
                )
            except Refused as error:
                await _refuse(socket, error)
            finally:
                # Also of one that is cancelled: the object is of no use any more.
                self.open.discard(admitted.uid)
                await asyncio.shield(self._over(admitted))

    async def _carry(self, socket: web.WebSocketResponse, admitted: Admitted, opening: Opening) -> None:
        running = await self._run(admitted, opening, self._threads)
        what = "a log is read" if opening.log else "a terminal" if opening.run and opening.run.tty else "a command runs"
        self._tell(
            admitted, "SessionOpened", f"Session {admitted.session} was opened by the operator's channel: {what}."
        )
        began, how = datetime.now(UTC), "it was cut off"
        try:
            with suppress(ConnectionError):
                await _say(socket, Answer(can_end_input=running.can_end_input))
                stream = Stream(
                    socket,
                    running,
                    self._threads,
                    lambda: self._admission.ended(admitted),
                    self.places.spend,
                    self._bounds,
                )
                how = await stream.run()
        finally:
            # Also where the stream never began.
            running.close()
            seconds = (datetime.now(UTC) - began).total_seconds()
            logger.info("session %s has ended after %.1f s: %s", admitted.session, seconds, how)


async def _opening(socket: web.WebSocketResponse) -> Opening:
    """What the client wants. Raises Refused."""
    message = await socket.receive()
    if message.type is not WSMsgType.TEXT:
        raise Refused("What came first was no opening of a session.", "Use claude-sandbox of the operator's version.")
    try:
        opening = Opening.model_validate_json(message.data)
    except (ValidationError, RecursionError):
        opening = None
    # One of the two is asked for, and not both.
    if opening is None or (opening.run is None) == (opening.log is None):
        raise Refused("What came first was no opening of a session.", "Use claude-sandbox of the operator's version.")
    return opening


async def _refuse(socket: web.WebSocketResponse, error: Refused) -> None:
    with suppress(ConnectionError, TimeoutError, RuntimeError):
        async with asyncio.timeout(OPENS):
            await _say(socket, Answer(refused=str(error), remedy=error.remedy))
            await socket.close()


async def _say(socket: web.WebSocketResponse, answer: Answer) -> None:
    await socket.send_str(answer.model_dump_json(by_alias=True, exclude_none=True))


async def _once(_: web.Request, response: web.StreamResponse) -> None:
    """A connection is for one request."""
    response.force_close()


def _busy(why: str) -> web.Response:
    return web.Response(status=503, text=f"{why}\n", headers={"Retry-After": "1"})
