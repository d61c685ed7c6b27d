"""Kubernetes Events about sandboxes: what `kubectl describe` and `kubectl events` show a person.

Saying something costs a reconcile nothing: Events are written by a task of their own, one at a time, and dropped (and
counted) where there are too many. The same thing said again becomes a series of the first Event, not a new one.

Theory of operation. Holds the series that were said lately, a bucket of tokens for each object that something was said
of (both bounded: who was not heard of for longest is forgotten), and a bounded line of series to be written.

Always true: a series is in line at most once, and is written with all that was said of it until then; nothing that a
tenant can cause makes a reconcile wait, fills memory, or keeps others' Events from being written for longer than the
line is; the note was redacted before it is kept.

`tell` may be called by anybody on the event loop. One task runs `run`, and no other writes. A crash loses what is in
line, and the series: what is said after it is a new Event. An answer that is lost is found by the name, which is chosen
before the first try. A write that is refused is counted and dropped: Events are no record, statuses are.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from claude_sandbox.api.clip import plain
from claude_sandbox.controller.machinery.redaction import redact
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import EVENTS

logger = logging.getLogger(__name__)

CONTROLLER = "claudesandbox.dev/operator"
ACTION = "Reconcile"

# The API server's limits, in bytes.
MAX_NOTE = 1024
MAX_INSTANCE = 128

# As client-go: a burst of 25 for each object, then one every five minutes; a series ends six minutes after its last.
BURST = 25
REFILL_SECONDS = 300.0
SERIES_SECONDS = 360.0

# For how many seconds at most an Event lets other work go first, and how often it looks whether it still has to.
GIVES_WAY = 5.0
LOOKS_EVERY = 0.05

MAX_PENDING = 1000
MAX_REMEMBERED = 4096

# Why an Event was dropped.
RATE_LIMITED = "rate_limited"
QUEUE_FULL = "queue_full"
FAILED = "failed"


class _Key(NamedTuple):
    """Two Events with the same key say the same thing."""

    uid: str
    kind: str
    reason: str
    note: str


@dataclass
class _Series:
    """An Event and how often it was said."""

    regarding: Obj
    key: _Key
    count: int = 0
    first: float = 0.0
    """Seconds since the epoch."""
    last: float = 0.0
    name: str = ""
    """Of the object, once it is written."""
    pending: bool = False


@dataclass
class _Bucket:
    """Tokens of one object."""

    filled: float
    """When the tokens were counted last."""
    tokens: float = float(BURST)

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + (now - self.filled) / REFILL_SECONDS)
        self.filled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class EventRecorder:
    """Say things with `tell`; have them written by running `run` beside."""

    def __init__(
        self,
        api: Api,
        instance: str,
        *,
        on_drop: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._instance = instance[:MAX_INSTANCE]
        self._on_drop = on_drop
        self._clock = clock
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._pending: deque[tuple[_Series, float]] = deque()  # and since when
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._complained = ""

    def tell(self, regarding: Mapping[str, Any], reason: str, note: str, *, warning: bool = False) -> None:
        """An Event about an object, which must have apiVersion, kind, and in its metadata name and uid.

        Of an object without a namespace it is in the namespace `default`, where the API server wants it.

        Never blocks and never fails. `reason` is a CamelCase constant; `note` is redacted and cut to 1,024 bytes.
        """
        metadata = regarding["metadata"]
        uid = metadata["uid"]
        key = _Key(uid, "Warning" if warning else "Normal", reason, _cut(plain(redact(note)), MAX_NOTE))
        now = self._clock()
        series = self._series.get(key)
        # A series that ended lives on in the API server, and is not taken up again.
        if series is None or now - series.last > SERIES_SECONDS:
            series = self._series[key] = _Series(_reference(regarding), key, first=now)
            _bound(self._series)
        self._series.move_to_end(key)
        series.count += 1
        series.last = now
        # Before the tokens: what costs no write takes none.
        if series.pending:
            return  # said together with what waits to be written
        # By UID: what is said of one object uses up nobody else's.
        bucket = self._buckets.setdefault(uid, _Bucket(filled=now))
        self._buckets.move_to_end(uid)
        _bound(self._buckets)
        if not bucket.take(now):
            self._drop(RATE_LIMITED)
        elif len(self._pending) >= MAX_PENDING:
            self._drop(QUEUE_FULL)
        else:
            series.pending = True
            self._pending.append((series, now))
            self._idle.clear()
            self._wake.set()

    async def run(self, busy: Callable[[], bool] = lambda: False) -> None:
        """Write what is told, until cancelled: while `busy`, five seconds later, for nobody waits for an Event."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                while busy() and self._clock() - self._pending[0][1] < GIVES_WAY:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(LOOKS_EVERY)
                series, _ = self._pending.popleft()
                # Before the write: what is said while that is under way is not in it, and has to be written again.
                series.pending = False
                await self._write(series)
            self._idle.set()

    async def drain(self) -> None:
        """Wait until all that was told is written; `run` must be running."""
        await self._idle.wait()

    async def _write(self, series: _Series) -> None:
        try:
            if series.name and await self._repeat(series):
                return
            name = series.name or f"{series.regarding['name'][:200]}.{uuid4().hex[:16]}"
            try:
                await self._api.create(EVENTS, self._event(series, name), _namespace(series))
            except ApiError as error:
                if not error.is_already_exists:  # else it is ours: the answer to the first try was lost
                    raise
            series.name = name
            self._complained = ""
        except ApiError as error:
            self._drop(FAILED)
            # A namespace that is being deleted takes no more Events; that is its end, and no fault.
            if not error.is_namespace_terminating:
                self._complain(str(error))
        except Exception as error:  # noqa: BLE001 (an Event is never worth the process, nor a refused write)
            self._drop(FAILED)
            self._complain(f"{type(error).__name__}: {error}")

    async def _repeat(self, series: _Series) -> bool:
        """Count on in the Event that is there; whether it still is."""
        patch = {"series": {"count": series.count, "lastObservedTime": _micro_time(series.last)}}
        try:
            await self._api.patch(EVENTS, series.name, _namespace(series), patch)
        except ApiError as error:
            if not error.is_not_found:
                raise
            series.name, series.count, series.first = "", 1, series.last  # the server forgets Events after an hour
            return False
        return True

    def _event(self, series: _Series, name: str) -> Obj:
        event: Obj = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": _namespace(series)},
            "eventTime": _micro_time(series.first),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": ACTION,
            "reason": series.key.reason,
            "regarding": series.regarding,
            "note": series.key.note,
            "type": series.key.kind,
        }
        if series.count > 1:
            event["series"] = {"count": series.count, "lastObservedTime": _micro_time(series.last)}
        return event

    def _drop(self, why: str) -> None:
        if self._on_drop is not None:
            self._on_drop(why)

    def _complain(self, what: str) -> None:
        """Once for each kind of trouble, not once for each Event."""
        if what != self._complained:
            self._complained = what
            logger.warning("cannot write Kubernetes Events: %s", what)


def _reference(regarding: Mapping[str, Any]) -> Obj:
    metadata = regarding["metadata"]
    reference = {
        "apiVersion": regarding["apiVersion"],
        "kind": regarding["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return reference | ({"namespace": metadata["namespace"]} if "namespace" in metadata else {})


def _namespace(series: _Series) -> str:
    return str(series.regarding.get("namespace", "default"))


def _bound(cache: "OrderedDict[Any, Any]") -> None:
    while len(cache) > MAX_REMEMBERED:
        cache.popitem(last=False)


def _cut(text: str, limit: int) -> str:
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= limit:
        return encoded.decode()
    # The ellipsis has three bytes, and a character may have been cut in two.
    return encoded[: limit - 3].decode(errors="ignore") + "…"


def _micro_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
