"""The faults that somebody with the engine's socket can cause, and how sandboxes of a kind are put through them.

When the k-th call of a sandbox that changes anything comes by, it is held, the fault is done to the engine, and the
call goes on: the operator acts upon what it saw before. Sandboxes are many at a time, each with a fault of its own.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from docker.errors import APIError
from engine_relay import Call
from fault_place import Made, Moment, Phase, Phases, Place, before_relay, recorded, settled

from claude_sandbox.backends.docker import names
from claude_sandbox.localcluster import engine

SEED = 20
AT_A_TIME = 6
SHARES = 4
# Seconds that a running sandbox may be on a network that somebody put it on: until the operator heard of it and
# has taken it off, on a machine that is busy with all the others.
LONGEST_STAY = 20.0

RELAY, GATEWAY, CLONER = "-relay", "-gateway", "-clone"

# The faults. Each says whether it changed anything: there may be nothing yet that could be.


def kill(made: Made) -> bool:
    return _killed(made, made.container)


def _killed(made: Made, live: dict[str, Any] | None) -> bool:
    return live is not None and _done(lambda: made.place.sdk.api.kill(live["Id"]))


def remove(made: Made) -> bool:
    return _removed(made, made.container)


def _removed(made: Made, live: dict[str, Any] | None) -> bool:
    return live is not None and _done(lambda: made.place.sdk.api.remove_container(live["Id"], force=True))


def loosen(made: Made) -> bool:
    live, sdk = made.container, made.place.sdk.api
    return live is not None and _done(
        lambda: sdk.update_container(live["Id"], mem_limit=8 << 30, memswap_limit=8 << 30, cpu_shares=4096)
    )


def connect(made: Made) -> bool:
    return _connected(made, made.container)


def _connected(made: Made, live: dict[str, Any] | None) -> bool:
    if live is None:
        return False
    sdk, call = made.place.sdk.api, made.calls[-1] if made.calls else None
    if live["State"]["Running"] or (call is not None and call.path == f"/containers/{live['Id']}/start"):
        # Nothing that the operator could look at before: it runs, or the call that starts it is on its way.
        made.place.watch.excuse(str(live["Id"]))
    return _done(lambda: sdk.connect_container_to_network(live["Id"], "bridge"))


def disconnect(made: Made) -> bool:
    return _disconnected(made, made.container)


def _disconnected(made: Made, live: dict[str, Any] | None) -> bool:
    """From the sandbox's own network."""
    networks, sdk = _own_networks(made), made.place.sdk.api
    if live is None or not networks:
        return False
    return _done(lambda: sdk.disconnect_container_from_network(live["Id"], networks[0], force=True))


def _own_networks(made: Made) -> list[str]:
    return [name for name in made.left["networks"] if not name.endswith((RELAY, GATEWAY))]


def remove_network(made: Made) -> bool:
    return _without_network(made, _own_networks(made))


def _without_network(made: Made, names: list[str]) -> bool:
    """`docker network rm`, for which it has to be empty."""
    done, sdk = False, made.place.sdk.api
    for network in names:
        with contextlib.suppress(APIError):
            for member in sdk.inspect_network(network)["Containers"] or {}:
                sdk.disconnect_container_from_network(member, network, force=True)
            sdk.remove_network(network)
            done = True
    return done


def remove_volumes(made: Made) -> bool:
    """`docker volume rm`, as far as nothing has them mounted."""
    sdk = made.place.sdk.api
    return _each(made.left["volumes"], lambda name: sdk.remove_volume(name, force=True))


def remove_helper(made: Made) -> bool:
    """The one that brings the key, in the middle of it."""
    sdk = made.place.sdk.api
    helpers = [name for name in made.left["containers"] if name.endswith("-key")]
    return _each(helpers, lambda name: sdk.remove_container(name, force=True))


def remove_all(made: Made) -> bool:
    """Everything that there is of it."""
    sdk = made.place.sdk.api
    done = _each(made.left["containers"], lambda name: sdk.remove_container(name, force=True))
    return any([done, remove_volumes(made), _without_network(made, made.left["networks"])])


def kill_relay(made: Made) -> bool:
    return _killed(made, made.relay)


def remove_relay(made: Made) -> bool:
    return _removed(made, made.relay)


def loosen_relay(made: Made) -> bool:
    live, sdk = made.relay, made.place.sdk.api
    return live is not None and _done(
        lambda: sdk.update_container(live["Id"], mem_limit=1 << 30, memswap_limit=1 << 30)
    )


def connect_relay(made: Made) -> bool:
    return _connected(made, made.relay)


def disconnect_relay(made: Made) -> bool:
    return _disconnected(made, made.relay)


def remove_outer(made: Made) -> bool:
    return _without_network(made, [name for name in made.left["networks"] if name.endswith(RELAY)])


def kill_gateway(made: Made) -> bool:
    return _killed(made, made.gateway)


def remove_gateway(made: Made) -> bool:
    return _removed(made, made.gateway)


