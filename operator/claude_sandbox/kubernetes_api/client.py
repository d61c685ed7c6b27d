"""The API server over HTTP: raw dictionaries in and out, a bounded number of retries, one error type.

On the hot path of a reconcile each call costs what aiohttp costs (about 150 µs of CPU); the generated client's models
cost three times as much and drop the fields that they do not know.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson

from claude_sandbox.api.meta import FIELD_MANAGER
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import TOO_LARGE, ApiError
from claude_sandbox.kubernetes_api.informers.watch_events import event_of, lines
from claude_sandbox.kubernetes_api.informers.yielding import Breath
from claude_sandbox.kubernetes_api.queries import preconditions, query, selectors, write_query
from claude_sandbox.kubernetes_api.resources import SECRETS, Resource
from claude_sandbox.kubernetes_api.transport import (
    JSON,
    Request,
    RequestObserver,
    Transport,
    WritePermit,
    no_answer,
    refusal,
)

Obj = dict[str, Any]
"""An object as the API server sent it. Treated as immutable once it is shared."""

Propagation = Literal["Background", "Foreground", "Orphan"]

ATTEMPTS = 4
PAGE = 500
PAGE_BYTES = 1024 * 1024
"""A page of a list that has more is asked for again with fewer objects: decoding it holds up everything else.

