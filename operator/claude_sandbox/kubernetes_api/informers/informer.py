"""A store that follows the API server: list, watch, resume, list again, and tell what changed.

Theory of operation. One task, `run`, does one thing after the other: it lists everything, watches from there on, and
lists again now and then, or at once where the watch can't be resumed or told what nobody can read. A list and a watch
never overlap. Passes `learn` and `unlearn` what their own writes were answered with, at any await of that task.

It holds, besides the store: the resourceVersion that the list or the watch has come to (`_reached`); what was learnt
and no watch has told yet, with what the handlers know of it (`_ahead`); and the UIDs of what our deletes removed since
the last list began (`_unlearnt`).

- Neither a watch nor an answer replaces a newer object by an older one. A list is believed whole, but for what was
  learnt or unlearnt since it began: it may have been read before.
- Handlers hear of each change that is not our own once, in the order in which it is learnt of; of several that come
  between a watch and a list, the sum. They are called at once, on the event loop, after the store was changed.
- What can't be understood, or is refused, ends nothing: everything is listed again after a pause. Meanwhile the store
  stays as it is and `age()` grows, so that what is measured becomes Unknown.

All of it is for one event loop. Nothing that is lost on the way stays lost: a watch resumes where it ended, silence
ends it after `idle` seconds, and a list tells what no watch did, deletions included. A crash loses all; the next start
lists.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from claude_sandbox.api.mishap import mishap
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import INVALID_RESPONSE, TIMED_OUT, ApiError
from claude_sandbox.kubernetes_api.informers.cache_limits import CacheLimits
from claude_sandbox.kubernetes_api.informers.store import IndexFunction, Key, Store, key_of, same_version, version_of
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.informers.yielding import Breath
from claude_sandbox.kubernetes_api.resources import Resource

logger = logging.getLogger(__name__)

OnChange = Callable[[Obj | None, Obj | None], None]
"""Called with the object before and after. Must be quick and must not raise.

