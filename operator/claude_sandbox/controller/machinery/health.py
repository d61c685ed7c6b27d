"""/healthz, /readyz and /metrics.

Being answered at all shows that the event loop turns. An API server that is away makes neither the process unhealthy
(a restart would not bring it back) nor a replica that waits for the lease unready.

Theory of operation. Holds the listening socket and nothing that it says: each request asks every check anew, so that
an answer is never older than the question. Checks run on the event loop and must neither wait nor do I/O; one that
raises fails, and is no reason not to answer. Only the page of metrics is made in a thread: whatever it reads is changed
by the event loop meanwhile, and copies before it iterates. Asked by anybody who reaches the port, so nothing that it
says is secret: names and counts are the most that it tells. A crash closes the port, which is the news.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

logger = logging.getLogger(__name__)

Check = Callable[[], str]
"""What is wrong, or an empty text."""


class Page(Protocol):
    """A body and its content type."""

    @property
    def body(self) -> bytes:
        """The bytes."""

    @property
    def content_type(self) -> str:
        """As in the header."""


class HealthServer:
    """Serves the checks: `async with HealthServer(...)`. Raises OSError where the address can't be bound.

    `live`: the process must be restarted where one of these fails. `ready`: it can't serve its purpose yet.
    `metrics` is given the Accept header and runs in a thread, so that a long page holds up no reconcile.
    """

    def __init__(
        self,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        metrics: Callable[[str], Page] | None = None,
        host: str = "0.0.0.0",  # noqa: S104 (the kubelet and Prometheus ask from outside the pod)
        port: int = 8080,
    ) -> None:
        self._live = live
        self._ready = ready
        self._metrics = metrics
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is bound; another than was asked for where that was 0."""
        assert self._runner is not None, "not started"  # noqa: S101
        port: int = self._runner.addresses[0][1]
        return port

    async def __aenter__(self) -> "HealthServer":
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        if self._metrics is not None:
            app.router.add_get("/metrics", self._serve_metrics)
        app.on_response_prepare.append(_anonymous)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _verdict("healthz", self._live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict("readyz", self._ready)

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        assert self._metrics is not None  # noqa: S101
        page = await asyncio.to_thread(self._metrics, request.headers.get("Accept", ""))
        return web.Response(body=page.body, headers={"Content-Type": page.content_type})


def no_stuck_worker(in_work: Callable[[], Mapping[Any, float]], bound: float) -> Check:
    """Whether no key has been in work for more than `bound` seconds."""

    def check() -> str:
        stuck = [f"{key} for {age:.0f} s" for key, age in in_work().items() if age > bound]
        return f"in work: {', '.join(stuck[:3])}" if stuck else ""

    return check


def all_running(tasks: Callable[[], Mapping[str, asyncio.Task[None]]]) -> Check:
    """Whether none of the tasks that should run for ever has ended."""

    def check() -> str:
        ended = [name for name, task in tasks().items() if task.done()]
        return f"ended: {', '.join(ended)}" if ended else ""

    return check


def all_set(events: Callable[[], Mapping[str, asyncio.Event]]) -> Check:
    """Whether everything that is waited for has happened."""

    def check() -> str:
        waiting = [name for name, event in events().items() if not event.is_set()]
        return f"not yet: {', '.join(waiting)}" if waiting else ""

    return check


def _verdict(path: str, checks: Mapping[str, Check]) -> web.Response:
    """As the API server words it: one line a check, and the verdict."""
    lines, failed = [], False
    for name, check in checks.items():
        try:
            wrong = check()
        # Its type alone: anybody who reaches the port reads this.
        except Exception as error:
            logger.exception("the check %s failed", name)
            wrong = f"the check itself failed: {type(error).__name__}"
        failed = failed or bool(wrong)
        lines.append(f"[-]{name} failed: {wrong}" if wrong else f"[+]{name} ok")
    lines.append(f"{path} check {'failed' if failed else 'passed'}")
    return web.Response(status=503 if failed else 200, text="\n".join(lines) + "\n")


async def _anonymous(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "claude-sandbox-operator"
    response.headers["Cache-Control"] = "no-cache"
