"""The Docker backend: one host's engine. Observes by asking it, applies, hands evidence to compliance."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network
from typing import Protocol

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.docker import address_pools, names
from claude_sandbox.backends.docker.apply import carry_out
from claude_sandbox.backends.docker.engine.capabilities import EngineFacts
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.threads import ask_kernel, of_tenant
from claude_sandbox.backends.docker.events import expectations, watch
from claude_sandbox.backends.docker.events.expectations import Doings
from claude_sandbox.backends.docker.events.outside_sessions import Visitors
from claude_sandbox.backends.docker.events.watch import Registry, Wake
from claude_sandbox.backends.docker.evidence import container as evidence
from claude_sandbox.backends.docker.evidence import exhaustion
from claude_sandbox.backends.docker.evidence.proc import witness_of
from claude_sandbox.backends.docker.images.pulls import Images, Login, anonymously
from claude_sandbox.backends.docker.images.store import ImageStore
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.managed_settings import settings_of
from claude_sandbox.backends.docker.model import Desired, Observed
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.objects import Documents, documents
from claude_sandbox.backends.docker.observe import Observer
from claude_sandbox.backends.docker.plan import plan
from claude_sandbox.backends.docker.relay import evidence as relay_evidence
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.relay.relays import NO_PUBLISHING, Publishing, Relay
from claude_sandbox.backends.docker.removal import Removal, orphans, remove, workspaces
from claude_sandbox.backends.docker.state import host_lost, pulling, state_of, unclear
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.unsupported import gaps
from claude_sandbox.backends.docker.written import Learned
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Blueprint, Identity, Image
from claude_sandbox.compliance.evidence.containers import NOT_READ, SettingsRead
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import compliance
from claude_sandbox.compliance.reports.pods import Judgement, compliant

logger = logging.getLogger(__name__)

# Seconds until a host that did not answer is asked again, for those who wait for it.
HOST_AGAIN = 10.0
# Seconds that an engine may take over what one pass asks of it, however many calls that are.
ENOUGH = 60.0
# Seconds between the first two helper containers of a sandbox, and twice as long each time after.
KEY_PAUSE = 1.0


class KeySource(Protocol):
    """Where keys come from: the Secrets of the control plane."""

    async def state(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret that a sandbox names, without its data."""

    async def read(self, identity: Identity, secret: str, key: str) -> Key:
        """The key and its generation, read now. Raises KeyUnavailableError, never with the key in it."""


@dataclass(frozen=True)
class _Seen:
    """A sandbox's objects as last seen. `fresh`: by the pass that is under way, and not changed since."""

    wanted: Documents
    observed: Observed
    facts: EngineFacts
    at: datetime
    gaps: tuple[str, ...]
    blueprint: Blueprint
    # Where declared ports are published.
    endpoints: tuple[tuple[str, str], ...] = ()
    fresh: bool = True


