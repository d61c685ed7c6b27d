"""What the operator has recorded in its audit trail: `Recorder.append`.

Theory of operation. Holds the writer, whether this replica is the one that records, of each object the version that was
seen last, by which a change of its spec is told from one of its status, and what was recorded of a status that is not
written yet. `begin` is called when the replica may work: an object whose status tells of another generation than it has
was changed while nobody recorded. `end` is called when it works no more, before another may. In between, and only then,
anything is recorded. What a status will say is recorded before it is written, so that a crash in between has it
recorded once more rather than never.

Always true: `append` and what calls it never wait, never fail, and never let out what looks like a credential; an
operator without a trail has a Recorder all the same, which drops everything. All on the event loop. A crash loses what
was appended and is not on the disk yet.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.controller.machinery.redaction import clean
from claude_sandbox.controller.trail import changes
from claude_sandbox.trail.records import About, Kind, Record
from claude_sandbox.trail.writer import Writer

logger = logging.getLogger(__name__)

Raw = Mapping[str, Any]

TOLD: Mapping[str, Kind] = {
    "Healed": Kind.HEALED,
    "Refused": Kind.REFUSED,
    "SessionOpened": Kind.SESSION_OPENED,
    "Ended": Kind.ENDED,
    "Contained": Kind.INCIDENT,
    "Quarantined": Kind.INCIDENT,
    "EvidenceKept": Kind.INCIDENT,
    "Moved": Kind.MOVED,
    "Restored": Kind.RESTORED,
    "Abandoned": Kind.ABANDONED,
}
"""Reasons of Kubernetes Events about sandboxes that are recorded as well."""
MAX_TEXT = 1024
_CLOSES = 5.0


class Recorder:
    """The operator's way to its trail; without a writer there is none."""

    def __init__(self, writer: Writer | None = None) -> None:
        self._writer = writer
        self._records = False
        self._known: dict[tuple[str, str, str], Raw] = {}
        self._unwritten: dict[tuple[str, str, str], list[tuple[Kind, changes.Data]]] = {}

    def append(self, kind: Kind, raw: Raw | None, data: Mapping[str, Any], *, limited: bool = True) -> None:
        """Record something of an object (a ClaudeSandbox or DockerHost as the API server has it), or of the operator.

        `data` is made of JSON's types; texts in it are redacted and cut. Of one object and kind there may be a record
        each ten seconds, after a burst of 60; `limited` False is for what neither an agent nor a tenant can cause.
        """
        if self._writer is None or not self._records:
            return
        try:
            # Redacted before it is cut: half a credential would not be known for one.
            record = Record(kind, datetime.now(UTC), _about(raw), _plain(clean(data)))
            self._writer.put(record, limited=limited)
        except Exception:
            logger.exception("something could not be recorded in the trail")

    def told(self, raw: Raw, reason: str, message: str) -> None:
        """An Event about a sandbox."""
        if (kind := TOLD.get(reason)) is not None:
            self.append(kind, raw, {"reason": reason, "message": message})

    def told_of_host(self, raw: Raw, reason: str, message: str) -> None:
        """An Event about a DockerHost."""
        self.append(Kind.HOST_TOLD, raw, {"reason": reason, "message": message})

    def status(self, raw: Raw, after: Mapping[str, Any]) -> None:
        """What its status is about to say; `raw` has what it said. The same again, until it is written, is one."""
        if self._writer is None or not self._records:
            return
        found = list(changes.of_status(raw.get("status") or {}, after))
        if self._unwritten.get(_key(raw)) == found:
            return
        self._unwritten[_key(raw)] = found
        for kind, data in found:
            self.append(kind, raw, data)

    def written(self, raw: Raw) -> None:
        """The status is written, or the object is gone."""
        self._unwritten.pop(_key(raw), None)

    def sandbox(self, namespace: str, name: str, raw: Raw | None) -> None:
        """A ClaudeSandbox as it is since; None where it is gone."""
        if raw is None:
            self.lost(meta.KIND, namespace, name)
        else:
            self.seen(raw)

    def host(self, name: str, raw: Raw | None) -> None:
        """A DockerHost as it is since; None where it is gone."""
        if raw is None:
            self.lost(meta.HOST_KIND, "", name)
        else:
            self.seen(raw)

    def seen(self, raw: Raw) -> None:
        """An object that came, or changed."""
        if self._writer is None:
            return
        key = _key(raw)
        # Kept where another replica records, too: when this one begins, it knows what there is.
        before, self._known[key] = self._known.get(key), raw
        # What changed in a status alone is recorded by who writes it.
        if not self._records or (before is not None and _version(before) == _version(raw)):
            return
        # Deleted and made anew, with nothing seen in between.
        if before is not None and before["metadata"]["uid"] != raw["metadata"]["uid"]:
            self._gone(before)
            before = None
        if before is not None:
            self._changed(before, raw)
        else:
            self._first(raw)

    def lost(self, kind: str, namespace: str, name: str) -> None:
        """An object that is gone."""
        self._unwritten.pop((kind, namespace, name), None)
        known = self._known.pop((kind, namespace, name), None)
        if known is not None and self._records:
            self._gone(known)

    def begin(self, about: Mapping[str, Any]) -> None:
        """Record from now on. `about`: what there is to say of the operator."""
        if self._writer is None:
            return
        self._records = True
        self._writer.start()
        self.append(Kind.STARTED, None, about)
        for raw in self._known.values():
            self._first(raw)

    async def end(self) -> None:
        """Have everything written, and let go of the trail."""
        if self._writer is None or not self._records:
            return
        self.append(Kind.STOPPED, None, {})
        # After the last record, and before anything is awaited: what comes now is the next leader's.
        self._records = False
        if not await asyncio.to_thread(self._writer.close, _CLOSES):
            logger.warning("the trail's last records could not be written in %.0f s", _CLOSES)

    def _first(self, raw: Raw) -> None:
        """Nothing was recorded of it by this process: its status says which generation was worked on before."""
        observed = (raw.get("status") or {}).get("observedGeneration")
        kinds = _KINDS.get(str(raw.get("kind")))
        # Recorded by who led before, as far as its status can tell.
        if kinds is None or observed == raw["metadata"].get("generation"):
            return
        new = observed is None or observed < 0
        self.append(kinds[0] if new else kinds[1], raw, changes.of_spec(None, raw))
        if new:
            self._decided({}, raw)

    def _changed(self, before: Raw, raw: Raw) -> None:
        kinds = _KINDS.get(str(raw.get("kind")))
        if kinds is None:
            return
        self.append(kinds[1], raw, changes.of_spec(before, raw))
        self._decided(before.get("spec") or {}, raw)

    def _decided(self, before: Mapping[str, Any], raw: Raw) -> None:
        """What of a spec is recorded with its values: somebody answers for it."""
        by, spec = {"by": changes.author(raw["metadata"])}, raw.get("spec") or {}
        if (data := changes.of_exceptions(before, spec)) is not None:
            self.append(Kind.EXCEPTIONS_CHANGED, raw, data | by)
        if (data := changes.of_incident(before, spec)) is not None:
            self.append(Kind.INCIDENT, raw, data | by)

    def _gone(self, raw: Raw) -> None:
        kinds = _KINDS.get(str(raw.get("kind")))
        if kinds is not None:
            asked = raw["metadata"].get("deletionTimestamp")
            self.append(kinds[2], raw, {"asked": asked} if asked else {})


_KINDS: Mapping[str, tuple[Kind, Kind, Kind]] = {
    meta.KIND: (Kind.SANDBOX_CREATED, Kind.SPEC_CHANGED, Kind.SANDBOX_DELETED),
    meta.HOST_KIND: (Kind.HOST_ADDED, Kind.HOST_CHANGED, Kind.HOST_REMOVED),
}


def _about(raw: Raw | None) -> About | None:
    if raw is None:
        return None
    metadata = raw["metadata"]
    names = (raw.get("kind"), metadata["name"], metadata["uid"], metadata.get("namespace") or "")
    return About(*(str(one) for one in names))


def _key(raw: Raw) -> tuple[str, str, str]:
    metadata = raw["metadata"]
    return str(raw.get("kind")), metadata.get("namespace") or "", metadata["name"]


def _version(raw: Raw) -> tuple[str, int]:
    return raw["metadata"]["uid"], raw["metadata"].get("generation", 0)


def _plain(value: Any) -> Any:
    """Without what a terminal would obey, and no longer than a text may be."""
    if isinstance(value, str):
        return plain(value[:MAX_TEXT])
    if isinstance(value, Mapping):
        return {plain(str(key)[:MAX_TEXT]): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