An object can have 1.5 MiB (etcd's limit for a request), and 500 of them 750.
"""
LARGE_EVENT = 128 * 1024
"""Bytes of an event after whose decoding others have the event loop before it is looked at."""

_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, as of one `resource_version`."""

    items: list[Obj]
    resource_version: str


class Api:
    """One session to one API server. Use inside a running event loop, and `close()` it (or `async with`).

    Every method raises `ApiError`. Transient failures are retried up to `attempts` times within about ten seconds; a
    create whose first try may have succeeded can therefore answer AlreadyExists, for the caller to judge.

    `write_permit`, where given, is asked before each write. It raises to refuse it, or returns for how many seconds at
    most the request may take: a replica that stops leading must not have writes under way.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        pool_size: int = 32,
        timeout: float = 30.0,
        attempts: int = ATTEMPTS,
        observer: RequestObserver | None = None,
        write_permit: WritePermit | None = None,
        user_agent: str = "claude-sandbox-operator",
    ) -> None:
        self._transport = Transport(
            credentials,
            pool_size=pool_size,
            timeout=timeout,
            attempts=attempts,
            observer=observer,
            write_permit=write_permit,
            user_agent=user_agent,
        )

    @property
    def host(self) -> str:
        """Host and port of the server, for labels of metrics."""
        return self._transport.host

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; watches end with an error."""
        await self._transport.close()

    # Reading

    async def open(self, request: Request, timeouts: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """An answer that is read as it comes, whatever its status. Not retried. Raises what aiohttp raises."""
        return await self._transport.open(request, timeouts)

    async def websocket(self, path: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """A connection by WebSocket. Not retried."""
        try:
            return await self._transport.websocket(path, protocols)
        except (aiohttp.ClientError, OSError) as error:
            raise no_answer(error) from None

    async def websocket_beside(self, url: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        """A connection to a server that the API server's authority vouches for, without the user's credential."""
        try:
            return await self._transport.websocket_beside(url, protocols)
        except (aiohttp.ClientError, OSError) as error:
            raise no_answer(error) from None

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        metadata_only: bool = False,
    ) -> Obj:
        """One object."""
        path = resource.item(name, namespace, subresource)
        accept = _METADATA if metadata_only else JSON
        return await self._transport.call(Request("GET", path, accept=accept, sensitive=resource is SECRETS))

    async def get_path(self, path: str) -> Obj:
        """A JSON document that is not an object, such as /version."""
        return await self._transport.call(Request("GET", path))

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE,
    ) -> AsyncGenerator[Listing, None]:
        """A consistent list, page by page: every page is of the same `resource_version`.

        A list that changes too much while it is read fails with `is_gone` once a continue token has expired.
        """
        wanted = selectors(label_selector, field_selector)
        token = ""
        while True:
            page = wanted | ({"limit": str(limit)} if limit else {}) | ({"continue": token} if token else {})
            accept = _METADATA_LIST if metadata_only else JSON
            path = resource.collection(namespace) + query(page)
            # One object can't be had in parts, and a list in one piece (limit 0) is the last resort: they may be of any
            # size.
            at_most = PAGE_BYTES if limit > 1 else None
            request = Request("GET", path, accept=accept, sensitive=resource is SECRETS, at_most=at_most)
            try:
                body = await self._transport.call(request)
            except ApiError as error:
                if error.reason != TOO_LARGE or limit <= 1:
                    raise
                # From the same token on: the server gives the next page from there in whatever size.
                limit = max(1, limit // 8)
                continue
            metadata = body.get("metadata") or {}
            yield Listing(body.get("items") or [], metadata.get("resourceVersion", ""))
            token = metadata.get("continue") or ""
            if not token:
                return

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE,
        keep: Callable[[Obj], Obj] = lambda obj: obj,
    ) -> Listing:
        """All objects of a namespace or of the cluster, of each what `keep` makes of it as it arrives.

        Falls back to one big page when a continue token expires.
        """
        # A second try by pages would meet the same churn; in one piece there is no token that could expire.
        for size in (limit, 0):
            items: list[Obj] = []
            version = ""
            try:
                async for page in self.pages(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    metadata_only=metadata_only,
                    limit=size,
                ):
                    breath = Breath()
                    # Let go of one by one: what is not kept of a page costs as much to free as to decode.
                    waiting = page.items[::-1]
                    page.items.clear()
                    await asyncio.sleep(0)  # decoding them had the loop for long enough
                    while waiting:
                        items.append(keep(waiting.pop()))
                        await breath()
                    version = page.resource_version
            except ApiError as error:
                if not error.is_gone or size == 0:
                    raise
            else:
                return Listing(items, version)
        raise AssertionError("unreachable")

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        timeout_seconds: int = 300,
        idle_timeout: float = 90.0,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Obj, None]:
        """Events after `resource_version`, bookmarks among them, until the server ends the watch.

        Not retried. Raises `ApiError`: `is_gone` to list again; TimedOut after `idle_timeout` seconds of silence. The
        server sends a bookmark a minute, but not of a kind of which it has never seen an event: silence means that,
        or a dead connection. `on_open` is called when it has agreed to watch. Use with `contextlib.aclosing`.
        """
        wanted = selectors(label_selector, field_selector) | {
            "watch": "1",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
        }
        path = resource.collection(namespace) + query(wanted)
        sensitive = resource is SECRETS
        request = Request("GET", path, accept=_METADATA if metadata_only else JSON, sensitive=sensitive)
        # No total: a watch lasts for minutes, and its own parameter tells the server when to end it.
        timeouts = aiohttp.ClientTimeout(sock_connect=self._transport.timeout, sock_read=idle_timeout)
        try:
            response = await self._transport.open(request, timeouts)
            try:
                if response.status != 200:
                    # An expired resourceVersion comes so, or as an event of the kind ERROR in a stream that was begun
                    # (`event_of`).
                    raise refusal(response, await response.read(), sensitive=sensitive)
                if on_open is not None:
                    on_open()
                async for line in lines(response.content.iter_any()):
                    event = event_of(line, sensitive=sensitive)
                    if len(line) > LARGE_EVENT:
                        await asyncio.sleep(0)
                    yield event
                    # Or it would be held while the next one is decoded, however large both are.
                    del event
            finally:
                response.close()
        except (aiohttp.ClientError, OSError) as error:
            raise no_answer(error) from None

    # Writing

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        field_manager: str = FIELD_MANAGER,
        dry_run: bool = False,
    ) -> Obj:
        """Create an object, or a subresource of the object `name` (an eviction, a token).

        With `generateName` a failure that may have created the object is not retried: that could create two.
        """
        path = resource.item(name, namespace, subresource) if name else resource.collection(namespace)
        request = Request(
            "POST",
            path + write_query(field_manager, dry_run),
            orjson.dumps(body),
            sensitive=resource is SECRETS,
            # Under a name that is given, a second create finds the first one's object: AlreadyExists, which callers
            # judge.
            repeatable="generateName" not in (body.get("metadata") or {}),
        )
        return await self._transport.call(request)

    async def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        field_manager: str = FIELD_MANAGER,
    ) -> Obj:
        """Replace an object; guarded by the resourceVersion in its metadata."""
        metadata = body["metadata"]
        path = resource.item(metadata["name"], metadata.get("namespace"))
        path += write_query(field_manager, False)
        request = Request("PUT", path, orjson.dumps(body), sensitive=resource is SECRETS)
        return await self._transport.call(request)

    async def apply(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Server-side apply: create the object, or make the fields in `body` ours and as given.

        A `uid` in the metadata is a precondition: where the object is gone or another one, it is a conflict.
        """
        metadata = body["metadata"]
        path = resource.item(metadata["name"], metadata.get("namespace"), subresource)
        path += write_query(field_manager, dry_run) + ("&force=true" if force else "")
        request = Request("PATCH", path, orjson.dumps(body), content_type=_APPLY, sensitive=resource is SECRETS)
        return await self._transport.call(request)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        patch: Mapping[str, Any],
        *,
        subresource: str | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> Obj:
        """JSON merge patch (RFC 7386). A `uid` or `resourceVersion` in its metadata is a precondition."""
        path = resource.item(name, namespace, subresource) + write_query(field_manager, False)
        request = Request("PATCH", path, orjson.dumps(patch), content_type=_MERGE, sensitive=resource is SECRETS)
        return await self._transport.call(request)

    async def patch_status(
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        status: Mapping[str, Any],
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> Obj:
        """Merge `status` into the status subresource; lists are replaced, None removes. Preconditions where given."""
        body: Obj = {"status": status}
        if guard := preconditions(uid, resource_version):
            body["metadata"] = guard
        return await self.patch(resource, name, namespace, body, subresource="status", field_manager=field_manager)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Delete one object, only if it still has this uid and resourceVersion (else a conflict).

        The answer is the object where its deletion takes time, else the object or a `Status`.
        """
        options: Obj = {"propagationPolicy": propagation}
        if guard := preconditions(uid, resource_version):
            options["preconditions"] = guard
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if dry_run:
            options["dryRun"] = ["All"]
        path = resource.item(name, namespace)
        return await self._transport.call(Request("DELETE", path, orjson.dumps(options), sensitive=resource is SECRETS))
