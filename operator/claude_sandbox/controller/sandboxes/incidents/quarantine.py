"""A sandbox in quarantine: it is contained, then what it was is kept, and nothing of it is healed or ended meanwhile.

Theory of operation. A pass over a sandbox with spec.incident.state Quarantined does nothing else: it chooses no host,
brings no key, looks at no lifecycle, and measures nothing. The first pass contains, and says so in the status at once;
the next keeps the evidence, which takes longer; each later one, whatever woke it, looks whether it is still so. Lifted,
one pass removes what was frozen, after what there is to keep was kept; only then is the sandbox what its spec says.

Held in memory: what was found before anything was done, until it is in the evidence, and of all sandboxes so much
together; when the incident was seen first; and of each namespace when evidence was kept, of the last day. A crash loses
the first, which is then not in the evidence; all else is found by looking. That a sandbox was quarantined says its
status, which only the operator may write.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.fields.incident import IncidentState
from claude_sandbox.api.status_fields.incident import IncidentStatus, KeptEvidence
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.containment import Containment, as_file
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.sandboxes.incidents.declared import compromised_key, previous
from claude_sandbox.controller.sandboxes.interfaces import Backend
from claude_sandbox.controller.sandboxes.store import Raw

AGAIN = 2.0
"""Seconds until what is not contained yet, or not kept, is tried again."""
LOOK_AGAIN = 60.0
"""Seconds until what is contained is looked at again, should nothing tell of a change."""
MOST, PERIOD = 16, timedelta(days=1)
"""How many archives of a namespace's sandboxes are kept in a day: who may declare incidents fills no disk."""
HELD = 32 << 20
"""Bytes of what was found that wait to be kept, of all sandboxes: who may declare incidents fills no memory."""
_LOST = b"What was found before it was contained waited to be kept with that of too many others, and was given up.\n"
_ENOUGH = "no more are. It is contained all the same."
_NOWHERE = Containment(ConditionStatus.TRUE, "nothing of it was ever made", vanished=True)


@dataclass(frozen=True)
class Quarantine:
    """What a pass found. `failure`: why there is no evidence yet. `again`: in how many seconds to look again."""

    status: IncidentStatus
    containment: Containment
    failure: Failure | None
    again: float


class Quarantines:
    """Of one operator."""

    def __init__(self, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._clock = clock
        self._found: dict[str, Mapping[str, bytes]] = {}
        self._seen: dict[str, tuple[datetime, float]] = {}
        self._kept_at: dict[str, list[datetime]] = {}

    def forget(self, uid: str) -> None:
        """The sandbox is gone, or the incident is over."""
        self._found.pop(uid, None)
        self._seen.pop(uid, None)

    async def of(self, raw: Raw, identity: Identity, backend: Backend | None) -> Quarantine:
        """Contain it, or look whether it is; then keep what it was."""
        before = _before(raw)
        since, begun = self._seen.setdefault(identity.uid, (self._now().replace(microsecond=0), self._clock()))
        status = before or _begun(raw, since)
        found, more = _NOWHERE, self._may_keep(raw, identity)
        if backend is not None:
            found = await backend.contain(identity, status.since, more)
        # What was found first wins: a later look sees what the first has already changed.
        self._hold(identity.uid, {**found.found, **self._found.get(identity.uid, {})})
        # Some backends keep evidence in the act of containing, since what they contain does not outlive it.
        if isinstance(found.kept, KeptEvidence) and status.evidence is None:
            self._counted(identity)
            status = status.model_copy(update={"evidence": found.kept})
        if status.evidence is not None or more is None:
            # There is nothing more to be kept of it.
            self._found.pop(identity.uid, None)
        if found.status is not ConditionStatus.TRUE:
            return Quarantine(status, found, None, AGAIN)
        if status.contained_at is None:
            took = timedelta(seconds=self._clock() - begun)
            told = {"contained_at": self._now().replace(microsecond=0), "contained_within": _seconds(took)}
            # Said before anything is kept: that takes longer.
            return Quarantine(status.model_copy(update=told), found, None, 0.0)
        if status.evidence is not None or backend is None:
            return Quarantine(status, found, None, LOOK_AGAIN)
        kept = await self._kept(raw, identity, backend, status.since)
        if isinstance(kept, Failure):
            return Quarantine(status, found, kept, LOOK_AGAIN if kept.permanent else AGAIN)
        self._found.pop(identity.uid, None)
        return Quarantine(status.model_copy(update={"evidence": kept}), found, None, LOOK_AGAIN)

    async def lifted(self, raw: Raw, identity: Identity, backend: Backend | None) -> Failure | None:
        """What was frozen is removed, after what there is to keep was kept; why that can't be done, where it can't."""
        before = _before(raw)
        if backend is not None:
            if before is not None and before.evidence is None:
                kept = await self._kept(raw, identity, backend, before.since)
                # What will never be kept must not hold the sandbox in quarantine for ever: its owner lifted it.
                if isinstance(kept, Failure) and not kept.permanent:
                    return kept
            failure = await backend.release(identity)
            if failure is not None:
                return failure
        self.forget(identity.uid)
        return None

    def _hold(self, uid: str, files: Mapping[str, bytes]) -> None:
        """Until they are in the evidence; of all sandboxes no more than HELD bytes, those that came last."""
        self._found.pop(uid, None)
        self._found[uid] = files
        sizes = {one: sum(map(len, held.values())) for one, held in self._found.items()}
        left = sum(sizes.values())
        for one, size in sizes.items():
            if left > HELD and one != uid and size > len(_LOST):
                left -= size
                self._found[one] = {"LOST.txt": _LOST}

    async def _kept(self, raw: Raw, identity: Identity, backend: Backend, since: datetime) -> KeptEvidence | Failure:
        if (more := self._may_keep(raw, identity)) is None:
            message = f"{MOST} archives of evidence of namespace {identity.namespace} were kept today: {_ENOUGH}"
            return Failure(Reason.REJECTED, message, permanent=True)
        kept = await backend.keep_evidence(identity, since, {**self._found.get(identity.uid, {}), **more})
        if isinstance(kept, KeptEvidence):
            self._counted(identity)
        return kept

    def _may_keep(self, raw: Raw, identity: Identity) -> Mapping[str, bytes] | None:
        """What the operator itself adds to the evidence; None where the namespace has had its share."""
        # By namespace and not by sandbox: who may declare incidents may make sandboxes too.
        times = [one for one in self._kept_at.pop(identity.namespace, ()) if self._now() - one < PERIOD]
        # Nothing is held of a namespace for which nothing was kept lately.
        if times:
            self._kept_at[identity.namespace] = times
        return _object(raw) if len(times) < MOST else None

    def _counted(self, identity: Identity) -> None:
        self._kept_at.setdefault(identity.namespace, []).append(self._now())


def _before(raw: Raw) -> IncidentStatus | None:
    found = previous(raw)
    return found if found is not None and found.state is IncidentState.QUARANTINED else None


def _begun(raw: Raw, since: datetime) -> IncidentStatus:
    """With the key that was compromised before that: who quarantines a sandbox has nobody use that again."""
    told = {} if (key := compromised_key(raw)) is None else {"secret": key.secret, "generation": key.generation}
    return IncidentStatus(state=IncidentState.QUARANTINED, since=since, **told)


def _object(raw: Raw) -> Mapping[str, bytes]:
    """The object as a file of evidence; a key can be in none of its fields."""
    # It is long, and tells nobody anything that an investigation asks.
    shown = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    return {"claudesandbox.json": as_file({**raw, "metadata": shown})}


def _seconds(took: timedelta) -> str:
    return f"{took.total_seconds():.2f}s"
