"""A kind of object that is followed in the gateway's namespace: list, watch, resume, list again where that can't be.

Theory of operation: holds how far it has come, and nothing of the objects, which who derives from it holds. A watch
goes on where the last one ended. Where the server refuses that (410, or anything else), everything is listed again, in
pages, of which only one is in memory, and what was not listed is gone. While the server does not answer, what is known
stays, and `contact` says for how long it has been so. All of it is for one event loop; a crash leaves nothing.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from claude_sandbox.gateway.kubernetes.api_server import ApiServer, ApiServerError, Obj, version_of
from claude_sandbox.gateway.kubernetes.contact import Contact

T = TypeVar("T")

_WATCH_SECONDS = 300


class Followed(ABC, Generic[T]):
    """T: what is held of all objects. `page`: objects of a page; `query`: chooses among them."""

    def __init__(
        self, api: ApiServer, path: str, *, page: int, query: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.contact = Contact()
        self._api = api
        self._path = path
        self._page = page
        self._query = query
        self._version: str | None = None

    @abstractmethod
    def _nothing(self) -> T:
        """What a list begins with."""

    @abstractmethod
    def _take(self, item: Any, held: T) -> None:
        """Take in an object of a list. Raises ApiServerError for what is none."""

    @abstractmethod
    def _hold(self, held: T) -> None:
        """A list is complete."""

    @abstractmethod
    def _apply(self, kind: str, obj: Obj) -> None:
        """An object was ADDED, MODIFIED or DELETED. Raises ApiServerError for what is none."""

    async def _begin(self) -> None:
        """Wait until there is something to follow."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._begin()
            began = time.monotonic()
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
            except ApiServerError as error:
                if error.status:
                    # It answered, and not with what was asked for: from here nothing can be resumed for certain.
                    self._version = None
                # What is too old to be resumed (410) is no fault of the server's: it is listed anew at once.
                if error.status != 410:
                    await asyncio.sleep(self.contact.failed(str(error)))
                    continue
            # A server that ends watches at once is not asked in a tight loop.
            await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

    async def _list(self) -> None:
        held = self._nothing()
        query = {"limit": str(self._page), **self._query}
        while True:
            page = await self._api.get(self._path, query)
            items = page.get("items")
            for item in items if isinstance(items, list) else ():
                self._take(item, held)
            # Of the last page, which is that of the first: all pages are of one moment.
            version = version_of(page)
            going_on = page["metadata"].get("continue")
            if not going_on:
                break
            query["continue"] = str(going_on)
        self._version = version
        self.contact.made()
        self._hold(held)

    async def _watch(self) -> None:
        query = {"resourceVersion": self._version or "", **self._query}
        async with aclosing(self._api.watch(self._path, query, _WATCH_SECONDS)) as events:
            async for event in events:
                if event["type"] != "OPEN":
                    version = version_of(event["object"])
                    if event["type"] != "BOOKMARK":
                        self._apply(event["type"], event["object"])
                    self._version = version
                self.contact.made()
