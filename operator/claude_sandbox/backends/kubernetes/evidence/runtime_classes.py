"""RuntimeClasses that sandboxes' pods name, for control KERN-06: which handler of the runtime is behind one.

Theory of operation. Nothing follows RuntimeClasses: they are few, only some pods name one, and a handler can't be
changed (k8s.io/kubernetes, pkg/apis/node/validation, ValidateRuntimeClassUpdate), only another class made in its place.
So each that is named is asked for, and the answer kept for some minutes; so is why there was none, for half a minute.
Used by the passes, on the event loop. A crash forgets all, and the next pass asks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import RUNTIME_CLASSES
from claude_sandbox.kubernetes_api.unstructured import Object

MAX_AGE = 240.0
"""Seconds for which an answer is good: less than evidence may be old."""
RETRY_AFTER = 30.0
_REMEMBERED = 256
"""Classes of which an answer is kept: a cluster has a handful."""


@dataclass(frozen=True)
class _Answer:
    reading: Reading[Object | None] | Unread
    until: float


class RuntimeClasses:
    """What is known of RuntimeClasses, by their names."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[str, _Answer] = {}

    async def look(self, pod: Object | None) -> None:
        """Have the pod's RuntimeClass known, if it names one. Never raises ApiError."""
        name = _named(pod)
        known = self._known.get(name)
        if not name or (known is not None and self._clock() < known.until):
            return
        reading: Reading[Object | None] | Unread
        try:
            found = await self._api.get(RUNTIME_CLASSES, name)
            reading, good = Reading(found, EvidenceSource.LIVE_OBJECT, datetime.now(UTC)), MAX_AGE
        except ApiError as error:
            reading, good = Unread(f"RuntimeClass {name}: {error.reason}"), RETRY_AFTER
        # Names come from pods: whoever makes many must not fill the memory.
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[name] = _Answer(reading, self._clock() + good)

    def of(self, pod: Reading[Object] | Unread) -> Reading[Object | None] | Unread:
        """The RuntimeClass that the pod names; None in it where it names none."""
        if isinstance(pod, Unread):
            return pod
        name = _named(pod.value)
        if not name:
            return Reading(None, pod.source, pod.observed_at)
        known = self._known.get(name)
        return known.reading if known is not None else Unread(f"RuntimeClass {name} has not been asked for yet")


def _named(pod: Object | None) -> str:
    return str((pod or {}).get("spec", {}).get("runtimeClassName") or "")