class DockerBackend:
    """One Docker host. `cluster` identifies the control plane of the sandboxes; `host` is what a user calls it.

    `helper` is the operator's own image, which brings the keys; None: none can be brought.
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
        publishing: Callable[[], Publishing] = lambda: NO_PUBLISHING,
        permits: Callable[[NamedImage | None], bool] = lambda _: True,
        login: Login = anonymously,
        wake: Callable[[str, str], None] = lambda _namespace, _name: None,
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
        self._publishing = publishing
        self._wake = wake
        self._now = now
        self._permits = permits
        self._store = ImageStore(engine, cluster)
        self._images = Images(engine, store=self._store, login=login, wake=wake)
        self._observer = Observer(engine)
        self._registry = Registry()
        self._doings = Doings()
        self._strains = exhaustion.Strains()
        self._visitors = Visitors(engine)
        self._seen: dict[Identity, _Seen] = {}
        self._last: dict[Identity, WorkloadState] = {}
        self._pulling: dict[Identity, str] = {}
        # The relay that each sandbox was to have last, and why the engine did not publish its ports.
        self._relays: dict[Identity, Relay | None] = {}
        self._unpublished: dict[Identity, str] = {}
        # Where the engine was seen to publish its ports at the end of a pass: what a status then told.
        self._published: dict[Identity, dict[str, str]] = {}

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
            self._seen.pop(identity, None)
            message = f"Docker host {self._host} was asked, and {mishap(error)}."
            return Outcome(failure=Failure(Reason.RETRYING, message, permanent=False), paced=HOST_AGAIN)

    async def _ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        identity = blueprint.identity
        if not past.settled:
            # A user's new wish is carried out at once, however often the container was replaced before.
            self._pacer.forget(identity.namespace, identity.name)
            self._pacer.forget(identity.namespace, _key_of(identity.name))
        try:
            desired = await self._desire(blueprint, key, spec)
            observed = await self._observe(desired, blueprint)
        except EngineError as error:
            return self._not_asked(identity, error, Outcome())
        relay = desired.documents.relay
        past = replace(past, endpoints=self._believed(identity, relay, observed, past))
        if self._relays.get(identity) != relay:
            self._forget_relay(identity)
            self._relays[identity] = relay
        wanted, learned = plan(desired, observed, past), Learned()
        with self._doings.during((identity.namespace, identity.name), learned.removed) as events:
            context = self._context(blueprint, learned, past, self._refusal(blueprint, spec))
            outcome = await carry_out(context, desired, wanted, lambda: self._pacer.wait(identity))
            told = len(events)
            if wanted.steps:
                try:
                    observed = await self._observe_again(desired, blueprint, observed, outcome, learned)
                except EngineError as error:
                    if events:
                        self._wake(identity.namespace, identity.name)
                    return self._not_asked(identity, error, outcome)
        whole = outcome.failure is None and not outcome.stale
        unseen = _unseen(observed, events, told if whole else 0, learned)
        # What was seen last may still have to be acted upon.
        if unseen or (events and whole and plan(desired, observed, past).steps):
            self._wake(identity.namespace, identity.name)
        unpublished = self._why_unpublished(blueprint, observed, outcome)
        found = self._endpoints(identity, relay, observed, past)
        self._seen[identity] = _Seen(
            desired.documents, observed, desired.facts, self._now(), gaps(blueprint), blueprint, endpoints=found
        )
        self._note_pull(identity, blueprint, observed, outcome)
        return replace(outcome, unpublished=unpublished)

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the container can be worked with now."""
        try:
            return await self._state(identity)
        except Exception as error:  # noqa: BLE001 - as in `ensure`
            return unclear(self._host, mishap(error), self._last.get(identity))

    async def _state(self, identity: Identity) -> WorkloadState:
        seen = self._seen.get(identity)
        if seen is not None and seen.fresh:
            self._seen[identity] = replace(seen, fresh=False)
            container = seen.observed.container
        else:
            try:
                container = await self._engine.container(names_of(self._cluster, identity).container)
            except EngineError as error:
                return host_lost(self._host, error.message, self._last.get(identity))
        if container is None or not names.is_owned(container, self._cluster, identity, names.AGENT):
            self._last.pop(identity, None)
            waiting = self._pulling.get(identity)
            return pulling(waiting) if waiting else state_of(None, self._host, None, ())
        generation = self._observer.delivered(container)
        short = await self._strain(identity, container, seen) if seen is not None and running(container) else ()
        found = state_of(container, self._host, generation, seen.gaps if seen else (), short)
        if seen is not None:
            found = replace(found, endpoints=seen.endpoints)
        self._last[identity] = found
        return found

    async def _strain(self, identity: Identity, container: Object, seen: _Seen) -> tuple[str, ...]:
        """What the sandbox ran out of, each as a clause."""
        found = exhaustion.Strain()
        if self._engine.may_be_local:
            found = await ask_kernel(partial(exhaustion.look, container, exhaustion.places_of(seen.blueprint)))
        return exhaustion.clauses(self._strains.said(identity, container, found), seen.blueprint)

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        seen = self._seen.get(blueprint.identity)
        observed = seen.observed if seen is not None else Observed()
        container = observed.container
        process, visits = None, None
        settings: Reading[SettingsRead] | Unread = NOT_READ
        if container is not None:
            if self._engine.may_be_local:
                process = await ask_kernel(partial(witness_of, container, self._now()))
            settings = await settings_of(self._engine, container, blueprint.settings, self._now())
            visits, ended = await self._visitors.take(container)
            if ended:
                # Told of once; that it is over, by the next pass.
                self._wake(blueprint.identity.namespace, blueprint.identity.name)
        missing = "there is no container" if seen is not None else f"Docker host {self._host} could not be asked"
        now = self._now()
        found = findings(
            evidence.evidence(
                evidence.declared(
                    blueprint,
                    spec.profile,
                    self._allowed_registries,
                    relay=names_of(self._cluster, blueprint.identity).relay,
                    addresses=self._publishing().addresses,
                    image_refused="" if self._permits(spec.image) else "its DockerHost does not allow its image",
                ),
                container if container is not None else missing,
                (observed.network,) if observed.network is not None else (),
                tuple(observed.volumes.values()),
                seen.at if seen is not None else now,
                now,
                process=process,
                drifted=outcome.drifted,
                outdated=outcome.spec_changed,
                facts=seen.facts if seen is not None else None,
                settings=settings,
                relay=relay_evidence.of(seen.wanted, seen.observed, seen.facts) if seen is not None else None,
                visits=visits,
            )
        )
        reported = compliance(found, now)
        if seen is None:
            lost: Judgement = (ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED, f"{missing}.")
            return reported, compliant(found, reported), lost
        isolated = evidence.isolation(seen.wanted, container, observed.network)
        return reported, compliant(found, reported), isolated

    async def remove(self, identity: Identity, *, retain: bool) -> Removal:
        """Take the sandbox off the host: container, volumes as `retain` says of the workspace, network.

        To be called until it is done, before the resource's finalizer is taken away.
        """
        try:
            async with asyncio.timeout(ENOUGH):
                removal = await remove(self._engine, self._cluster, identity, retain=retain)
        except TimeoutError:
            return Removal(False, problem=f"the Docker Engine did not do within {ENOUGH:.0f} s what it was asked")
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
            if self._helper is not None:
                await self._images.provide(self._helper, waiter)

    async def tidy(self, hours: int) -> tuple[str, ...]:
        """Remove images that the operator had pulled and that nothing needed for so many hours. Raises EngineError."""
        return await self._store.tidy(hours, self._images.awaited())

    async def orphans(self, living: frozenset[str]) -> tuple[Identity, ...]:
        """Sandboxes of this cluster with objects here whose UID is not among the living. Raises EngineError."""
        return await orphans(self._engine, self._cluster, living)

    async def workspaces(self) -> tuple[tuple[str, str, str], ...]:
        """All workspaces of this cluster: volumes, and names and UIDs of their namespaces. Raises EngineError."""
        return await workspaces(self._engine, self._cluster)

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """The sandbox is gone; `remove` has taken away what it had."""
        for identity in [one for one in (*self._seen, *self._last) if (one.namespace, one.name) == (namespace, name)]:
            self._lose(identity)
        self._registry.forget((namespace, name))
        self._pacer.forget(namespace, name)
        self._pacer.forget(namespace, _relay_of(name))
        self._pacer.forget(namespace, _key_of(name))

    def wakes(self) -> AsyncIterator[Wake]:
        """Keys of sandboxes that are worth a look, without end."""
        return watch.wakes(
            self._engine,
            self._cluster,
            self._registry,
            keep=self._doings.keep,
            note=self._strains.note,
            visitors=self._visitors,
        )

    async def _desire(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec) -> Desired:
        facts = await self._engine.facts()
        return Desired(
            identity=blueprint.identity,
            cluster=self._cluster,
            facts=facts,
            documents=documents(blueprint, self._cluster, facts, self._publishing()),
            settings=blueprint.settings.content,
            suspended=not blueprint.running,
            may_start=key.problem is None,
            withdrawn=key.withdrawn,
            key_generation=key.generation,
            update=spec.update_strategy.type,
            liveness=blueprint.liveness,
        )

    async def _observe(self, desired: Desired, blueprint: Blueprint) -> Observed:
        return self._registered(desired, await self._observer.observe(desired, blueprint))

    async def _observe_again(
        self, desired: Desired, blueprint: Blueprint, before: Observed, outcome: Outcome, learned: Learned
    ) -> Observed:
        """What came of a pass. Where not all went as planned, nothing that it learned is relied upon."""
        if outcome.failure is not None or outcome.stale or outcome.paced is not None:
            return await self._observe(desired, blueprint)
        return self._registered(desired, await self._observer.again(desired, blueprint, before, learned))

    def _registered(self, desired: Desired, observed: Observed) -> Observed:
        """Have events of what was observed wake the sandbox."""
        identity, called = desired.identity, desired.documents.names
        handles = [called.container, called.network, *called.volumes]
        live = (observed.container, observed.network, observed.relay, observed.outer)
        handles += [called.relay] if desired.documents.relay is not None else []
        handles += [str(one["Id"]) for one in live if one is not None]
        self._registry.put((identity.namespace, identity.name), handles)
        if observed.container is not None and names.is_owned(
            observed.container, desired.cluster, identity, names.AGENT
        ):
            self._visitors.know(identity.uid, observed.container)
        return observed

    def _context(self, blueprint: Blueprint, learned: Learned, past: Past, refusal: str) -> ApplyContext:
        reference, identity = blueprint.key, blueprint.identity
        sandbox = (identity.namespace, identity.name)
        return ApplyContext(
            engine=self._engine,
            images=self._images,
            blueprint=blueprint,
            read_key=lambda: self._secrets.read(identity, reference.secret, reference.key),
            changed=self._observer.changed,
            made=lambda container: self._registry.add(sandbox, container),
            learned=learned,
            pace_key=lambda: self._pacer.wait(replace(identity, name=_key_of(identity.name)), first=KEY_PAUSE),
            helper=self._helper,
            refusal=refusal,
            pace_relay=lambda: self._pacer.wait(replace(identity, name=_relay_of(identity.name))),
            published={name: port for name, one in past.endpoints.items() if (port := relays.host_port(one))},
            pool=self._pool,
        )

    def _refusal(self, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> str:
        """Why the sandbox's image must not be run here; empty where it may be."""
        if self._permits(spec.image):
            return ""
        return (
            f"The DockerHost {self._host} does not allow the image {blueprint.image.reference}: leave out spec.image"
            " for the operator's own, or have its administrator list the repository in the DockerHost's"
            " spec.images.allowed."
        )

    def _forget_relay(self, identity: Identity) -> None:
        """Another relay is wanted than before, or none: it is made at once."""
        self._unpublished.pop(identity, None)
        self._pacer.forget(identity.namespace, _relay_of(identity.name))

    def _believed(self, identity: Identity, relay: Relay | None, observed: Observed, past: Past) -> dict[str, str]:
        """Where declared ports were published, as far as that can be believed: a status may say what somebody wrote.

        What the engine itself was seen to have chosen counts, and else only what the sandbox might have chosen. Where
        it publishes now may be elsewhere: it chooses anew when somebody puts a relay on another network.
        """
        if relay is None:
            self._published.pop(identity, None)
            return {}
        seen = self._published.get(identity) or dict(relays.endpoints(relay.ports, observed.relay))
        return relays.believed(relay.ports, past.endpoints, seen, self._publishing())

    def _endpoints(
        self, identity: Identity, relay: Relay | None, observed: Observed, past: Past
    ) -> tuple[tuple[str, str], ...]:
        """Where declared ports are published; of a relay that is about to be made again, where they were."""
        if relay is None:
            return ()
        found = relays.endpoints(relay.ports, observed.relay)
        if found:
            self._published[identity] = dict(found)
        if found or identity in self._unpublished:
            return found
        return tuple((port.name, past.endpoints[port.name]) for port in relay.ports if port.name in past.endpoints)

    def _why_unpublished(self, blueprint: Blueprint, observed: Observed, outcome: Outcome) -> str:
        """Why a declared port is not published; empty where all are, and where there is nothing yet to publish."""
        identity, ports = blueprint.identity, blueprint.network.ports
        if observed.relay is not None and running(observed.relay):
            self._unpublished.pop(identity, None)
        if outcome.unpublished:
            self._unpublished[identity] = outcome.unpublished
        if observed.container is None:
            return ""
        return self._unpublished.get(identity) or relays.refusals(ports, self._publishing())

    def _note_pull(self, identity: Identity, blueprint: Blueprint, observed: Observed, outcome: Outcome) -> None:
        if observed.container is None and self._images.pulls(blueprint.image) and outcome.failure is None:
            self._pulling[identity] = self._images.state(blueprint.image)
        else:
            self._pulling.pop(identity, None)

    def _not_asked(self, identity: Identity, error: EngineError, done: Outcome) -> Outcome:
        """The engine did not answer. What was done before is told all the same."""
        self._seen.pop(identity, None)
        return replace(done, failure=done.failure or self._trouble(error), paced=HOST_AGAIN)

    def _trouble(self, error: EngineError) -> Failure:
        return Failure(Reason.RETRYING, f"Docker host {self._host} could not be asked: {error}.", permanent=False)

    def _lose(self, identity: Identity) -> None:
        self._seen.pop(identity, None)
        self._last.pop(identity, None)
        self._strains.forget(identity)
        self._pulling.pop(identity, None)
        self._relays.pop(identity, None)
        self._published.pop(identity, None)
        self._forget_relay(identity)
        self._observer.forget(identity.uid)
        self._visitors.forget(identity.uid)


def _relay_of(name: str) -> str:
    """What the pace of a sandbox's relay is kept under: no name of a sandbox has a slash."""
    return f"{name}/relay"


def _key_of(name: str) -> str:
    """What the pace of the helpers is kept under that bring a sandbox its key."""
    return f"{name}/key"


def _unseen(observed: Observed, events: list[Object], told: int, learned: Learned) -> list[Object]:
    """The events that what was observed last does not answer for; it was looked at when `told` of them were known."""
    container, network = (str((one or {}).get("Id", "")) for one in (observed.container, observed.network))
    looked = told
    if learned.started is not None:
        # It was read as soon as it was started, and not once more after that.
        told = expectations.until_start(events, container)
    relay, outer = (str((one or {}).get("Id", "")) for one in (observed.relay, observed.outer))
    # The relay is looked at after all that the pass did.
    seen = [event for event in events[:looked] if relay and relay == expectations.container_of(event)]
    made = [event for event in events[:looked] if outer and outer == (event.get("Actor") or {}).get("ID")]
    left = expectations.unseen(events, container, network, told, learned.removed)
    return [event for event in left if event not in seen and event not in made]
