"""The Docker backend: one host's engine. Observes by asking it, applies, hands evidence to compliance.

Theory of operation. It outlives the connections to its engine. Nothing that it holds decides what is there, all of it
only what need not be asked or said again:

- which names and identifiers are whose (`Registry`), so that events without labels find their sandbox;
- what passes are about to cause, or have seen (`Expectations`), so that nobody is woken by it;
- what the last pass saw of each sandbox (`LastSeen`), where ports are published (`PublishedPorts`), who came in from
  outside (`OutsideSessions`), what ran short (`Pressures`), which images are on their way (`ImagePulls`).

One pass at a time is at work on a sandbox, those of many are on the event loop at once, and beside them one task
follows the engine's events (`changed_sandboxes`). A pass observes, plans, applies, and where it wrote looks once more:
what it says afterwards is of that look, or nothing. What the engine told meanwhile and that look does not answer for
makes another pass. Whatever ends a pass early (ENOUGH seconds, an answer that is none) is told as not asked, and the
sandbox is looked at again after HOST_AGAIN; nothing is concluded from a silence.

A crash loses all of it. The placement in the sandbox's status says which host to ask, and the labels on the engine
whose the objects are; a first pass observes, adopts them, and writes nothing where all is as it should be.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network
from types import MappingProxyType
from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.apply import carry_out
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.threads import ask_kernel, of_tenant
from claude_sandbox.backends.docker.events import expectations, watch
from claude_sandbox.backends.docker.events.expectations import Expectations
from claude_sandbox.backends.docker.events.outside_sessions import OutsideSessions
from claude_sandbox.backends.docker.events.watch import Registry, SandboxKey
from claude_sandbox.backends.docker.evidence import container as evidence
from claude_sandbox.backends.docker.evidence import exhaustion
from claude_sandbox.backends.docker.evidence.measure import Read, measured
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.backends.docker.gateway.gateways import Brokering
from claude_sandbox.backends.docker.gateway.plan import is_gateway
from claude_sandbox.backends.docker.gateway.reports import GatewayReports
from claude_sandbox.backends.docker.images.pulls import ImagePulls, Login, anonymously
from claude_sandbox.backends.docker.images.store import ImageStore
from claude_sandbox.backends.docker.images.tools import ToolsVolumes
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.managed_settings import settings_of
from claude_sandbox.backends.docker.keys.placeholder import placeholder_of
from claude_sandbox.backends.docker.keys.service_secrets import NoServiceCredentials, ServiceCredentials, Texts
from claude_sandbox.backends.docker.keys.source import KeySource
from claude_sandbox.backends.docker.model import Desired, Observed
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.observe import Observer
from claude_sandbox.backends.docker.plan import desire, plan
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.relay.published import PublishedPorts
from claude_sandbox.backends.docker.relay.relays import NO_PUBLISHING, Publishing
from claude_sandbox.backends.docker.removal import Removal, orphans, remove, workspaces
from claude_sandbox.backends.docker.seen import LastSeen, Seen
from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.unsupported import unsupported_in
from claude_sandbox.backends.docker.written import WriteResults
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Blueprint, Identity, Image
from claude_sandbox.compliance.reports.pods import Judgement

logger = logging.getLogger(__name__)

# Seconds until a host that did not answer is asked again, for those who wait for it.
HOST_AGAIN = 10.0
# Seconds that an engine may take over what one pass asks of it, however many calls that are.
ENOUGH = 60.0
# Seconds between the first two helper containers of a sandbox, and twice as long each time after.
KEY_PAUSE = 1.0


class DockerBackend:
    """One Docker host. `cluster` identifies the control plane of the sandboxes; `host` is what a user calls it.

    `helper` is the operator's own image, which brings the keys and is in gateways; None: there are none of either.
    `gateways`: what holds for all of them, in the gateway's own format (`provider`, `egress`, `limits`).
    `publishing` tells what administrators give for declared ports now, `permits` whether they allow an image, None for
    the operator's own default; `login` what its registry is logged in to with.
    `wake` is called with the namespace and name of a sandbox that another pass is due for, beside what `wakes` gives.
    """

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        host: str,
        secrets: KeySource,
        pacer: Pacer,
        *,
        allowed_registries: tuple[str, ...] = (),
        pool: IPv4Network | None = address_pools.POOL,
        helper: Image | None = None,
        gateways: Mapping[str, Any] = MappingProxyType({}),
        publishing: Callable[[], Publishing] = lambda: NO_PUBLISHING,
        permits: Callable[[NamedImage | None], bool] = lambda _: True,
        login: Login = anonymously,
        wake: Callable[[str, str], None] = lambda _namespace, _name: None,
        services: ServiceCredentials = NoServiceCredentials(),  # noqa: B008 - it holds nothing
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._host = host
        self._secrets = secrets
        self._pacer = pacer
        self._allowed_registries = allowed_registries
        self._pool = pool
        self._helper = helper
        self._brokering = Brokering(helper, gateways)
        self._publishing = publishing
        self._wake = wake
        self._services = services
        self._now = now
        self._permits = permits
        self._store = ImageStore(engine, cluster)
        self._images = ImagePulls(engine, store=self._store, login=login, wake=wake)
        self._tools = ToolsVolumes(engine, self._images, cluster)
        self._observer = Observer(engine)
        self._registry = Registry()
        self._expectations = Expectations()
        self._pressures = exhaustion.Pressures()
        self._sessions = OutsideSessions(engine)
        self._reports = GatewayReports(engine, wake)
        self._ports = PublishedPorts(pacer, publishing)
        self._last = LastSeen(engine, cluster, host, self._observer, self._pressures)

    async def close(self) -> None:
        """Give back what was taken; the sandboxes go on."""
        await self._images.close()
        self._engine.close()

    async def key(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret that the sandbox names."""
        return await self._secrets.state(identity, secret, key)

    async def ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        """Observe, plan and apply; where something was written, look at what came of it.

        What is known of the sandbox afterwards is what this pass saw, or nothing.
        """
        identity = blueprint.identity
        try:
            async with asyncio.timeout(ENOUGH):
                return await self._ensure(blueprint, key, spec, past)
        except TimeoutError:
            why = EngineError(UNREACHABLE, f"it did not do within {ENOUGH:.0f} s what it was asked")
            return self._not_asked(identity, why, Outcome())
        except Exception as error:
            # An engine's documents are in part what a container, an image or another user of the engine makes of them.
            logger.warning("a pass over what Docker host %s has ended early", self._host, exc_info=True)
            self._last.nothing(identity)
            message = f"Docker host {self._host} was asked, and {mishap(error)}."
            return Outcome(failure=Failure(Reason.RETRYING, message, permanent=False), paced=HOST_AGAIN)

    async def _ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        identity = blueprint.identity
        blueprint = self._with_generations(blueprint)
        if not past.settled:
            # A user's new wish is carried out at once, however often the container was replaced before.
            self._pacer.forget(identity.namespace, identity.name)
            self._pacer.forget(identity.namespace, _key_of(identity.name))
            self._pacer.forget(identity.namespace, _gateway_of(identity.name))
        try:
            capabilities = await self._engine.capabilities()
            desired = desire(
                blueprint,
                self._cluster,
                key,
                capabilities,
                self._publishing(),
                self._brokering,
                spec.update_strategy.type,
            )
            observed = await self._observe(desired, blueprint)
        except EngineError as error:
            return self._not_asked(identity, error, Outcome())
        relay = desired.documents.relay
        past = replace(past, endpoints=self._ports.believed(identity, relay, observed, past))
        self._ports.want(identity, relay)
        wanted, results = plan(desired, observed, past), WriteResults()
        with self._expectations.during((identity.namespace, identity.name), results.removed) as events:
            context = self._context(blueprint, results, past, self._refusal(blueprint, spec))
            outcome = await carry_out(context, desired, wanted, lambda: self._pacer.wait(identity))
            # Up to here the look that follows answers for what is told; what comes during it may be newer.
            told = len(events)
            if wanted.steps:
                try:
                    observed = await self._observe_again(desired, blueprint, observed, outcome, results)
                except EngineError as error:
                    # What was told was kept back from waking anybody, and no look has answered for it.
                    if events:
                        self._wake(identity.namespace, identity.name)
                    return self._not_asked(identity, error, outcome)
        # After a step that went wrong nobody knows which events it caused itself.
        whole = outcome.failure is None and not outcome.stale
        unseen = expectations.unanswered(observed, events, told if whole else 0, results)
        # What was seen last may still have to be acted upon.
        if unseen or (events and whole and plan(desired, observed, past).steps):
            self._wake(identity.namespace, identity.name)
        unpublished = self._ports.why_not(blueprint, observed, outcome.unpublished)
        found = self._ports.endpoints(identity, relay, observed, past)
        waits = observed.container is None and self._images.pulls(blueprint.image) and outcome.failure is None
        seen = Seen(
            desired.documents,
            observed,
            desired.capabilities,
            self._now(),
            unsupported_in(blueprint),
            blueprint,
            endpoints=found,
            pull=self._images.state(blueprint.image) if waits else "",
        )
        self._last.put(identity, seen)
        return replace(outcome, unpublished=unpublished)

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the container can be worked with now."""
        return await self._last.state(identity)

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        seen = self._last.get(blueprint.identity)
        container = seen.observed.container if seen is not None else None
        missing = "there is no container" if seen is not None else f"Docker host {self._host} could not be asked"
        declared = evidence.declared(
            blueprint,
            spec.profile,
            self._allowed_registries,
            names_of(self._cluster, blueprint.identity),
            addresses=self._publishing().addresses,
            cluster=self._cluster,
            image_refused="" if self._permits(spec.image) else "its DockerHost does not allow its image",
        )
        read = await self._read(blueprint, container) if container is not None else Read()
        return measured(declared, seen, missing, outcome, read, self._now())

    async def remove(self, identity: Identity, *, retain: bool) -> Removal:
        """Take the sandbox off the host: container, volumes as `retain` says of the workspace, network.

        To be called until it is done, before the resource's finalizer is taken away.
        """
        try:
            async with asyncio.timeout(ENOUGH):
                removal = await remove(self._engine, self._cluster, identity, retain=retain)
        except TimeoutError:
            return Removal(False, problem=f"the Docker Engine did not do within {ENOUGH:.0f} s what it was asked")
        # Until then it is still known whose the rest is, so that its events find the sandbox.
        if removal.done:
            self._lose(identity)
        return removal

    async def runs(self, identity: Identity) -> bool:
        """Whether a container of the sandbox runs, paused or not, under whatever name. Raises EngineError."""
        found = await self._engine.containers(names.selector(self._cluster, identity))
        return any(running(one) and names.is_owned(one, self._cluster, identity, names.AGENT) for one in found)

    async def has(self, identity: Identity) -> bool:
        """Whether a container of the sandbox is here, running or not. Raises EngineError."""
        found = await self._engine.containers(names.selector(self._cluster, identity))
        return any(names.is_owned(one, self._cluster, identity, names.AGENT) for one in found)

    async def engine_id(self) -> str:
        """The identifier of the engine that answers now. Raises EngineError."""
        return await self._engine.identifier()

    async def provide(self, blueprint: Blueprint) -> None:
        """Have a sandbox's image on the host, as its pull policy says, and what brings its key.

        Raises ImagePendingError, ImageMissingError, and EngineError where the engine could not be asked.
        """
        identity = blueprint.identity
        waiter = identity.namespace, identity.name
        with of_tenant(identity.namespace):
            await self._images.provide(blueprint.image, waiter)
            if blueprint.tools is not None:
                await self._images.provide(blueprint.tools.image, waiter)
            if self._helper is not None:
                await self._images.provide(self._helper, waiter)

    async def tidy(self, hours: int) -> tuple[str, ...]:
        """Remove images that the operator had pulled, and volumes with what is in its own, that nothing needed for so
        many hours. Raises EngineError.
        """
        # Its keepers are containers, and an image that has one stays.
        tools = await self._tools.tidy(hours)
        return (*tools, *await self._store.tidy(hours, self._images.awaited()))

    async def orphans(self, living: frozenset[str]) -> tuple[Identity, ...]:
        """Sandboxes of this cluster with objects here whose UID is not among the living. Raises EngineError."""
        return await orphans(self._engine, self._cluster, living)

    async def workspaces(self) -> tuple[tuple[str, str, str], ...]:
        """All workspaces of this cluster: volumes, and names and UIDs of their namespaces. Raises EngineError."""
        return await workspaces(self._engine, self._cluster)

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """The sandbox is gone; `remove` has taken away what it had."""
        for identity in [one for one in self._last if (one.namespace, one.name) == (namespace, name)]:
            self._lose(identity)
        self._registry.forget((namespace, name))
        self._reports.forget((namespace, name))
        self._pacer.forget(namespace, name)
        self._ports.forget_pace(namespace, name)
        self._pacer.forget(namespace, _key_of(name))
        self._pacer.forget(namespace, _gateway_of(name))

    def wakes(self) -> AsyncIterator[SandboxKey]:
        """Keys of sandboxes that are worth a look, without end."""
        return watch.changed_sandboxes(
            self._engine,
            self._cluster,
            self._registry,
            keep=self._expectations.keep,
            note=self._pressures.note,
            sessions=self._sessions,
            checked=self._reports.checked,
        )

    async def _read(self, blueprint: Blueprint, container: Object) -> Read:
        """What of a container its document does not tell."""
        local = self._engine.may_be_local
        process = await ask_kernel(partial(witness_of, container, self._now())) if local else None
        settings = await settings_of(self._engine, container, blueprint.settings, self._now())
        visits, ended = await self._sessions.take(container)
        if ended:
            # Told of once; that it is over, by the next pass.
            self._wake(blueprint.identity.namespace, blueprint.identity.name)
        return Read(process, settings, visits)

    async def _observe(self, desired: Desired, blueprint: Blueprint) -> Observed:
        return self._registered(desired, await self._observer.observe(desired, blueprint))

    async def _observe_again(
        self, desired: Desired, blueprint: Blueprint, before: Observed, outcome: Outcome, results: WriteResults
    ) -> Observed:
        """What came of a pass. Where not all went as planned, nothing that it results is relied upon."""
        if outcome.failure is not None or outcome.stale or outcome.paced is not None:
            return await self._observe(desired, blueprint)
        return self._registered(desired, await self._observer.again(desired, blueprint, before, results))

    def _registered(self, desired: Desired, observed: Observed) -> Observed:
        """Have events of what was observed wake the sandbox."""
        identity, called = desired.identity, desired.documents.names
        handles = [called.container, called.network, *called.all_volumes]
        beside = (observed.relay, observed.outer, observed.gateway.container, observed.gateway.network)
        live = (observed.container, observed.network, *beside)
        handles += [called.relay] if desired.documents.relay is not None else []
        handles += [called.gateway] if desired.documents.gateway is not None else []
        handles += [str(one["Id"]) for one in live if one is not None]
        self._registry.put((identity.namespace, identity.name), handles)
        if observed.container is not None and names.is_owned(
            observed.container, desired.cluster, identity, names.AGENT
        ):
            self._sessions.know(identity.uid, observed.container)
        if is_gateway(desired, gateway := observed.gateway.container) and gateway is not None:
            self._sessions.know(_gateway_of(identity.uid), gateway)
            self._reports.know((identity.namespace, identity.name), gateway)
        return observed

    def _context(self, blueprint: Blueprint, results: WriteResults, past: Past, refusal: str) -> ApplyContext:
        reference, identity = blueprint.key, blueprint.identity
        sandbox = (identity.namespace, identity.name)

        async def read_credential() -> Key:
            return await self._secrets.read(identity, reference.secret, reference.key)

        async def read_services() -> Texts:
            return await self._services.read(identity, blueprint.gateway.services if blueprint.gateway else ())

        async def read_placeholder() -> Key:
            key = await read_credential()
            try:
                return await asyncio.to_thread(placeholder_of, key, identity.uid)
            finally:
                key.wipe()

        async def provide_tools() -> Object | None:
            return await self._tools.provide(blueprint.tools, sandbox) if blueprint.tools is not None else None

        return ApplyContext(
            engine=self._engine,
            provide_tools=provide_tools,
            images=self._images,
            blueprint=blueprint,
            read_key=read_placeholder if blueprint.gateway is not None else read_credential,
            read_credential=read_credential,
            read_services=read_services,
            changed=self._observer.changed,
            made=lambda container: self._registry.add(sandbox, container),
            results=results,
            pace_key=lambda: self._pacer.wait(replace(identity, name=_key_of(identity.name)), first=KEY_PAUSE),
            helper=self._helper,
            refusal=refusal,
            pace_relay=partial(self._ports.pace, identity),
            pace_gateway=lambda: self._pacer.wait(replace(identity, name=_gateway_of(identity.name))),
            told=partial(self._observer.told, identity.uid),
            published={name: port for name, one in past.endpoints.items() if (port := relays.host_port(one))},
            pool=self._pool,
        )

    def _with_generations(self, blueprint: Blueprint) -> Blueprint:
        """With which Secrets of services there are now, so that the gateway is told of others."""
        gateway, namespace = blueprint.gateway, blueprint.identity.namespace
        if gateway is None or not gateway.services:
            return blueprint
        services = tuple(
            replace(one, header=replace(one.header, generation=self._services.generation(namespace, one.header.secret)))
            if one.header is not None
            else one
            for one in gateway.services
        )
        return replace(blueprint, gateway=replace(gateway, services=services))

    def _refusal(self, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> str:
        """Why the sandbox's image must not be run here; empty where it may be."""
        if self._permits(spec.image):
            return ""
        return (
            f"The DockerHost {self._host} does not allow the image {blueprint.image.reference}: leave out spec.image"
            " for the operator's own, or have its administrator list the repository in the DockerHost's"
            " spec.images.allowed."
        )

    def _not_asked(self, identity: Identity, error: EngineError, done: Outcome) -> Outcome:
        """The engine did not answer. What was done before is told all the same."""
        self._last.nothing(identity)
        return replace(done, failure=done.failure or self._trouble(error), paced=HOST_AGAIN)

    def _trouble(self, error: EngineError) -> Failure:
        return Failure(Reason.RETRYING, f"Docker host {self._host} could not be asked: {error}.", permanent=False)

    def _lose(self, identity: Identity) -> None:
        self._last.forget(identity)
        self._ports.forget(identity)
        self._observer.forget(identity.uid)
        self._sessions.forget(identity.uid)
        self._sessions.forget(_gateway_of(identity.uid))


def _key_of(name: str) -> str:
    """What the pace of the helpers is kept under that bring a sandbox its key."""
    return f"{name}/key"


def _gateway_of(name: str) -> str:
    """What the pace of a sandbox's gateway, and who comes into it, is kept under."""
    return f"{name}/gateway"
