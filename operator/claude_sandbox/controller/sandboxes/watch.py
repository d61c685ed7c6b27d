"""kopf's part: logging in, watching the ClaudeSandboxes, stopping.

Its handlers turn an event into a key and do no work: kopf would neither coalesce nor retry it, nor tell of a child
that drifted. What kopf may miss (after a 410 it tells of no deletion) the periodic list finds.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import aiohttp
import kopf

from claude_sandbox.api import meta
from claude_sandbox.controller.sandboxes import watch_stream
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes, key_of
from claude_sandbox.kubernetes_api.client import PAGE
from claude_sandbox.kubernetes_api.credentials import Credentials

logger = logging.getLogger(__name__)

Enqueue = Callable[[Key], None]


class _Backoffs:
    """Seconds between tries, without an end: when they end kopf gives up, and the process with it."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0), repeat(13.0))


class WatchErrors:
    """Where the API server does not let us follow the ClaudeSandboxes at the moment."""

    def __init__(self) -> None:
        self._by_path: dict[str, str] = {}

    def check(self) -> str:
        """What is wrong and what to do, or an empty text: a readiness check."""
        return "; ".join(self._by_path.values())

    def note(self, path: str, status: int) -> bool:
        """Take in an answer's HTTP status; whether it was a refusal, which may last. Says so when it begins or ends."""
        # 410 is a watch that is too old, and 429 a server that is busy: kopf copes with both by itself.
        if not 400 <= status < 500 or status in (410, 429):
            if status < 400 and self._by_path.pop(path, ""):
                logger.info("ClaudeSandboxes can be followed again", extra={"path": path})
            return False
        remedy = {
            403: "Give the operator's account its role: kubectl apply -k manifests/",
            404: "Install the CRD: kubectl apply -f crds/",
        }.get(status, "Look at the operator's credentials")
        trouble = f"{path} is answered with {status}. {remedy}"
        if self._by_path.get(path) != trouble:
            logger.warning("ClaudeSandboxes can't be followed: %s", trouble)
        self._by_path[path] = trouble
        return True


class _NoProgress(kopf.ProgressStorage):
    """Nothing is remembered on the objects: there are no handlers whose progress it could be."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """No last-handled configuration is kept: nothing here reacts to differences."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def registry_for(
    credentials: Credentials, sandboxes: Sandboxes, enqueue: Enqueue, watch_errors: WatchErrors
) -> kopf.OperatorRegistry:
    """The handlers: one that logs in, one that settles kopf, one that takes events."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.progress_storage = _NoProgress()
        settings.persistence.diffbase_storage = _NoDiffBase()
        # kopf wants a name, though it sets none without handlers of deletion.
        settings.persistence.finalizer = f"{meta.GROUP}/unused"
        # kopf would write Events of its own handlers, which do nothing that concerns a person.
        settings.posting.enabled = False
        # It would ask for all kinds and namespaces, which takes rights that the operator has no other use for.
        settings.scanning.disabled = True
        settings.networking.request_timeout = 30
        settings.networking.error_backoffs = _Backoffs()
        settings.watching.server_timeout = 300
        # Our own queue coalesces; kopf need not wait for more events.
        settings.batching.batch_window = 0
        settings.batching.idle_timeout = 1

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session_for(credentials, watch_errors))

    @kopf.on.event(meta.GROUP, meta.VERSION, meta.PLURAL, registry=registry)
    async def sandbox_changed(event: Any, **_: Any) -> None:
        # Before it is judged: an event that our own write caused may come before that write's answer.
        await sandboxes.written(event["object"])
        take(sandboxes, enqueue, event["type"], event["object"])

    return registry


def session_for(credentials: Credentials, watch_errors: WatchErrors) -> aiohttp.ClientSession:
    """A session for kopf with the credentials that the rest of the operator uses, renewed as there."""

    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        authorization = credentials.authorization
        value = authorization.value if authorization.fresh() else await authorization.renew()
        if value is not None:
            request.headers["Authorization"] = value
        response = await handler(request)
        if response.status == 401 and await authorization.refused(value) and authorization.value is not None:
            response.close()
            request.headers["Authorization"] = authorization.value
            response = await handler(request)
        return response

    async def insist(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        path = request.url.path
        if path.endswith(f"/{meta.PLURAL}") and watch_errors.note(path, response.status):
            # kopf would end, and the process with it; a failed connection it tries again, for ever (_Backoffs).
            response.close()
            raise aiohttp.ClientConnectionError(f"refused with {response.status}")
        if path.endswith(f"/{meta.PLURAL}") and request.method == "GET" and response.status == 200:
            if request.url.query.get("watch"):
                watch_stream.watched(response)
            else:
                return await listed(request, handler, response)
        return response

    async def listed(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, response: aiohttp.ClientResponse
    ) -> aiohttp.ClientResponse:
        limit = int(request.url.query.get("limit") or PAGE)
        while True:
            try:
                await watch_stream.listed(response, whole=limit <= 1)
            except watch_stream.TooLargeError:
                limit = max(1, limit // 8)
                request.url = request.url.update_query(limit=str(limit))
                response = await handler(request)
                if response.status != 200:
                    return response
            else:
                return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=credentials.ssl_context or True),
        # In this order from outside: what `insist` judges has had its credentials renewed already.
        middlewares=(insist, authorize),
        proxy=credentials.proxy,
    )


def take(sandboxes: Sandboxes, enqueue: Enqueue, kind: str | None, raw: Any) -> None:
    """Remember what the event says, and have the sandbox looked at unless it was our own write."""
    key = key_of(raw)
    if kind == "DELETED":
        known = sandboxes.get(key)
        # Told late: another one of its name is there by now, or a write found out before.
        if known is None or known["metadata"]["uid"] != raw["metadata"]["uid"]:
            return
        sandboxes.remove(key)
        enqueue(key)
    elif sandboxes.put(raw):
        enqueue(key)


async def watch(
    registry: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Follow the ClaudeSandboxes until `stop`; sets both where kopf ends by itself (a signal before ours are set)."""
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    scope: dict[str, Any] = {"namespaces": namespaces} if namespaces else {"clusterwide": True}
    # kopf would make one of the user's name, which a container's user need not have; it is for its peering only.
    scope["identity"] = meta.FIELD_MANAGER
    await kopf.operator(registry=registry, standalone=True, ready_flag=ready, stop_flag=stop, **scope)
    stop.set()
    ready.set()
