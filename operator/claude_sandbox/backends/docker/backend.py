"""The Docker backend: one host's engine. Observes by asking it, applies, hands evidence to compliance.

Theory of operation. It outlives the connections to its engine. Nothing that it holds decides what is there, all of it
only what need not be asked or said again:

- what of each sandbox is followed by its engine's events (`Followed`);
- what passes are about to cause, or have seen (`Expectations`), so that nobody is woken by it;
- what the last pass saw of each sandbox (`LastSeen`), where ports are published (`PublishedPorts`), what ran short
  (`Pressures`), which images are on their way (`ImagePulls`).

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

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.api.status import Compliance
from claude_sandbox.backends.backup_servers import PUBLIC_SERVERS, Servers
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, Trial, WorkloadState, set_aside
from claude_sandbox.backends.containment import Containment, Kept
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.apply import carry_out
from claude_sandbox.backends.docker.backups.helpers import DockerBackups, Passwords, no_password
from claude_sandbox.backends.docker.containment.quarantine import DockerQuarantine
from claude_sandbox.backends.docker.engine.documents import Object, running
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.backends.docker.events import expectations
from claude_sandbox.backends.docker.events.expectations import Expectations
from claude_sandbox.backends.docker.events.followed import Followed
from claude_sandbox.backends.docker.events.watch import SandboxKey
from claude_sandbox.backends.docker.evidence import exhaustion
from claude_sandbox.backends.docker.evidence.measurements import Measurements
from claude_sandbox.backends.docker.gateway.gateways import Brokering
from claude_sandbox.backends.docker.images.pulls import ImagePulls, Login, anonymously
from claude_sandbox.backends.docker.images.store import ImageStore
from claude_sandbox.backends.docker.images.tools import ToolsVolumes
from claude_sandbox.backends.docker.keys.gateway_secrets import (
    GatewayCredentials,
    NoGatewayCredentials,
)
from claude_sandbox.backends.docker.keys.readers import Readers, told_of_secrets
from claude_sandbox.backends.docker.keys.source import KeySource
from claude_sandbox.backends.docker.model import Desired, Observed
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.observe import Observer
from claude_sandbox.backends.docker.plan import desire, plan
from claude_sandbox.backends.docker.probing.probes import Probes
from claude_sandbox.backends.docker.relay import relays
from claude_sandbox.backends.docker.relay.published import PublishedPorts
from claude_sandbox.backends.docker.relay.relays import NO_PUBLISHING, Publishing
from claude_sandbox.backends.docker.removal import Removal, orphans, remove, workspaces
from claude_sandbox.backends.docker.seen import LastSeen, Seen
from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.backends.docker.steps.context import ApplyContext
from claude_sandbox.backends.docker.steps.paces import Paces
from claude_sandbox.backends.docker.trials.trials import DockerTrials
from claude_sandbox.backends.docker.unsupported import unsupported_in
from claude_sandbox.backends.docker.written import WriteResults
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.backends.probing.schedule import Probing
from claude_sandbox.blueprint.model import Blueprint, Identity, Image
from claude_sandbox.compliance.reports.isolation import Judgement

logger = logging.getLogger(__name__)

# Seconds until a host that did not answer is asked again, for those who wait for it.
HOST_AGAIN = 10.0
# Seconds that an engine may take over what one pass asks of it, however many calls that are.
ENOUGH = 60.0


class DockerBackend:
    """One Docker host. `cluster` identifies the control plane of the sandboxes; `host` is what a user calls it.

    `helper` is the operator's own image, which brings the keys and is in gateways; None: there are none of either.
    `gateways`: what holds for all of them, in the gateway's own format (`provider`, `egress`, `limits`).
    `publishing` tells what administrators give for declared ports now, `permits` whether they allow an image, None for
    the operator's own default; `login` what its registry is logged in to with; `sizes_required` whether they want
    volumes of an enforced size only.
    `sessions_at`: where the operator lets people work in its sandboxes, for the status; None: nowhere.
    `backup_directory`: what administrators give for backups now; `backup_password` reads a repository's.
    `backup_servers`: which servers elsewhere helpers may be led to.
    `checkpoint_recipient`: who the memory of quarantined sandboxes is encrypted to; None: it is not kept.
    `probing`: how often what can be reached from sandboxes is tried; None: never.
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
        sizes_required: Callable[[], bool] = lambda: False,
        login: Login = anonymously,
        wake: Callable[[str, str], None] = lambda _namespace, _name: None,
        gateway_secrets: GatewayCredentials = NoGatewayCredentials(),  # noqa: B008 - it holds nothing
        sessions_at: str | None = None,
        probing: Probing | None = None,
        backup_directory: Callable[[], str | None] = lambda: None,
        backup_password: Passwords = no_password,
        backup_servers: Servers = PUBLIC_SERVERS,
        checkpoint_recipient: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.backups = DockerBackups(engine, cluster, host, helper, backup_directory, backup_password, backup_servers)
        self._quarantine = DockerQuarantine(engine, cluster, host, helper, ENOUGH, now, checkpoint_recipient)
        self._engine, self._cluster, self._host = engine, cluster, host
        self._secrets, self._gateway_secrets = secrets, gateway_secrets
        self._pool, self._helper, self._sessions_at = pool, helper, sessions_at
        self._publishing, self._permits, self._sizes_required = publishing, permits, sizes_required
        self._wake, self._now = wake, now
        self._paces = Paces(pacer)
        self._brokering = Brokering(helper, gateways)
        self._store = ImageStore(engine, cluster)
        self._images = ImagePulls(engine, store=self._store, login=login, wake=wake)
        self._tools = ToolsVolumes(engine, self._images, cluster)
        self._trials = DockerTrials(engine, cluster, self._images, self._tools)
        self._observer = Observer(engine)
        self._expectations = Expectations()
        self._pressures = exhaustion.Pressures()
        self._followed = Followed(engine, cluster, wake)
        self._ports = PublishedPorts(pacer, publishing)
        self._probes = Probes(engine, cluster, helper, probing, wake)
        self._last = LastSeen(engine, cluster, host, self._observer, self._pressures)
        self._measurements = Measurements(
            engine,
            cluster,
            host,
            self._last,
            self._followed,
            self._probes,
            wake,
            allowed_registries=allowed_registries,
            publishing=publishing,
            permits=permits,
            now=now,
        )

    async def close(self) -> None:
        """Give back what was taken; the sandboxes go on."""
        await self._probes.close()
        await self._measurements.close()
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
        blueprint = told_of_secrets(blueprint, self._gateway_secrets)
        if not past.settled:
            # A user's new wish is carried out at once, however often the container was replaced before.
            self._paces.forget(identity.namespace, identity.name)
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
        # Before anything is written: a sandbox without a number would be given the workspace that was set aside.
        highest = max(observed.workspaces, default=1)
        if highest > 1 and identity.workspace is None and desired.documents.workspace is not None:
            last = f"{desired.documents.names.first}{meta.instance_suffix(highest)}"
            return Outcome(failure=set_aside(f"volume {last}"), workspaces=highest)
        relay = desired.documents.relay
        # A status is written by whoever may: by it alone nobody gets a port of the host.
        past = replace(past, endpoints=self._ports.believed(identity, relay, observed, past))
        self._ports.want(identity, relay)
        wanted, results = plan(desired, observed, past), WriteResults()
        with self._expectations.during((identity.namespace, identity.name), results.removed) as events:
            context = self._context(blueprint, results, past, self._refusal(blueprint, spec))
            outcome = await carry_out(context, desired, wanted, partial(self._paces.workload, identity))
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
        # After a failure that one is told, and not how far the image is.
        waits = observed.container is None and self._images.pulls(blueprint.image) and outcome.failure is None
        pull = self._images.state(blueprint.image) if waits else ""
        self._last.put(identity, self._seen(blueprint, desired, observed, found, pull))
        return replace(outcome, unpublished=unpublished, workspaces=highest)

    def _seen(
        self,
        blueprint: Blueprint,
        desired: Desired,
        observed: Observed,
        endpoints: tuple[tuple[str, str], ...],
        pull: str,
    ) -> Seen:
        """What a pass saw, for whoever asks after it."""
        return Seen(
            desired.documents,
            observed,
            desired.capabilities,
            self._now(),
            unsupported_in(blueprint, observed.volumes, desired.documents.names),
            blueprint,
            endpoints=endpoints,
            pull=pull,
        )

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the container can be worked with now."""
        found = await self._last.state(identity)
        if found.workload is None or self._sessions_at is None:
            return found
        return replace(found, workload=found.workload.model_copy(update={"sessions": self._sessions_at}))

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, and what the Compliant and IsolationVerified conditions say."""
        return await self._measurements.measure(blueprint, spec, outcome)

    async def contain(self, identity: Identity, since: datetime, more: Mapping[str, bytes] | None) -> Containment:
        """Freeze the sandbox and cut it off, whatever state it is in; what it was can still be kept then."""
        try:
            return await self._quarantine.contain(identity)
        finally:
            # What was seen of it is of before.
            self._last.nothing(identity)

    async def keep_evidence(self, identity: Identity, since: datetime, more: Mapping[str, bytes]) -> Kept:
        """Gather what a frozen sandbox was, with `more` files, and keep it on its host."""
        return await self._quarantine.keep_evidence(identity, since, more)

    async def release(self, identity: Identity) -> Failure | None:
        """Remove what was frozen, so that another may be made; why it can't be, where it can't."""
        failure = await self._quarantine.release(identity)
        if failure is None:
            self._last.nothing(identity)
        return failure

    async def tried(self, identity: Identity) -> Trial:
        """What is seen of an image that is tried beside the container."""
        return await self._trials.look(identity)

    async def try_beside(self, canary: Blueprint, spec: ClaudeSandboxSpec, seconds: float) -> Trial:
        """Have the canary's image tried, which ends by itself; a trial of another image ends."""
        refusal = self._refusal(canary, spec)
        return Trial(message=refusal) if refusal else await self._trials.begin(canary)

    async def end_trial(self, identity: Identity) -> bool:
        """Whether nothing of a trial is left."""
        return await self._trials.end(identity)

    async def remove(self, identity: Identity, *, retain: bool) -> Removal:
        """Take the sandbox off the host: container, volumes as `retain` says of the workspace, network.

        To be called until it is done, before the resource's finalizer is taken away.
        """
        # First: one that is under way could make its container after the others are gone.
        await self._probes.forget(identity)
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
        # By its labels, not its name: one that somebody has renamed goes on all the same.
        return any(running(one) and self._is_workload(one, identity) for one in found)

    async def has(self, identity: Identity) -> bool:
        """Whether a container of the sandbox is here, running or not. Raises EngineError."""
        found = await self._engine.containers(names.selector(self._cluster, identity))
        return any(self._is_workload(one, identity) for one in found)

    def _is_workload(self, found: Object, identity: Identity) -> bool:
        """Whether a container is the sandbox's, or clones for it."""
        return any(names.is_owned(found, self._cluster, identity, one) for one in (names.AGENT, names.CLONER))

    async def agent(self, identity: Identity) -> str | None:
        """The container in which the sandbox's agent runs, by its identifier; None where there is none that is its own.

        Raises EngineError.
        """
        with of_tenant(identity.namespace):
            found = await self._engine.container(names_of(self._cluster, identity).container)
        owned = found is not None and names.is_owned(found, self._cluster, identity, names.AGENT)
        return str(found["Id"]) if found is not None and owned and running(found) else None

    def kept_volumes(self, identity: Identity, *, home: bool) -> tuple[str, ...]:
        """What the volumes of a sandbox's workspace and, with `home`, of its home are called, on whichever host."""
        names = names_of(self._cluster, identity)
        return (names.workspace, names.home) if home else (names.workspace,)

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
        self._followed.gone((namespace, name))
        self._ports.forget_pace(namespace, name)
        self._paces.forget(namespace, name)

    def wakes(self) -> AsyncIterator[SandboxKey]:
        """Keys of sandboxes that are worth a look, without end."""
        return self._followed.wakes(keep=self._expectations.keep, note=self._pressures.note)

    async def _observe(self, desired: Desired, blueprint: Blueprint) -> Observed:
        observed = await self._observer.observe(desired, blueprint)
        self._followed.observed(desired, observed)
        return observed

    async def _observe_again(
        self, desired: Desired, blueprint: Blueprint, before: Observed, outcome: Outcome, results: WriteResults
    ) -> Observed:
        """What came of a pass. Where not all went as planned, nothing that it results is relied upon."""
        if outcome.failure is not None or outcome.stale or outcome.paced is not None:
            return await self._observe(desired, blueprint)
        observed = await self._observer.again(desired, blueprint, before, results)
        self._followed.observed(desired, observed)
        return observed

    def _context(self, blueprint: Blueprint, results: WriteResults, past: Past, refusal: str) -> ApplyContext:
        identity, readers = blueprint.identity, Readers(blueprint, self._secrets, self._gateway_secrets)
        sandbox = (identity.namespace, identity.name)

        async def provide_tools() -> Object | None:
            return await self._tools.provide(blueprint.tools, sandbox) if blueprint.tools is not None else None

        return ApplyContext(
            engine=self._engine,
            provide_tools=provide_tools,
            images=self._images,
            blueprint=blueprint,
            read_key=readers.key,
            read_credential=readers.credential,
            read_others=readers.others,
            changed=self._observer.changed,
            made=partial(self._followed.made, sandbox),
            results=results,
            pace_key=partial(self._paces.key, identity),
            helper=self._helper,
            refusal=refusal,
            sizes_required=self._sizes_required(),
            pace_relay=partial(self._ports.pace, identity),
            pace_gateway=partial(self._paces.gateway, identity),
            pace_cloner=partial(self._paces.cloner, identity),
            pace_holder=partial(self._paces.holder, identity),
            told=partial(self._observer.told, identity.uid),
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

    def _not_asked(self, identity: Identity, error: EngineError, done: Outcome) -> Outcome:
        """The engine did not answer. What was done before is told all the same."""
        self._last.nothing(identity)
        return replace(done, failure=done.failure or self._trouble(error), paced=HOST_AGAIN)

    def _trouble(self, error: EngineError) -> Failure:
        return Failure(Reason.RETRYING, f"Docker host {self._host} could not be asked: {error}.", permanent=False)

    def _lose(self, identity: Identity) -> None:
        self._last.forget(identity)
        self._measurements.forget(identity)
        self._ports.forget(identity)
        self._observer.forget(identity.uid)
        self._followed.left(identity)
