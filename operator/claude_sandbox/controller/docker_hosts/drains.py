"""Moving sandboxes off hosts that are being drained.

The order is what makes it safe: a sandbox is removed from its old host, and only when that has confirmed it is another
host stored; only then is anything made there. Until then the stored placement is the old one, so at whatever moment
the operator ends or the old host falls silent, the next pass finds the sandbox where something of it may be. Nothing
of a move is stored: whoever comes to a half-done one begins it anew, and finds less to remove.

Theory of operation. Holds the moves that are under way, how many of each host were brought to their end, which
sandboxes a pass found to stay and until when that is believed, and what was told of whom.

Always true:
- A move that is under way has its room on the target, counted there from its beginning, and the image that it needs is
  there, or the pass that has it brought has not ended. However else that pass ends, the move ends with it.
- At most AT_A_TIME moves of a host are under way; one that was begun goes on whoever else waits.
- A sandbox that is asked to move says so in its status before anything is removed: an agent whose work ends reads why.
- Rooms are compared, taken and given up under `choosing`, so that no two sandboxes get the same.

A pass of the host calls `look`, which has the next ones woken and counts the others; a pass of the sandbox calls `move`
and does all that changes anything. The queue runs one pass of a sandbox at a time, and so one step of its move. All on
the event loop. A crash forgets all of it: the count of those moved is in the host's status, the rest is found by
looking, and may be told once more. A lost wake is made good by the host's next pass, which comes within seconds.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from claude_sandbox.api.conditions import ConditionType, Reason
from claude_sandbox.api.docker_hosts.status import StayReason
from claude_sandbox.api.spec import Backend, BackendType, ClaudeSandboxSpec
from claude_sandbox.api.status import Placement
from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.capacity import Requests
from claude_sandbox.backends.docker.hosts.placement import (
    Placed,
    PlacementRequest,
    Refused,
    Stay,
    drain,
    elsewhere,
    keep,
    placement_request,
    stay_of,
)
from claude_sandbox.backends.docker.images.pulls import ImageMissingError, ImagePendingError
from claude_sandbox.blueprint.model import Blueprint, Identity
from claude_sandbox.controller.docker_hosts.demand import placed_on
from claude_sandbox.controller.docker_hosts.reconciler import HostReconciler
from claude_sandbox.controller.docker_hosts.status import DrainProgress
from claude_sandbox.controller.sandboxes.interfaces import Moving, Reporter
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, host_of, key_of, placement_of
from claude_sandbox.kubernetes_api.unstructured import terminating

AT_A_TIME = 2
"""Sandboxes of one host that are moved at the same time: an agent's work is interrupted for as long as its move takes,
and so the others go on meanwhile."""
AGAIN = 10.0
"""Seconds until what could not be removed from a host is tried again."""
TURN = 2.0
"""Seconds until a sandbox that waits for its turn, or for its image, is looked at again."""
STAYS_FOR = 60.0
"""Seconds for which a sandbox is taken to stay that a pass could not move, so that the others get their turn."""
_ONLY_SEEN_BY_A_PASS = (StayReason.IN_USE, StayReason.NO_IMAGE, StayReason.NO_ANSWER)


@dataclass(frozen=True)
class _Move:
    """One that is under way. Its room on the target is taken from the beginning."""

    source: str
    target: Placement
    demand: Requests


@dataclass(frozen=True)
class _Stayed:
    """A pass could not move a sandbox, which is believed `until` then. `ran`: its status said that it ran."""

    until: float
    why: Stay
    ran: bool

    @property
    def is_over_with_its_run(self) -> bool:
        """Whether it stayed only for what its status tells the end of."""
        return self.ran and self.why.reason is StayReason.IN_USE


class Drains:
    """The moves of one operator.

    `choosing` is held while a host is chosen and stored. `labels_of` gives the labels of a namespace, `namespace_of`
    the UID of a sandbox's, where it is known. `wake` has a sandbox looked at after so many seconds, `wake_host` a host.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        reporter: Reporter,
        fleet: Fleet,
        hosts: HostReconciler,
        labels_of: Callable[[str], Mapping[str, str] | None],
        namespace_of: Callable[[Raw], str | None],
        choosing: asyncio.Lock,
        wake: Callable[[Key, float], None],
        wake_host: Callable[[str], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sandboxes = sandboxes
        self._reporter = reporter
        self._fleet = fleet
        self._hosts = hosts
        self._labels_of = labels_of
        self._namespace_of = namespace_of
        self._choosing = choosing
        self._wake = wake
        self._wake_host = wake_host
        self._clock = clock
        self._moves: dict[Key, _Move] = {}
        self._moved: dict[str, int] = {}
        # Those that a pass could not move: until when, and why; and what was told of whom.
        self._stays: dict[Key, _Stayed] = {}
        self._told: dict[Key, StayReason] = {}

    def concern(self, raw: Raw) -> bool:
        """Whether the sandbox is on a host that is being drained, or was when its move began."""
        placed = host_of(raw)
        host = None if placed is None else self._hosts.host_info(placed)
        return key_of(raw) in self._moves or (host is not None and host.spec.drain)

    def demands_on(self, host: str) -> Iterator[Requests]:
        """What is on its way to a host, and not yet placed there."""
        for key, move in self._moves.items():
            raw = self._sandboxes.get(key)
            arrived = raw is not None and host_of(raw) == host
            if move.target.host == host and not arrived:
                yield move.demand

    def forget(self, key: Key) -> None:
        """The sandbox is gone, or its host is not being drained any more."""
        self._moves.pop(key, None)
        self._stays.pop(key, None)
        self._told.pop(key, None)

    def forget_host(self, host: str) -> None:
        """The host is gone, or is not being drained any more: it begins anew the next time."""
        self._moved.pop(host, None)

    def look(self, host: str, moved: int) -> DrainProgress:
        """Have the next ones moved; what becomes of the others. `moved`: how many were when this was last stored."""
        found = list(placed_on(self._sandboxes, host))
        going = {key for key, move in self._moves.items() if move.source == host}
        waiting = [raw for raw in found if key_of(raw) not in going]
        hosts = self._hosts.candidates()
        fates = drain((self._placed(raw) for raw in waiting if not terminating(raw)), hosts)
        now = self._clock()
        # Only a pass sees these, so they are believed for a while; what the stored state decides is decided anew each
        # time. By that state one that was in use may be so no more: suspended, it moves now.
        stays = dict(fates.stays) | {
            key: one.why
            for key, one in self._stays.items()
            if key in fates.moves and now < one.until and not one.is_over_with_its_run
        }
        line = [key for key in fates.moves if key not in stays]
        # From a silent host nothing can be moved: its sandboxes are not woken for it.
        if any(one.name == host and one.answers for one in hosts):
            for key in line[: max(0, AT_A_TIME - len(going))]:
                self._wake(key, 0.0)
        # What this process counted goes before the status, which is behind by a write.
        total = self._moved.setdefault(host, moved)
        moving = len(found) - len(stays)
        return DrainProgress(total, moving, {str(key): why for key, why in stays.items()})

    async def move(
        self, raw: Raw, current: Placement, blueprint: Blueprint, spec: ClaudeSandboxSpec, wish: PlacementRequest
    ) -> Raw | Moving | None:
        """Move the sandbox from where it is, as far as that is possible now.

        The sandbox as it is then, on its new host or, where it can't be moved, on its old one; or what is being waited
        for; or None where the sandbox is gone. Raises ApiError.
        """
        key, source = key_of(raw), current.host
        # First what the spec alone decides: it costs no question to the engine.
        if (why := stay_of(spec, runs=False)) is not None:
            return self._stay(key, raw, source, why)
        old = self._fleet.of(source)
        move = self._moves.get(key)
        try:
            runs = await old.runs(blueprint.identity)
        except EngineError as error:
            # A silent host can't be drained. Without a move the pass goes on, and says that the host is silent.
            return raw if move is None else Moving(_waits_for(move, str(error)), AGAIN)
        if (why := stay_of(spec, runs=runs)) is not None:
            return self._stay(key, raw, source, why)
        if move is None or move.source != source:
            begun = await self._begin(key, raw, source, blueprint, wish, runs=runs)
            if not isinstance(begun, _Move):
                return begun
            move = begun
        if not _is_announced(raw):
            # Written by the end of this pass; the next, which reads it, removes.
            return Moving(_saying(move), 0.0)
        if problem := await _removed(old, blueprint.identity, current):
            return Moving(_waits_for(move, problem), AGAIN)
        return await self._store(key, raw, source, wish)

    async def _begin(
        self, key: Key, raw: Raw, source: str, blueprint: Blueprint, wish: PlacementRequest, *, runs: bool
    ) -> _Move | Raw | Moving:
        """Take room on another host, and see that it has the image: the sandbox itself where it is not to move now."""
        # What neither runs nor is to: it can wait where it is. Else it would be started only to be stopped, or to stay
        # for good where it is left alone once it runs.
        can_wait = runs or not blueprint.running
        async with self._choosing:
            # Counted here, since others may have begun theirs while this one waited.
            busy = sum(move.source == source for move in self._moves.values()) >= AT_A_TIME
            if busy or self._hosts.unseen():
                return raw if can_wait else Moving(f"Waits for its turn: DockerHost {source} is being drained.", TURN)
            target = elsewhere(wish, source, self._hosts.candidates())
            if isinstance(target, Stay):
                return self._stay(key, raw, source, target)
            move = self._moves[key] = _Move(source, target, wish.requests)
        try:
            if blueprint.running:
                await self._fleet.of(target.host).provide(blueprint)
        except ImagePendingError as error:
            del self._moves[key]
            self._wake(key, TURN)
            return raw if can_wait else Moving(f"{_saying(move)} {error}", TURN)
        except ImageMissingError as error:
            message = f"DockerHost {target.host}, which would take it, can't get its image: {error}"
            return self._stay(key, raw, source, Stay(StayReason.NO_IMAGE, message.removesuffix(".")))
        except EngineError as error:
            return self._stay(key, raw, source, Stay(StayReason.NO_ANSWER, f"DockerHost {target.host}: {error}"))
        except BaseException:
            # A pass that is ended as well: what is under way has its image, or the sandbox would end where it runs.
            del self._moves[key]
            raise
        self._told.pop(key, None)
        self._reporter.tell(raw, "Moving", _saying(move), warning=False)
        return move

    async def _store(self, key: Key, raw: Raw, source: str, wish: PlacementRequest) -> Raw | None:
        """Store where the sandbox is from now on. The old host has nothing of it any more."""
        async with self._choosing:
            self._moves.pop(key, None)
            target = elsewhere(wish, source, self._hosts.candidates())
            if isinstance(target, Stay):
                # Whoever would have taken it doesn't any more: it is made again where it was.
                return self._stay(key, raw, source, target)
            # Until it is known whether this was stored it counts as under way, and is read anew before the next try.
            self._moves[key] = _Move(source, target, wish.requests)
            placement = target.model_dump(mode="json", by_alias=True)
            with self._sandboxes.writing(raw):
                placed = await self._reporter.write_status(raw, {"placement": placement, "workload": None})
                self._moves.pop(key, None)
                if placed is None:
                    return None
                self._sandboxes.learn(placed)
        self._moved[source] = self._moved.get(source, 0) + 1
        self._reporter.tell(
            placed, "Moved", f"Moved from DockerHost {source} to {target.host}.{lost_of(raw)}", warning=False
        )
        self._hosts.tell(source, "SandboxMoved", f"A sandbox was moved to DockerHost {target.host}.")
        for host in (source, target.host):
            self._wake_host(host)
        return placed

    def expects(self, key: Key, placement: Placement) -> bool:
        """Whether a move stored, or may have stored, that the sandbox is there from now on."""
        move = self._moves.get(key)
        return move is not None and move.target == placement

    def _stay(self, key: Key, raw: Raw, source: str, why: Stay) -> Raw:
        """It goes on where it is."""
        self._moves.pop(key, None)
        if why.reason in _ONLY_SEEN_BY_A_PASS:
            ran = bool((raw.get("status") or {}).get("workload"))
            self._stays[key] = _Stayed(self._clock() + STAYS_FOR, why, ran)
        if self._told.get(key) is not why.reason:
            self._told[key] = why.reason
            message = f"DockerHost {source} is being drained, and the sandbox stays on it: {why.message}."
            self._reporter.tell(raw, "Stays", message, warning=False)
        return raw

    def _placed(self, raw: Raw) -> Placed[Key]:
        """The sandbox as its stored state tells, without asking its host."""
        key, placement = key_of(raw), placement_of(raw)
        assert placement is not None  # noqa: S101 - it is one of the host's
        namespace = key.namespace
        try:
            spec = parse_spec(raw)
        except InvalidSpec:
            return Placed(key, _nothing(namespace), placement, _REFUSED)
        wish = placement_request(namespace, self._labels_of(namespace), spec, self._namespace_of(raw))
        if isinstance(keep(wish, self._hosts.host_info(placement.host), placement), Refused):
            return Placed(key, wish, placement, _REFUSED)
        return Placed(key, wish, placement, stay_of(spec, runs=bool(raw["status"].get("workload"))))


async def _removed(old: DockerBackend, identity: Identity, placement: Placement) -> str:
    """Why it is not certain that an engine has nothing of the sandbox any more; empty where it is."""
    try:
        # That one would say with a clear conscience that it has nothing of the sandbox.
        if await old.engine_id() != placement.engine_id:
            return "another engine answers there now"
    except EngineError as error:
        return str(error)
    # Without files of its own there is no workspace to remove; were there one, it would stay.
    removal = await old.remove(identity, retain=True)
    return "" if removal.done else removal.problem or "it gives no reason"


_REFUSED = Stay(StayReason.REFUSED, "what it asks for is refused, so nothing is done for it: see its status")


def lost_of(raw: Raw) -> str:
    """What of a sandbox does not move with it, for the Event; empty where that is nothing."""
    counted = raw["spec"].get("budget") is not None
    return " What it had used of its budget was on the old host: it is counted from nothing now." if counted else ""


def _saying(move: _Move) -> str:
    return f"Moves from DockerHost {move.source} to {move.target.host}, since {move.source} is being drained."


def _waits_for(move: _Move, problem: str) -> str:
    again = "Nothing is made elsewhere before it is removed there; it is tried again."
    return f"{_saying(move)} DockerHost {move.source} has not removed it: {problem}. {again}"


def _nothing(namespace: str) -> PlacementRequest:
    """The wish of a sandbox whose spec can't be understood."""
    return PlacementRequest(namespace, None, Backend(type=BackendType.DOCKER), Requests(0, 0))


def _is_announced(raw: Raw) -> bool:
    """Whether its status says that it is being moved."""
    conditions: Iterable[Mapping[str, str]] = (raw.get("status") or {}).get("conditions") or ()
    return any(one["type"] == ConditionType.RECONCILING and one["reason"] == Reason.MOVING for one in conditions)
