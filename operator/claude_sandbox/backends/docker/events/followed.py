"""What is followed of sandboxes by the events of their engine: their objects, who comes in, what their gateways say.

Theory of operation. Each pass says here what it observed (`observed`). From then on an event about any of it wakes the
sandbox, somebody who comes into one of its containers is told of, and so is what its gateway reports. What is not
said again is forgotten with the next `observed`, and all of it when the sandbox has left the engine (`left`) or is gone
altogether (`gone`). Used on the event loop, by the passes and by the one task that follows the events. A crash loses
all of it, and the first pass of each sandbox says it anew.
"""

from collections.abc import AsyncIterator, Callable

from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.events import watch
from claude_sandbox.backends.docker.events.outside_sessions import OutsideSessions
from claude_sandbox.backends.docker.events.watch import Registry, SandboxKey
from claude_sandbox.backends.docker.gateway.plan import is_gateway
from claude_sandbox.backends.docker.gateway.reports import GatewayReports
from claude_sandbox.backends.docker.model import Desired, Observed
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.containers import ExecSessions


class Followed:
    """Of all sandboxes of one engine."""

    def __init__(self, engine: Engine, cluster: str, wake: Callable[[str, str], None]) -> None:
        self._engine = engine
        self._cluster = cluster
        self.registry = Registry()
        self._sessions = OutsideSessions(engine)
        self._reports = GatewayReports(engine, wake)

    def observed(self, desired: Desired, observed: Observed) -> None:
        """Have events of what a pass observed wake the sandbox."""
        identity = desired.identity
        key = identity.namespace, identity.name
        self.registry.put(key, _handles(desired, observed))
        if observed.container is not None and names.is_owned(
            observed.container, desired.cluster, identity, names.AGENT
        ):
            self._sessions.know(identity.uid, observed.container)
        if (cloner := observed.cloner.container) is not None:
            self._sessions.know(_beside(identity, names.CLONER), cloner)
        if is_gateway(desired, gateway := observed.gateway.container) and gateway is not None:
            self._sessions.know(_beside(identity, names.GATEWAY), gateway)
            self._reports.know(key, gateway)

    def made(self, sandbox: SandboxKey, container: str) -> None:
        """A container was made for it: what happens to it from now on has to be heard."""
        self.registry.add(sandbox, container)

    async def visits(self, container: Object) -> tuple[ExecSessions, bool]:
        """Who is in a container, or was since this was asked last, and whether some of these have ended."""
        return await self._sessions.take(container)

    def left(self, identity: Identity) -> None:
        """Nothing of the sandbox is on the engine any more."""
        for one in (identity.uid, _beside(identity, names.GATEWAY), _beside(identity, names.CLONER)):
            self._sessions.forget(one)

    def gone(self, sandbox: SandboxKey) -> None:
        """There is no such sandbox any more."""
        self.registry.forget(sandbox)
        self._reports.forget(sandbox)

    def wakes(
        self, keep: Callable[[SandboxKey, Object], bool], note: Callable[[Object], None]
    ) -> AsyncIterator[SandboxKey]:
        """Keys of sandboxes that are worth a look, without end. `keep`, `note`: see `changed_sandboxes`."""
        return watch.changed_sandboxes(
            self._engine,
            self._cluster,
            self.registry,
            keep=keep,
            note=note,
            sessions=self._sessions,
            checked=self._reports.checked,
        )


def _handles(desired: Desired, observed: Observed) -> list[str]:
    """The names and identifiers of what a sandbox has, or is to have."""
    wanted, called = desired.documents, desired.documents.names
    handles = [called.container, called.network, *called.all_volumes]
    handles += [called.relay] if wanted.relay is not None else []
    handles += [called.gateway] if wanted.gateway is not None else []
    handles += [called.cloner] if wanted.cloner is not None else []
    handles += [called.holder] if wanted.holder is not None else []
    beside = (observed.relay, observed.outer, observed.gateway.container, observed.gateway.network)
    others = (observed.cloner.container, observed.holder.container)
    live = (observed.container, observed.network, *others, *beside)
    return [*handles, *(str(one["Id"]) for one in live if one is not None)]


def _beside(identity: Identity, what: str) -> str:
    """What the sessions in a container beside a sandbox's own are kept under."""
    return f"{identity.uid}/{what}"
