"""Which sandboxes of one engine are probed, and what for. When: `backends/probing/schedule.py`."""

from collections.abc import Callable, Iterable

from claude_sandbox.api.spec import SeccompProfileType
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.probing.running import Questions, ask
from claude_sandbox.backends.docker.probing.targets import Place, address_on, own_networks, place_of, targets
from claude_sandbox.backends.docker.seen import Seen
from claude_sandbox.backends.probing.schedule import Found, NothingFoundError, Probed, Probing, Schedule
from claude_sandbox.backends.probing.wanted import MisunderstoodError
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.evidence.readings import Unread

AT_A_TIME = 2
"""Probes of one engine: each is a container that is made and removed."""
ENOUGH = 60.0
"""Seconds for a probe with all that the engine is asked for."""
OFF = Unread("this operator does not probe (--probe-interval 0), or has no image to probe with (--relay-image)")
_MOVED = "its container was started anew, or its networks changed"


class Probes(Schedule[Seen, Place]):
    """Of one engine. `image`: what probes, the operator's own; None: nothing is probed."""

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        image: Image | None,
        probing: Probing | None,
        wake: Callable[[str, str], None],
    ) -> None:
        super().__init__(probing, wake, at_a_time=AT_A_TIME, enough=ENOUGH, whom="the Docker Engine")
        self._engine = engine
        self._cluster = cluster
        self._image = image

    def known(self, identity: Identity, seen: Seen) -> Found:
        """What is known of where a sandbox is now; where that is nothing, a probe is begun."""
        if self._probing is None or self._image is None:
            return OFF
        place = _place(seen)
        if place is None:
            self._end(identity)
            return Unread("its container does not run")
        return self._known(identity, seen, place)

    async def _find(self, identity: Identity, one: Probed[Seen, Place]) -> ProbeReport:
        assert self._image is not None  # noqa: S101 - `known` has looked
        try:
            with of_tenant(identity.namespace):
                if await self._place_now(identity, one.seen) != one.place:
                    raise NothingFoundError(_MOVED)
                report = await ask(self._engine, self._image, self._questions(identity, one))
                if await self._place_now(identity, one.seen) != one.place:
                    raise NothingFoundError(_MOVED)
                return report
        except (EngineError, MisunderstoodError) as error:
            raise NothingFoundError(str(error)) from None

    async def _place_now(self, identity: Identity, seen: Seen) -> Place | None:
        called = names_of(self._cluster, identity)
        wanted = seen.wanted.gateway is not None
        container = await self._engine.container(called.container)
        gateway = await self._engine.container(called.gateway) if wanted else None
        return place_of(container, gateway)

    def _questions(self, identity: Identity, one: Probed[Seen, Place]) -> Questions:
        assert self._probing is not None  # noqa: S101 - `known` has looked
        seen, called = one.seen.observed, names_of(self._cluster, identity)
        container = seen.container
        assert container is not None  # noqa: S101 - else it has no place
        wanted = targets(
            called,
            seen.network,
            seen.gateway.container if one.seen.wanted.gateway is not None else None,
            seen.gateway.network,
            self._addresses_but(identity),
            self._probing.named,
        )
        strict = one.seen.blueprint.seccomp is SeccompProfileType.STRICT
        return Questions(identity, self._cluster, called, container, wanted, own_networks(seen.network), strict)

    def _addresses_but(self, identity: Identity) -> Iterable[str]:
        for other, one in self._of.items():
            found = address_on(one.seen.observed.container, names_of(self._cluster, other).network)
            if found and other != identity:
                yield found


def _place(seen: Seen) -> Place | None:
    gateway = seen.observed.gateway.container if seen.wanted.gateway is not None else None
    return place_of(seen.observed.container, gateway)