They can be two different objects of one name (their UIDs differ) where a deletion was not seen by itself."""

Transform = Callable[[Obj], Obj]
"""Called with each object as it arrives, before anyone else sees it; what it gives is kept."""


@dataclass(frozen=True)
class Timings:
    """How often and how long, in seconds."""

    resync: float = 600.0
    """Everything is listed again after this, spread by a fifth."""
    watch: float = 300.0
    """The server ends a watch after this, spread by a third, so that not all end at once."""
    idle: float = 90.0
    """A connection that is silent for so long is given up: the server sends a bookmark a minute."""
    backoff: float = 0.5
    backoff_cap: float = 30.0
    refused: float = 60.0
    """Between two tries of a list that the server refuses to us."""


@dataclass(frozen=True)
class Contact:
    """When the API server last told something."""

    monotonic: float = float("-inf")
    wall: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True)
class _Ahead:
    """An object that was learnt from a write and that the watch has not told yet."""

    told: Obj | None
    """The object as the handlers know it."""
    list: int
    """Which list was the last to begin when it was learnt."""


class Informer:
    """Follows the objects of one kind, in one namespace or in all.

    Read `store` after `synced` is set. `readable` and `why_not` tell whether the server lets us list them at all: a
    refusal (403, or a kind that does not exist) is a state that is looked at again, not a crash, and leaves the store
    as it is. `age()` tells how old the picture may be. Of each object its kind's projection is kept, or `transform`'s,
    as far as `limits` go.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        transform: Transform | None = None,
        limits: CacheLimits | None = None,
        indexes: Mapping[str, IndexFunction] | None = None,
        on_change: OnChange | None = None,
        pace: Timings = Timings(),
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.selector = field_selector or label_selector or ""
        self.store = Store(indexes)
        self.synced = asyncio.Event()
        """Set by the first complete list."""
        self.settled = asyncio.Event()
        """Set by the first complete list or the first refusal: the state is known."""
        self.readable = True
        self.why_not = ""
        self.last_contact = Contact()
        self.relists = 0
        """Complete lists so far."""
        self._api = api
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._transform = transform or PROJECTIONS.get(resource) or (lambda obj: obj)
        self.limits = limits or CacheLimits(resource)
        self._handlers: list[OnChange] = [on_change] if on_change else []
        self._pace = pace
        self._reached = 0  # the resourceVersion that the list or the watch has come to
        self._ahead: dict[Key, _Ahead] = {}
        self._lists_begun = 0
        self._unlearnt: set[str] = set()  # UIDs of what our deletes removed since the last list began

    def __repr__(self) -> str:
        return f"<Informer {self.resource} {self.namespace or 'all namespaces'}: {len(self.store)} objects>"

    def add_handler(self, on_change: OnChange) -> None:
        """Tell `on_change` of every change from now on."""
        self._handlers.append(on_change)

    def age(self) -> float:
        """Seconds since the server last told something; infinite before the first list."""
        return time.monotonic() - self.last_contact.monotonic

    def learn(self, obj: Obj) -> None:
        """Take in an object as the server answered a write of ours, ahead of the watch. It belongs to us from then on.

        Without it the next reconcile would see the state from before the write, and write again. Handlers are not
        told, unless it turns out that someone else's change came between what they knew and what we wrote.
        """
        obj = self._arrived(obj)
        key = key_of(obj)
        old = self.store.get(*key)
        # What the watch has passed already and does not hold was deleted since.
        known = self._reached if old is None else version_of(old)
        if version_of(obj) > known:
            # Of several writes in a row the handlers still know what was there before the first.
            told = self._ahead[key].told if key in self._ahead else old
            self._ahead[key] = _Ahead(told, self._lists_begun)
            self.store.put(obj)

    def unlearn(self, obj: Obj) -> None:
        """Take in that a delete of ours removed an object, ahead of the watch. Handlers are not told."""
        key = key_of(obj)
        held = self.store.get(*key)
        if held is not None and held["metadata"]["uid"] == obj["metadata"]["uid"]:
            self._ahead.pop(key, None)
            self._unlearnt.add(obj["metadata"]["uid"])
            self._remove(key)

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                failures = await self._follow(version)
            except ApiError as error:
                failures += 1
                await self._rest(error, failures)
            except Exception as error:  # noqa: BLE001 - an object is somebody else's; what is raised depends on it
                # What is known grows old meanwhile, and makes results Unknown; the other kinds are followed on.
                failures += 1
                await self._rest(ApiError(200, INVALID_RESPONSE, mishap(error)), failures)

    async def _list(self) -> str:
        """List everything and tell the differences; the resourceVersion to watch from."""
        # What was deleted before this is in no list that begins now.
        self._lists_begun += 1
        self._unlearnt.clear()
        listing = await self._api.list(
            self.resource,
            self.namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            keep=self._arrived,
        )
        reached = int(listing.resource_version)
        await self._replace(listing.items, reached)
        if not self.readable:
            logger.info("%s can be read again", self)
        # A list alone says so: a role that grants `watch` without `list` is of no use here.
        self.readable = True
        self._touch()
        self.relists += 1
        self.synced.set()
        self.settled.set()
        return listing.resource_version

    async def _replace(self, items: list[Obj], reached: int) -> None:
        """Hold what was listed, and what was learnt after the list was read; tell the differences.

        Others have the loop in between, so what they learn and unlearn meanwhile is looked at for each object.
        """
        breath = Breath()
        listed: set[Key] = set()
        for item in items:
            await breath()
            key = key_of(item)
            listed.add(key)
            if self._is_ahead(key, reached) or item["metadata"]["uid"] in self._unlearnt:
                continue
            ahead, held = self._ahead.pop(key, None), self.store.get(*key)
            # A stub may fit by now, although its version is the same: others of its namespace are gone.
            if held is None or not same_version(held, item) or OUTSIZE in held:
                self.store.put(item)
                self._tell(held, item)
            elif ahead is not None:
                self._tell(ahead.told, item)  # what came between, a list doesn't tell
        # All that was listed is held, so what is learnt from now on that is older than the list was deleted since.
        self._reached = reached
        # As they are now: what is learnt while others have the loop is not among them.
        known = self.store.keys()
        for key in known:
            await breath()
            if key not in listed and not self._is_ahead(key, reached):
                self._ahead.pop(key, None)
                self._tell(self._remove(key), None)
        self.limits.retain(self.store)

    def _is_ahead(self, key: Key, reached: int) -> bool:
        """Whether the object was learnt from a write after the list was read that came to `reached`."""
        ahead, held = self._ahead.get(key), self.store.get(*key)
        if ahead is None or held is None:
            return False
        return ahead.list == self._lists_begun and version_of(held) > reached

    def _remove(self, key: Key) -> Obj | None:
        self.limits.forget(key)
        return self.store.remove(key)

    async def _follow(self, version: str) -> int:
        """Watch from `version` until it is time to list again; failures in a row, to go on counting."""
        # A list tells what no watch did. Spread, so that the informers of all kinds don't list at the same moment.
        relist_at = time.monotonic() + self._pace.resync * random.uniform(0.8, 1.2)  # noqa: S311
        failures = 0
        while (left := relist_at - time.monotonic()) > 0:
            opened, before = time.monotonic(), version
            wanted = min(self._pace.watch * random.uniform(2 / 3, 4 / 3), left)  # noqa: S311
            try:
                version = await self._watch(version, max(1, round(wanted)))
            except _Interrupted as interrupted:
                version, error = interrupted.version, interrupted.error
                if error.is_gone or error.reason == INVALID_RESPONSE:
                    # What was unreadable may be lost; a list is sure.
                    logger.info("%s: listing again after: %s", self, error)
                    return failures
                # A role or a CRD went away: `run` waits, and begins with a list, which is what says that they are back.
                if error.is_forbidden or error.is_unauthorized or error.is_not_found:
                    raise error from None
                if error.reason == TIMED_OUT and time.monotonic() - opened >= self._pace.idle:
                    failures = 0
                    continue  # nothing happens, or the connection is dead: watched again at once, either way
                # It had come on since: this is the first failure of another trouble.
                failures = 1 if version != before else failures + 1
                await self._rest(error, failures)
            else:
                failures = 0
                if time.monotonic() - opened < 1.0 and version == before:
                    await asyncio.sleep(1.0)  # a server that ends watches at once is not asked in a tight loop
        return 0

    async def _watch(self, version: str, seconds: int) -> str:
        """One watch; the resourceVersion reached. Raises `_Interrupted`, which carries it too."""
        stream = self._api.watch(
            self.resource,
            self.namespace,
            resource_version=version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            timeout_seconds=seconds,
            idle_timeout=self._pace.idle,
            on_open=self._touch,
        )
        breath = Breath()
        try:
            async with aclosing(stream):
                async for event in stream:
                    await breath()
                    obj = event["object"]
                    if event["type"] != "BOOKMARK":
                        self._apply(event["type"], obj)
                    version = obj["metadata"]["resourceVersion"]
                    self._reached = int(version)
                    self._touch()
        except ApiError as error:
            raise _Interrupted(version, error) from None
        except (KeyError, TypeError, ValueError):
            raise _Interrupted(version, ApiError(200, INVALID_RESPONSE, "an event without an object")) from None
        self._touch()
        return version

    def _apply(self, kind: str, obj: Obj) -> None:
        obj = self._arrived(obj)
        key = key_of(obj)
        version = version_of(obj)
        held = self.store.get(*key)
        # Held already, from the answer to a write or from a list.
        if held is not None and version_of(held) >= version:
            ahead = self._ahead.get(key)
            if ahead is None:
                return
            if version_of(held) == version:
                del self._ahead[key]
            else:
                # Somebody else's change from before our write: told of as what it has become by now.
                self._ahead[key] = _Ahead(held, ahead.list)
                self._tell(ahead.told, held)
            return
        self._ahead.pop(key, None)
        if kind != "DELETED":
            self.store.put(obj)
            self._tell(held, obj)
        else:
            self._remove(key)
            if held is not None:
                self._tell(held, None)

    def _arrived(self, obj: Obj) -> Obj:
        # Items of a list come without a kind, and metadata with that of PartialObjectMetadata.
        obj["apiVersion"], obj["kind"] = self.resource.api_version, self.resource.kind
        return self.limits.admit(self._transform(obj))

    def _tell(self, old: Obj | None, new: Obj | None) -> None:
        # One that fails must not keep the others, nor the store, from what comes next.
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception:
                logger.exception("a handler of %s failed", self)

    def _touch(self) -> None:
        self.last_contact = Contact(time.monotonic(), time.time())
        # What the API server refuses stays said: that it takes a connection doesn't mean that it lets us list.
        if self.readable:
            self.why_not = ""

    async def _rest(self, error: ApiError, failures: int) -> None:
        """Say what is wrong, once for each kind of trouble, and wait."""
        refused = error.is_forbidden or error.is_unauthorized or error.is_not_found
        if str(error) != self.why_not:
            logger.warning("%s: %s", self, error)
        self.why_not = str(error)
        if refused:
            self.readable = False
            self.settled.set()
            pause = self._pace.refused
        else:
            pause = min(self._pace.backoff * 2 ** min(failures - 1, 16), self._pace.backoff_cap)
        await asyncio.sleep(max(pause * random.uniform(0.5, 1.0), error.retry_after or 0))  # noqa: S311


class _Interrupted(Exception):  # noqa: N818 (the normal end of many watches)
    """A watch that failed after it had reached `version`."""

    def __init__(self, version: str, error: ApiError) -> None:
        self.version = version
        self.error = error
