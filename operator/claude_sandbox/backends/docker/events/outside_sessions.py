"""Who comes into sandboxes' containers from outside, by what the engine tells of it.

Theory of operation. The engine tells when an exec session begins and ends, a health check's too. Of each that begins
in a sandbox's container it is asked once whose it is; what is no health check wakes the sandbox, and so does its end.

Holds, in memory: the containers that were observed last; the sessions that are open; per container those that began
since it was measured last, so that one which ends at once is told all the same; and whether one that had more rights
than the container was ever in it since its start, so that what it may have left there is looked for. Invariant: what
is held is of containers that are known, and goes with them. `concerns` is called by whoever follows the events, the
rest by the sandboxes' passes, all on the event loop. A crash forgets: of a container that nothing is known of it is
taken that somebody was there.
"""

from dataclasses import dataclass, field

from claude_sandbox.backends.docker.engine.documents import Object, started_at
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.events.exec_sessions import has_more, left_behind, session_of, sessions_in
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.containers import ExecSession, ExecSessions

BEGINS, ENDS = "exec_start", "exec_die"
_MOST_OPEN = 64
"""Sessions of one container whose ends are waited for."""


@dataclass
class _Known:
    """A container. `suspect`: somebody with more rights was in it since its start, or may have been."""

    container: Object
    suspect: bool
    open: set[str] = field(default_factory=set)
    untold: list[ExecSession] = field(default_factory=list)


class OutsideSessions:
    """Of the sandboxes on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, _Known] = {}
        # The identifier of each sandbox's container, by the sandbox's UID.
        self._of: dict[str, str] = {}

    def know(self, uid: str, container: Object) -> None:
        """A sandbox's container, as it was observed. `uid`: the sandbox's."""
        if self._of.get(uid) != container["Id"]:
            self.forget(uid)
            self._of[uid] = str(container["Id"])
        known = self._known.get(str(container["Id"]))
        if known is None or started_at(known.container) != started_at(container):
            self._known[str(container["Id"])] = _Known(container, suspect=True)
        else:
            known.container = container

    def forget(self, uid: str) -> None:
        """The sandbox is gone, or has another container."""
        self._known.pop(self._of.pop(uid, ""), None)

    async def concerns(self, event: Object) -> bool:
        """Whether an event of a session is about one that is no health check; so any is of an unknown container."""
        told_of = Document(event)
        identifier = told_of.text("Actor.Attributes.execID") or ""
        known = self._known.get(told_of.text("Actor.ID") or "")
        if known is None:
            return True
        if str(event.get("Action")).partition(":")[0] == ENDS:
            if identifier not in known.open:
                return False
            known.open.discard(identifier)
            return True
        try:
            document = await self._engine.session(identifier)
        except EngineError:
            document = {}
        # One that the engine does not know any more has ended.
        told = {**document, "Running": True} if isinstance(document, dict) else document or {}
        session = session_of(told, known.container)
        if session is None:
            return False
        # Of more than that it is still known whether any had more rights: that is what a control goes by.
        if len(known.open) < _MOST_OPEN:
            known.open.add(identifier)
            known.untold.append(session)
        known.suspect = known.suspect or has_more((session,), known.container)
        return True

    async def take(self, container: Object) -> tuple[ExecSessions, bool]:
        """Who is in a container now, or has been since this was asked last, and whether some of these have ended."""
        known = self._known.get(str(container["Id"]))
        untold = tuple(known.untold) if known is not None else ()
        if known is not None:
            # Before the engine is asked: what begins meanwhile is in the answer, or told by the next.
            known.untold.clear()
        now = await sessions_in(self._engine, container)
        # What is open is seen twice.
        gone = untold if not now else tuple(one for one in untold if one not in now)
        if known is None:
            return ExecSessions((*now, *gone), await left_behind(self._engine, container)), bool(gone)
        left = await self._left_behind(known, container, now)
        return ExecSessions((*now, *gone), left), bool(gone)

    async def _left_behind(self, known: _Known, container: Object, now: tuple[ExecSession, ...]) -> bool | None:
        """Whether somebody left something, where anybody had more rights; None where that is not known."""
        if not (known.suspect or has_more(now, container)):
            return False
        # Before it is looked for: whoever comes meanwhile makes it suspect again.
        known.suspect = False
        left: bool | None = None
        try:
            left = await left_behind(self._engine, container)
        finally:
            # What was there and is not any more left nothing.
            known.suspect = known.suspect or left is not False or has_more(now, container)
        return left
