"""Everything that ever happened in a namespace, in the order in which it happened."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource

T = TypeVar("T")

CHILDREN = (r.PODS, r.NETWORK_POLICIES, r.SERVICE_ACCOUNTS, r.SERVICES, r.PERSISTENT_VOLUME_CLAIMS)
KINDS = (*CHILDREN, r.SANDBOXES, r.EVENTS)
OF_GATEWAYS = (r.DEPLOYMENTS, r.DISRUPTION_BUDGETS, r.ROLES, r.ROLE_BINDINGS, r.SECRETS)
"""What a namespace's gateway has beside that; followed where a test has one."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Event:
    """One change. `version` is the revision of the store, which orders the changes of all kinds."""

    version: int
    type: str
    kind: str
    obj: Obj

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.version} {self.type} {self.kind} {self.name}"


@dataclass(frozen=True)
class Hole:
    """Versions of which it isn't known what happened to a kind, because the server had forgotten: above `after`."""

    kind: str
    after: int
    until: int


class Ledger:
    """Follows a namespace from before the first create. Not through the proxies that the operator is tested with."""

    def __init__(self, api: Api, namespace: str, further: tuple[Resource, ...] = ()) -> None:
        self.namespace = namespace
        self.kinds = (*KINDS, *further)
        self.events: list[Event] = []
        self.live: dict[tuple[str, str], Obj] = {}
        self._holes: list[Hole] = []
        self._api = api
        self.trouble: Callable[[], str] = lambda: ""
        """Asked while waiting: what makes further waiting useless."""
        self._reached: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for kind in self.kinds:
            version = await self._list(kind)
            self._tasks.append(asyncio.create_task(self._follow(kind, version)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Have everyone who waits look again."""
        self._changed.set()

    def get(self, resource: Resource, name: str) -> Obj | None:
        """The object as last seen."""
        return self.live.get((resource.kind, name))

    def all(self, resource: Resource) -> list[Obj]:
        """The objects of a kind that are there now."""
        return [obj for (kind, _), obj in self.live.items() if kind == resource.kind]

    def holes(self) -> list[Hole]:
        """Where the history has holes, from the first sandbox on. An API server answers the first list of a new kind
        before it has a cache of it, which begins later where others write at that moment: a watch from the list on is
        refused as too old. With no sandbox yet, there is nothing to be missed."""
        first = min((event.version for event in self.events if event.kind == r.SANDBOXES.kind), default=0)
        return [hole for hole in self._holes if hole.until >= first]

    def history(self) -> list[Event]:
        """All changes, oldest first."""
        return sorted(self.events, key=lambda event: event.version)

    async def until(self, condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
        """Wait until the condition is truthy; it is asked again after each change. Fails after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                while not (result := condition()):
                    assert not (trouble := self.trouble()), f"{trouble} while waiting for: {what}"
                    self._changed.clear()
                    await self._changed.wait()
                return result
        except TimeoutError:
            raise AssertionError(f"never came: {what}\n{self.describe()}") from None

    async def caught_up(self, kind: Resource, version: int) -> None:
        """Wait until all is known that happened to this kind up to a version, which was of this kind."""
        if kind in self.kinds:
            await self.until(lambda: self._reached.get(kind.kind, 0) >= version, f"version {version} of {kind}")

    def describe(self) -> str:
        """What is there, for a person who looks at a failure."""
        lines = [f"in namespace {self.namespace}:"]
        for (kind, name), obj in sorted(self.live.items()):
            if kind == r.EVENTS.kind:
                continue
            lines.append(f"  {kind} {name} at {obj['metadata']['resourceVersion']}")
            if kind == r.SANDBOXES.kind:
                status = obj.get("status") or {}
                lines.append(f"    observed {status.get('observedGeneration')} of {obj['metadata']['generation']}")
                lines += [
                    f"    {c['type']}={c['status']} {c['reason']}: {c.get('message', '')[:200]}"
                    for c in status.get("conditions") or ()
                ]
        lines.append("the last changes:")
        lines += [f"  {event}" for event in self.history()[-25:] if event.kind != r.EVENTS.kind]
        return "\n".join(lines)

    async def _list(self, kind: Resource) -> str:
        listing = await self._api.list(kind, self.namespace)
        for item in listing.items:
            self._note("ADDED", kind, item)
        return listing.resource_version

    async def _follow(self, kind: Resource, version: str) -> None:
        while True:
            try:
                watch = self._api.watch(kind, self.namespace, resource_version=version)
                async with aclosing(watch):
                    async for event in watch:
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            self._note(event["type"], kind, event["object"])
            except ApiError as error:
                if error.is_gone:
                    version = await self._again(kind, version)
                else:
                    await asyncio.sleep(0.1)

    async def _again(self, kind: Resource, after: str) -> str:
        """List after a hole."""
        while True:
            try:
                listing = await self._api.list(kind, self.namespace)
            except ApiError:
                await asyncio.sleep(0.1)
                continue
            self._holes.append(Hole(kind.kind, int(after), int(listing.resource_version)))
            names = {item["metadata"]["name"] for item in listing.items}
            for item in listing.items:
                self._note("MODIFIED", kind, item)
            for (other, name), obj in list(self.live.items()):
                if other == kind.kind and name not in names:
                    gone = obj | {"metadata": obj["metadata"] | {"resourceVersion": listing.resource_version}}
                    self._note("DELETED", kind, gone)
            return listing.resource_version

    def _note(self, change: str, kind: Resource, obj: Obj) -> None:
        event = Event(int(obj["metadata"]["resourceVersion"]), change, kind.kind, obj)
        self.events.append(event)
        self._reached[kind.kind] = max(event.version, self._reached.get(kind.kind, 0))
        key = (kind.kind, event.name)
        if change == "DELETED":
            self.live.pop(key, None)
        else:
            self.live[key] = obj
        self._changed.set()


def condition(obj: Obj | None, kind: str) -> dict[str, Any]:
    """One condition of a sandbox, empty where it has none."""
    conditions = ((obj or {}).get("status") or {}).get("conditions") or ()
    return next((dict(c) for c in conditions if c["type"] == kind), {})


def says(obj: Obj | None, kind: str, status: str, reason: str | None = None) -> bool:
    """Whether a sandbox's status is about its current generation, and the condition is as expected."""
    if obj is None or (obj.get("status") or {}).get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    found = condition(obj, kind)
    return bool(found.get("status") == status and reason in (None, found["reason"]))
