"""Where the loop's findings go: the status, Kubernetes Events, the audit trail, logs, metrics.

Theory of operation. Holds nothing. The status is the record, and is the only one of these that is waited for and can
fail. An Event, a record of the trail, a line of the log and a metric are said in passing: they are told before the
status is written, so a crash in between has one told once more rather than never, and what they cost is bounded where
they are kept.
Called by the passes and by what takes back old verdicts, on the event loop.
"""

import logging
from collections.abc import Mapping
from typing import Any

from claude_sandbox.backends.base import Healed
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.machinery.merge_patch import merged
from claude_sandbox.controller.machinery.status_writer import write_status
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import SANDBOXES

logger = logging.getLogger(__name__)


class KubernetesReporter:
    """Reports to the API server that the sandbox came from."""

    def __init__(self, api: Api, events: EventRecorder, metrics: Metrics, trail: Recorder | None = None) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._trail = trail or Recorder()

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the sandbox's status; None where the sandbox is gone."""
        # Before the write. A crash in between has it recorded twice rather than never.
        self._trail.status(raw, merged(raw.get("status") or {}, patch))
        written = await write_status(self._api, SANDBOXES, raw, patch)
        self._trail.written(raw)
        return written

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event about the sandbox, and a line in the log."""
        logger.log(logging.WARNING if warning else logging.INFO, "%s: %s", reason, message)
        self._trail.told(raw, reason, message)
        self._events.tell(raw, reason, message, warning=warning)

    def observe(self, key: Key, status: Mapping[str, Any] | None, healed: tuple[Healed, ...]) -> None:
        """Bring the metrics of the sandbox up to date."""
        if status is None:
            self._metrics.sandboxes.remove(*key)
            return
        self._metrics.sandboxes.put(*key, status)
        for heal in healed:
            self._metrics.healed(heal.kind, heal.reason)