def loosen_gateway(made: Made) -> bool:
    live, sdk = made.gateway, made.place.sdk.api
    return live is not None and _done(
        lambda: sdk.update_container(live["Id"], mem_limit=1 << 30, memswap_limit=1 << 30)
    )


def connect_gateway(made: Made) -> bool:
    return _connected(made, made.gateway)


def disconnect_gateway(made: Made) -> bool:
    return _disconnected(made, made.gateway)


def remove_way_out(made: Made) -> bool:
    return _without_network(made, [name for name in made.left["networks"] if name.endswith(GATEWAY)])


def kill_cloner(made: Made) -> bool:
    return _killed(made, made.cloner)


def remove_cloner(made: Made) -> bool:
    return _removed(made, made.cloner)


def loosen_cloner(made: Made) -> bool:
    live, sdk = made.cloner, made.place.sdk.api
    return live is not None and _done(
        lambda: sdk.update_container(live["Id"], mem_limit=8 << 30, memswap_limit=8 << 30)
    )


def connect_cloner(made: Made) -> bool:
    return _connected(made, made.cloner)


def disconnect_cloner(made: Made) -> bool:
    return _disconnected(made, made.cloner)


def _each(names: list[str], call: Callable[[str], object]) -> bool:
    return sum(_done(partial(call, name)) for name in names) > 0


def _done(call: Callable[[], object]) -> bool:
    try:
        call()
    except APIError:
        return False
    return True


Fault = Callable[[Made], bool]
OF_SANDBOX: tuple[Fault, ...] = (
    kill,
    remove,
    loosen,
    connect,
    disconnect,
    remove_network,
    remove_volumes,
    remove_helper,
    remove_all,
)
OF_RELAY: tuple[Fault, ...] = (
    kill_relay,
    remove_relay,
    loosen_relay,
    connect_relay,
    disconnect_relay,
    remove_outer,
)
OF_GATEWAY: tuple[Fault, ...] = (
    kill_gateway,
    remove_gateway,
    loosen_gateway,
    connect_gateway,
    disconnect_gateway,
    remove_way_out,
)
OF_CLONER: tuple[Fault, ...] = (
    kill_cloner,
    remove_cloner,
    loosen_cloner,
    connect_cloner,
    disconnect_cloner,
)
# What a fault of a container is done to: it has to be there, and for a kill it has to run.
CONTAINERS: dict[Fault, str] = {
    **dict.fromkeys((kill, remove, loosen, connect, disconnect), names.AGENT),
    remove_helper: names.HELPER,
    **dict.fromkeys((kill_relay, remove_relay, loosen_relay, connect_relay, disconnect_relay), names.RELAY),
    **dict.fromkeys((kill_gateway, remove_gateway, loosen_gateway, connect_gateway, disconnect_gateway), names.GATEWAY),
}
KILLS = (kill, kill_relay, kill_gateway)
# Where a fault has nothing to be done to, whichever call it comes at.
POINTLESS = {
    *(("remove_helper", phase) for phase in ("running", "updating", "suspending", "deleting")),
    *((fault.__name__, phase) for fault in OF_CLONER for phase in ("suspending", "deleting")),
}


@dataclass(frozen=True)
class Kind:
    """A kind of sandboxes: what can happen to them, and when."""

    name: str
    faults: tuple[Fault, ...]
    phases: Phases

    @property
    def pairs(self) -> list[tuple[Fault, Phase]]:
        """Each fault in each phase."""
        return [pair for share in range(SHARES) for pair in self.share(share)]

    def share(self, share: int) -> list[tuple[Fault, Phase]]:
        """One of SHARES parts of the pairs, in which each fault and each phase is."""
        found = []
        for row, fault in enumerate(self.faults):
            # Numbered without those where it is pointless: a share may else have a fault in such phases alone.
            phases = [phase for phase in self.phases.values() if (fault.__name__, phase.name) not in POINTLESS]
            found += [(fault, phase) for column, phase in enumerate(phases) if (row + column) % SHARES == share]
        return found


@dataclass
class Cell:
    """One fault at one call of a phase; at no call: at rest."""

    fault: Fault
    phase: Phase
    call: int
    done: bool | None = None

    def __str__(self) -> str:
        return f"{self.fault.__name__} at call {self.call} of {self.phase.name}"


def _first(fault: Fault, phase: Phase, calls: list[Call]) -> int:
    """The first call of a phase from which on the fault may do something, and not as it is without ports."""
    if fault in OF_CLONER:
        # What clones comes after the gateway, and before all that the sandbox has of its own.
        return next((number for number, call in enumerate(calls, 1) if _makes_cloner(call)), len(calls)) + 1
    if fault in (*OF_RELAY, *OF_GATEWAY):
        if not (phase.creates or phase.name in ("resuming", "publishing")):
            return 1
        # Before the container there is its network.
        return _made(calls)[-1] + (fault not in (remove_outer, remove_way_out))
    if before := before_relay(phase, calls):
        return before + 1
    if fault in (remove_network, remove_volumes, remove_all) or not (phase.creates or phase.name == "resuming"):
        return 1
    return _made(calls)[0] + 1


