"""What is known of each sandbox after its last pass, and the state that is told from it.

Theory of operation. A pass ends by saying here what it saw, or that it saw nothing. The state that is asked for next is
told from that look, without another request; any later one asks the engine for the container anew. Beside it is kept
the state that was told last: while the host is silent nothing is known, and what was known last still counts.

Used by the one pass at work on a sandbox, from the event loop. A crash loses all of it; the next pass fills it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.base import WorkloadState
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object, made_at, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import ask_kernel
from claude_sandbox.backends.docker.evidence import exhaustion
from claude_sandbox.backends.docker.evidence.cpu import cpu_use
from claude_sandbox.backends.docker.keys.placeholder import generation_of
from claude_sandbox.backends.docker.model import Observed
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.backends.docker.observe import Observer
from claude_sandbox.backends.docker.state import (
    being_cloned,
    host_lost,
    pulling,
    state_of,
    unclear,
    with_gateway,
    with_outcomes,
)
from claude_sandbox.backends.pressure import NOTHING_SHORT
from claude_sandbox.blueprint.model import Blueprint, Identity


@dataclass(frozen=True)
class Seen:
    """A sandbox's objects as last seen. `fresh`: by the pass that is under way, and not changed since."""

    wanted: Documents
    observed: Observed
    capabilities: EngineCapabilities
    at: datetime
    unsupported: tuple[str, ...]
    blueprint: Blueprint
    # Where declared ports are published.
    endpoints: tuple[tuple[str, str], ...] = ()
    # How far its image is, where the container waits for that.
    pull: str = ""
    fresh: bool = True


class LastSeen:
    """Of all sandboxes of one engine. `host`: what a user calls it."""

    def __init__(
        self, engine: Engine, cluster: str, host: str, observer: Observer, pressures: exhaustion.Pressures
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._host = host
        self._observer = observer
        self._pressures = pressures
        self._seen: dict[Identity, Seen] = {}
        self._pulls: dict[Identity, str] = {}
        self._states: dict[Identity, WorkloadState] = {}

    def put(self, identity: Identity, seen: Seen) -> None:
        """What a pass saw last."""
        self._seen[identity] = seen
        if seen.pull:
            self._pulls[identity] = seen.pull
        else:
            self._pulls.pop(identity, None)

    def get(self, identity: Identity) -> Seen | None:
        """What the last pass saw; None where it saw nothing."""
        return self._seen.get(identity)

    def nothing(self, identity: Identity) -> None:
        """The last pass saw nothing: the engine could not be asked."""
        self._seen.pop(identity, None)

    def forget(self, identity: Identity) -> None:
        """The sandbox is gone."""
        self._seen.pop(identity, None)
        self._states.pop(identity, None)
        self._pressures.forget(identity)
        self._pulls.pop(identity, None)

    def __iter__(self) -> Iterator[Identity]:
        return iter({**self._seen, **self._states})

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the container can be worked with now."""
        try:
            return await self._state(identity)
        except Exception as error:  # noqa: BLE001 - an engine's documents are in part what a container makes of them
            return unclear(self._host, mishap(error), self._states.get(identity))

    async def _state(self, identity: Identity) -> WorkloadState:
        seen = self._seen.get(identity)
        if seen is not None and seen.fresh:
            self._seen[identity] = replace(seen, fresh=False)
            container = seen.observed.container
        else:
            try:
                container = await self._engine.container(names_of(self._cluster, identity).container)
            except EngineError as error:
                return host_lost(self._host, error.message, self._states.get(identity))
        if container is None or not names.is_owned(container, self._cluster, identity, names.AGENT):
            self._states.pop(identity, None)
            if seen is not None and (cloner := seen.observed.cloner.container) is not None:
                found = being_cloned(cloner, seen.observed.cloner_said)
                return with_gateway(found, seen.wanted.gateway, seen.observed)
            waiting = self._pulls.get(identity)
            return pulling(waiting) if waiting else state_of(None, self._host, None, ())
        generation = self._observer.delivered(container)
        strained, short, cpu = None, tuple[str, ...](), None
        if seen is not None and running(container):
            strained, short = await self._pressure(identity, container, seen)
            cpu = await ask_kernel(partial(cpu_use, container)) if self._engine.may_be_local else None
        found = state_of(container, self._host, generation, seen.unsupported if seen else (), short)
        found = replace(
            found, strained=strained, cpu=cpu, image_made=made_at(seen.observed.image) if seen is not None else None
        )
        # The word says too whether it is a placeholder; a status says the key's generation alone.
        found = replace(found, key_generation=generation_of(found.key_generation))
        if seen is not None:
            found = with_gateway(replace(found, endpoints=seen.endpoints), seen.wanted.gateway, seen.observed)
        found = with_outcomes(found, self._states.get(identity))
        self._states[identity] = found
        return found

    async def _pressure(
        self, identity: Identity, container: Object, seen: Seen
    ) -> tuple[Reason | None, tuple[str, ...]]:
        """What the sandbox ran out of: the gravest of it, and each as a clause."""
        found = NOTHING_SHORT
        if self._engine.may_be_local:
            found = await ask_kernel(partial(exhaustion.look, container, seen.blueprint.writable))
        said = self._pressures.said(identity, container, found)
        called, blueprint, volumes = seen.wanted.names, seen.blueprint, seen.observed.volumes
        places = {called.workspace: blueprint.workspace.path}
        if blueprint.kept_home is not None:
            places[called.home] = blueprint.kept_home.path
        sized = {path for name, path in places.items() if sizes.size_of(volumes.get(name) or {}) is not None}
        return said.reason, exhaustion.clauses(said, blueprint, sized)
