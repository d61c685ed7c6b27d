"""Follows the ClaudeSandboxes of the gateway's namespace: list, watch, resume, and list again where that can't be.

Theory of operation: holds of each object what `read_sandbox` takes from it, by the object's name, or why it is refused.
A watch goes on where the last one ended. Where the server refuses that (410, or anything else), everything is listed
again, in pages, and what was not listed is gone. While the server does not answer, what is known stays, `contact` says
for how long it has been so, and tokens end by themselves. `changed` is called, from the event loop, whenever something
that is held became another. A crash leaves nothing.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from claude_sandbox.gateway.config.fields import ConfigError
from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of
from claude_sandbox.gateway.kubernetes.contact import Contact
from claude_sandbox.gateway.kubernetes.declared import Declared, read_sandbox
from claude_sandbox.gateway.kubernetes.names import GROUP, PLURAL, VERSION

PAGE = 20
"""Objects of a page."""
MOST = 5000
"""Sandboxes that are followed; further ones are refused."""
_WATCH_SECONDS = 300


class Sandboxes:
    """The sandboxes of one namespace. Read `declared` and `refused` (by names) once `synced`."""

    def __init__(self, api: ApiServer, namespace: str, changed: Callable[[], None]) -> None:
        self.declared: dict[str, Declared] = {}
        self.refused: dict[str, str] = {}
        self.synced = False
        self.contact = Contact()
        self._api = api
        self._path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        self._changed = changed
        self._version: str | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            began = time.monotonic()
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except ApiServerError as error:
                if error.status:
                    # It answered, and not with what was asked for: from here nothing can be resumed for certain.
                    self._version = None
                if error.status != 410:
                    await asyncio.sleep(self.contact.failed(str(error)))
                    continue
            # A server that ends watches at once is not asked in a tight loop.
            await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    async def _list(self) -> None:
        declared: dict[str, Declared] = {}
        refused: dict[str, str] = {}
        query = {"limit": str(PAGE)}
        while True:
            page = await self._api.get(self._path, query)
            items = page.get("items")
            for item in items if isinstance(items, list) else ():
                _take(item, declared, refused)
            version = version_of(page)
            going_on = page["metadata"].get("continue")
            if not going_on:
                break
            query = {"limit": str(PAGE), "continue": str(going_on)}
        self._version, self.synced = version, True
        self.contact.made()
        self.declared, self.refused = declared, refused
        self._changed()

    async def _watch(self) -> None:
        query = {"resourceVersion": self._version or ""}
        async with aclosing(self._api.watch(self._path, query, _WATCH_SECONDS)) as events:
            async for event in events:
                if event["type"] != "OPEN":
                    self._apply(event["type"], event["object"])
                self.contact.made()

    def _apply(self, kind: str, obj: Obj) -> None:
        version = version_of(obj)
        if kind != "BOOKMARK":
            name = _name(obj)
            before = self.declared.pop(name, None), self.refused.pop(name, None)
            if kind != "DELETED":
                _take(obj, self.declared, self.refused)
            if before != (self.declared.get(name), self.refused.get(name)):
                self._changed()
        self._version = version


def _take(obj: object, declared: dict[str, Declared], refused: dict[str, str]) -> None:
    if not isinstance(obj, dict):
        raise ApiServerError(200, "a list with what is no object")
    name = _name(obj)
    try:
        found = read_sandbox(obj)
    except ConfigError as error:
        refused[name] = str(error)
        return
    if found is None:
        return
    if len(declared) >= MOST:
        refused[name] = f"one gateway serves {MOST} sandboxes: make it in another namespace"
        return
    declared[name] = found


def _name(obj: Obj) -> str:
    metadata = obj.get("metadata")
    found = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(found, str):
        raise ApiServerError(200, "an object without a name")
    return found