def _calls(place: Place, fault: Fault, phase: Phase, calls: list[Call]) -> list[int]:
    """The calls of a phase at which the fault has something to be done to; 0, at rest, where a phase has no call."""
    last = len(calls)
    numbers = range(min(_first(fault, phase, calls), last), last + 1)
    if not calls or fault not in CONTAINERS:
        return list(numbers)
    turns = [_turn(fault, call) if place.conductor.component(call) == CONTAINERS[fault] else None for call in calls]
    # What begins in the phase was not there before.
    there = next((turn is False for turn in turns if turn is not None), True)
    found = []
    for number, turn in enumerate(turns, 1):
        if there and number in numbers:
            found.append(number)
        there = there if turn is None else turn
    return found


def _turn(fault: Fault, call: Call) -> bool | None:
    """Whether with a call of its container there comes to be something for the fault, or goes; None: neither."""
    if call.method == "DELETE":
        return False
    turns = {"start": True, "stop": False} if fault in KILLS else {"create": True}
    return turns.get(call.path.rpartition("/")[2])


def _makes_cloner(call: Call) -> bool:
    return call.path == "/containers/create" and CLONER in call.query


def _made(calls: list[Call]) -> list[int]:
    """At which calls a container is made."""
    return [number for number, call in enumerate(calls, 1) if call.path == "/containers/create"]


async def _try(place: Place, cell: Cell, number: int) -> str:
    """What is amiss in the end; empty where nothing is."""
    name = f"s{number:03d}"

    def act() -> None:
        cell.done = cell.fault(made)

    moment = Moment(cell.call, act)
    if cell.phase.creates:
        made = place.prepare(name)
        await place.create(name, moment, **cell.phase.spec)
    else:
        made = await place.create(name, **cell.phase.spec)
        if why := await place.comes_to(made, Made.amiss) or await place.is_told(made, settled):
            return f"was not made: {why}"
        if cell.phase.begin is not None:
            await cell.phase.begin(place, made)
        place.conductor.arm(made, moment)
        await cell.phase.trigger(place, made)
    if not cell.call:
        await asyncio.to_thread(moment.act)
    if not await asyncio.to_thread(moment.acted.wait, 240):
        return f"there was no call {cell.call}: {[call.kind for call in made.calls]}"
    if moment.error is not None:
        return f"the fault failed: {moment.error!r}"
    return await place.comes_to(made, cell.phase.amiss)


async def _all(place: Place, kind: Kind, cells: list[Cell]) -> None:
    room = asyncio.Semaphore(AT_A_TIME)
    failures: list[str] = []

    async def one(number: int, cell: Cell) -> None:
        async with room:
            why = await _try(place, cell, number)
        made = place.sandboxes[f"s{number:03d}"]
        # It stays as it came to be, and its status says so.
        if not why and cell.phase.amiss is Made.amiss:
            why = await place.is_told(made, made.told)
        why = why or await place.comes_to(made, cell.phase.amiss, 30.0)
        if why:
            calls = ", ".join(call.kind for call in made.calls)
            failures.append(f"{cell}{'' if cell.done else ' (had no effect)'}: {why}; calls: {calls}")
        failures.extend(f"{cell}: {left}" for left in await place.ended(made))

    await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells)))
    effects = Counter(cell.fault.__name__ for cell in cells if cell.done)
    print(f"{len(cells)} faults, {place.watch.starts} starts; with an effect: {dict(effects)}")
    assert not failures, "\n".join(failures)
    assert place.watch.violations == []
    assert place.watch.on_now == []
    stays = place.watch.stays
    print("seconds on another network:", sorted(round(stay.seconds, 2) for stay in stays))
    assert all(stay.seconds < LONGEST_STAY for stay in stays), stays
    assert {fault.__name__ for fault in kind.faults} <= effects.keys()
    # Somebody was put on another network while it ran, and that was seen: the watch can see it.
    assert stays


async def in_each_phase(place: Place, kind: Kind) -> None:
    """Each fault in each phase at one call, chosen by SEED; each engine has a share of them."""
    calls = await recorded(place, kind.phases)
    print({phase: [call.kind for call in made] for phase, made in calls.items()})
    chosen = []
    for fault, phase in kind.share(engine.RELEASES.index(place.host.release)):
        # By a seed of the pair's own: that another fault is added changes nothing of the others.
        draw = random.Random(f"{SEED} {fault.__name__} {phase.name}")  # noqa: S311
        chosen.append(Cell(fault, phase, draw.choice(_calls(place, fault, phase, calls[phase.name]))))
    await _all(place, kind, chosen)


async def at_each_call(place: Place, kind: Kind) -> None:
    """Each fault at each call of each phase."""
    calls = await recorded(place, kind.phases)
    cells = [
        Cell(fault, phase, call)
        for fault, phase in kind.pairs
        for call in _calls(place, fault, phase, calls[phase.name])
    ]
    random.Random(SEED).shuffle(cells)  # noqa: S311
    await _all(place, kind, cells)
