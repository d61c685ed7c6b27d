"""The parts of one operator process, put together.

Theory of operation. Holds every part, and decides nothing: it says who calls whom. What there is on Docker hosts, and
backups, come after the rest (`use_hosts`, `backups`), each with a reconciler made anew. So both are called before any
work, or what that one remembers would be lost. All on one event loop; a crash loses all of it, and the next process
puts it together from what it lists.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from claude_sandbox.api.docker_hosts.incident import HostIncidentStatus
from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.meta import GIT_SECRET_TYPE, SERVICE_SECRET_TYPE
from claude_sandbox.backends.backup_servers import Servers
from claude_sandbox.backends.backups import Helpers, NotNowError
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.capacity import Allocated
from claude_sandbox.backends.docker.images.registry_auth import RegistryLogins
from claude_sandbox.backends.docker.keys.gateway_secrets import GatewaySecrets
from claude_sandbox.backends.docker.keys.secrets import SecretKeys
from claude_sandbox.backends.kubernetes.admission import Pod
from claude_sandbox.backends.kubernetes.backend import KubernetesBackend
from claude_sandbox.backends.kubernetes.backups.helpers import KubernetesBackups
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering
from claude_sandbox.backends.kubernetes.node_agents.agents import NodeAgents
from claude_sandbox.backends.kubernetes.probing.probes import PodProbes
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.backends.probing.schedule import Probing
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.pods import QUESTIONS
from claude_sandbox.controller.backups.operator import BackupsOperator
from claude_sandbox.controller.backups.passwords import Passwords
from claude_sandbox.controller.backups.restores import Restores
from claude_sandbox.controller.docker_hosts.compromised import CompromisedHosts
from claude_sandbox.controller.docker_hosts.declared import Declared
from claude_sandbox.controller.docker_hosts.demand import HostAllocations
from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.docker_hosts.status import DrainProgress
from claude_sandbox.controller.images.gate import ImageGate
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.machinery.logs import about
from claude_sandbox.controller.machinery.queue import Limits, WorkQueue
from claude_sandbox.controller.machinery.status_writer import as_stored
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.policy_reports.operator import PolicyReports
from claude_sandbox.controller.sandboxes.docker import DockerSandboxes
from claude_sandbox.controller.sandboxes.gateways.brokered import BrokeredSecrets
from claude_sandbox.controller.sandboxes.incidents.keys import CompromisedKeys
from claude_sandbox.controller.sandboxes.incidents.revocation import Revocations
from claude_sandbox.controller.sandboxes.interfaces import Reporter
from claude_sandbox.controller.sandboxes.namespace_rate_limiter import NamespaceRateLimiter
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.staleness import write
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, host_of, on_docker, workspace_of
from claude_sandbox.controller.sandboxes.watch import WatchErrors
from claude_sandbox.controller.sessions.admission import Admission, Admitted
from claude_sandbox.controller.sessions.running import beginning
from claude_sandbox.controller.sessions.server import SessionServer
from claude_sandbox.controller.sessions.tidying import forgetting, tidy_forever
from claude_sandbox.controller.settings import Settings
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informers.informer import Timings
from claude_sandbox.kubernetes_api.resources import SANDBOXES

# Seconds in which a change is looked at that tells nothing new of how far a sandbox is.
SOON = 1.0
HOST_PASSES, TENANT_PASSES = 32, 8
"""Passes at a time on one Docker host, and for one namespace there: a host that hangs holds these and no others."""
PASS_LIMIT = 110.0
"""Seconds for a pass on a Docker host. Before the liveness check takes it for one that hangs (`main.STUCK_AFTER`)."""


class PassTooLongError(Exception):
    """A pass was ended; what it had begun is found by the next."""

    is_transient = True


class Operator:
    """Everything that one process holds. Built inside a running event loop."""

    def __init__(self, settings: Settings, api: Api, reporter: Reporter, metrics: Metrics, minor: int) -> None:
        self.settings = settings
        self.api = api
        self._metrics = metrics
        self._reporter = reporter
        self.sandboxes = Sandboxes()
        self._brokered_secrets = BrokeredSecrets(self.sandboxes)
        self._demands = HostAllocations(self.sandboxes)
        self.watch_errors = WatchErrors()
        observer = metrics.queue_observer()
        self.queue: WorkQueue[Key] = WorkQueue(observer=observer, limits=self._limits)
        # Once, and not with each reconciler: it follows the sandboxes for as long as there are any.
        self._revocations = Revocations(settings.revocation_hook, self._wake_asker)
        self._compromised_keys = CompromisedKeys(self.sandboxes, self._wake_users, self._revocations)
        self._limiter = NamespaceRateLimiter(self.sandboxes, self.queue.add)
        metrics.watch_queue(self.queue, observer, settings.workers)
        self.watches = self._watches()
        metrics.watch_informers(lambda: self.watches)
        self._probes = PodProbes(
            api,
            self.watches,
            settings.gateway_image,
            Probing(settings.pod_probe_interval, settings.probe_targets) if settings.pod_probe_interval else None,
            lambda namespace, name: self.queue.add(Key(namespace, name)),
            settings.probe_control_namespace,
        )
        pace = Timings(resync=settings.resync * 2)
        self.node_agents = (
            NodeAgents(api, self._wake, pace, settings.node_agent_interval) if settings.node_agent else None
        )
        if self.node_agents is not None:
            metrics.watch_node_agents(self.node_agents.silent, self.node_agents.certificate_ends)
        self.backend = KubernetesBackend(
            api,
            self.watches,
            AccessReviews(api, QUESTIONS),
            Pacer(),
            minor=minor,
            allowed_registries=settings.allowed_registries,
            plain_images=settings.plain_images,
            recorded=self._recorded,
            brokering=Brokering(settings.gateway_image, settings.gateways),
            brokered=self._brokered,
            named=self._brokered_secrets.of,
            lent_by_address=self._brokered_secrets.lent_by_address,
            probes=self._probes,
            node_agents=self.node_agents,
            evidence_namespace=settings.lease_namespace or "",
        )
        metrics.watch_certificates(self.backend.certificates_end)
        self.policy_reports = self._policy_reports()
        self._fleet: Fleet | None = None
        self._docker: DockerSandboxes | None = None
        self._compromised: CompromisedHosts | None = None
        self._wake_host: Callable[[str], None] = lambda _: None
        self._restores: Restores | None = None
        self._backups: BackupsOperator | None = None
        self._noticing: set[asyncio.Task[None]] = set()
        self.images = self._image_gate()
        self.reconciler = self._reconciler()

    def _watches(self) -> Watches:
        """What follows the objects of sandboxes, and wakes those that a change concerns."""
        settings = self.settings
        return Watches(
            self.api,
            settings.namespaces,
            secrets=settings.secrets,
            gateways=settings.gateway_image is not None,
            plugin_policies=settings.plugin_policies,
            wake=self._wake,
            wake_soon=lambda namespace, name: self.queue.add_after(Key(namespace, name), SOON),
            wake_all=self._limiter.all_of,
            wake_users=self._wake_users,
            wake_told=self._wake_told,
            pace=Timings(resync=settings.resync * 2),
        )

    def _image_gate(self) -> ImageGate:
        """What tells which images may run."""
        settings = self.settings
        return ImageGate(
            self.api,
            self._labels_of,
            lambda: tuple(self.sandboxes),
            self._sandboxes_of,
            self.queue.add,
            settings.resync,
            settings.image_check_interval,
            settings.lease_namespace or "",
        )

    def _policy_reports(self) -> PolicyReports | None:
        """What writes reports as objects of the cluster, where that is wanted."""
        settings = self.settings
        if settings.policy_reports is None:
            return None

        def tell(raw: Raw, reason: str, message: str) -> None:
            self._reporter.tell(raw, reason, message, warning=True)

        found = PolicyReports(
            self.api, settings.policy_reports, settings.namespaces, lambda: list(self.sandboxes), self.sandboxes.get,
            tell, Timings(resync=settings.resync * 2),
        )  # fmt: skip
        self.sandboxes.follow(found.sandbox)
        self._metrics.watch_reports(found.told, found.missing)
        return found

    def _sandboxes_of(self, namespace: str) -> Iterator[Raw]:
        """What is known of the sandboxes of a namespace."""
        for key in self.sandboxes.of(namespace):
            if (raw := self.sandboxes.get(key)) is not None:
                yield raw

    def _wake(self, namespace: str, name: str) -> None:
        self.queue.add(Key(namespace, name))

    def _wake_asker(self, asker: Key | str) -> None:
        """Who asked for a key's revocation: a sandbox, or a Docker host by its name."""
        if isinstance(asker, Key):
            self.queue.add(asker)
        else:
            self._wake_host(asker)

    def _brokered(self, namespace: str) -> frozenset[str] | None:
        """The Secrets that sandboxes with a gateway name and may use; None where there is no such sandbox."""
        named = self._brokered_secrets.of(namespace)
        return None if named is None else frozenset(one for one in named if self.watches.may_be_used(namespace, one))

    def _recorded(self, identity: Identity) -> Pod | None:
        """The pod that the sandbox's status names, as last seen."""
        raw = self.sandboxes.get(Key(identity.namespace, identity.name))
        # An earlier sandbox of the name had another pod, and a container is none.
        if raw is None or raw["metadata"]["uid"] != identity.uid or on_docker(raw):
            return None
        told = (raw.get("status") or {}).get("workload") or {}
        return Pod(told["uid"], told.get("revision") or "") if told.get("uid") else None

    def use_hosts(self, hosts: HostsOperator, cluster: str) -> None:
        """Run sandboxes on Docker hosts too. `cluster` tells this control plane from others that use an engine."""
        settings, pacer, secrets = self.settings, Pacer(), SecretKeys(self.api, self.backend.key)
        declared = Declared(hosts.reconciler.host_info, settings.relay_image)
        self._compromised = compromised = CompromisedHosts(
            hosts.objects, self.sandboxes, self.queue.add, self._wake_users, hosts.hosts.forget, self._generation_of,
            self._revocations,
        )  # fmt: skip
        self._wake_host = hosts.wake

        def make(host: str, engine: Engine) -> DockerBackend:
            return DockerBackend(
                engine,
                cluster,
                host,
                secrets,
                pacer,
                allowed_registries=settings.allowed_registries,
                helper=settings.relay_image,
                gateways=settings.gateways,
                publishing=partial(declared.publishing, host),
                permits=partial(declared.permits, host),
                sizes_required=partial(declared.sizes_required, host),
                login=RegistryLogins(host, hosts.secrets, partial(declared.images, host)).of,
                wake=self._wake,
                gateway_secrets=GatewaySecrets(self.api, lambda *secret: self.watches.opted_in(*secret)[1]),
                sessions_at=settings.sessions_at,
                backup_directory=partial(declared.backup_directory, host),
                backup_password=Passwords(self.api).read,
                backup_servers=Servers(settings.backup_networks),
                checkpoint_recipient=settings.checkpoint_recipient,
                probing=Probing(settings.probe_interval, settings.probe_targets) if settings.probe_interval else None,
            )

        self._metrics.watch_hosts()
        self._fleet = Fleet(
            hosts.hosts,
            make,
            self._wake,
            self._metrics.hosts.failed,
            declared.keeps_images,
            compromised.refusal,
        )
        self._docker = DockerSandboxes(
            self.api,
            self.sandboxes,
            self._reporter,
            self._fleet,
            hosts.reconciler,
            self._labels_of,
            self.queue.add_after,
            hosts.wake,
            compromised,
            settings.namespaces,
            # Asked for when they are needed: they come after the hosts.
            lambda: self._backups,
        )
        self.reconciler = self._reconciler()

    def backups(self, events: EventRecorder) -> BackupsOperator:
        """What looks after backups, and fills workspaces from them. After `use_hosts`."""
        settings = self.settings
        found = BackupsOperator(
            self.api, events, settings.namespaces, self.sandboxes.get, self._backing_up, settings.resync,
            self._wake_backed_up,
        )  # fmt: skip

        async def write_status(raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
            return await write(self.sandboxes, self._reporter, raw, patch)

        stored = partial(as_stored, self.api, SANDBOXES)
        self._restores = Restores(self._backing_up, found.backup, found.under_way, stored, write_status)
        self._backups = found
        self.reconciler = self._reconciler()
        return found

    @property
    def looks_after_backups(self) -> BackupsOperator:
        """What `backups` has made."""
        assert self._backups is not None, "backups() was not called"  # noqa: S101
        return self._backups

    def _backing_up(self, raw: Raw) -> tuple[Helpers, Identity]:
        """What backs up a sandbox, and who that is there. Raises NotNowError."""
        metadata = raw["metadata"]
        uid = self.namespace_uid(metadata["namespace"])
        # What is on an engine is told by it from what another namespace of that name had.
        if uid is None:
            raise NotNowError(BackupReason.HELPER_NOT_STARTED, "The sandbox's namespace is not known yet.")
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"], uid, workspace_of(raw))
        if not on_docker(raw):
            image = self.settings.gateway_image or self.settings.relay_image
            servers = Servers(self.settings.backup_networks)
            return KubernetesBackups(self.api, image, Passwords(self.api).allowed, servers), identity
        if (host := host_of(raw)) is None or self._fleet is None:
            raise NotNowError(BackupReason.WORKSPACE_NOT_THERE, "The sandbox was not placed on a Docker host yet.")
        return self._fleet.of(host).backups, identity

    def sessions(self, leads: Callable[[], bool]) -> SessionServer | None:
        """What lets people into sandboxes on Docker hosts, where that is wanted. After `use_hosts`."""
        if self.settings.sessions_at is None or self._fleet is None:
            return None
        host, port = self.settings.sessions_bind

        def tell(admitted: Admitted, reason: str, message: str) -> None:
            self._reporter.tell(admitted.sandbox, reason, message, warning=False)

        found = SessionServer(
            Admission(self.api, self.sandboxes), beginning(self._fleet), leads, tell, forgetting(self.api),
            host=host, port=port, certificate=self.settings.sessions_certificate,
        )  # fmt: skip
        self._metrics.watch_sessions(lambda: found.places.taken, found.places.most, lambda: found.certificate.ends)
        return found

    async def tidy_sessions(self, server: SessionServer, leads: Callable[[], bool]) -> None:
        """Delete sessions that are over, for ever."""
        await tidy_forever(self.api, self.settings.namespaces, lambda: server.open, leads)

    def demands_on(self, host: str) -> Allocated:
        """What the sandboxes that are placed on a Docker host, or on their way to it, may use."""
        coming = self._docker.drains.demands_on(host) if self._docker is not None else ()
        return self._demands.taken(host).plus(Allocated.by(coming))

    def host_incident(self, host: Mapping[str, Any], now: datetime) -> HostIncidentStatus | None:
        """What was on a Docker host that is compromised; None of any other."""
        return self._compromised.status(host, now) if self._compromised is not None else None

    def _generation_of(self, namespace: str, secret: str) -> str | None:
        """Of a Secret that opted in to being used for repositories or services, as last seen."""
        seen = (self.watches.opted_in(namespace, secret, use)[1] for use in (GIT_SECRET_TYPE, SERVICE_SECRET_TYPE))
        return next((str(one["metadata"]["resourceVersion"]) for one in seen if one is not None), None)

    def drain(self, host: str, moved: int) -> DrainProgress:
        """Have the next sandboxes of a Docker host that is being drained moved; how far that is."""
        return self._docker.drains.look(host, moved) if self._docker is not None else DrainProgress(moved)

    async def close(self) -> None:
        """End what follows Docker hosts, and probes that are under way; the sandboxes go on."""
        await self._probes.close()
        await self.images.close()
        for task in self._noticing:
            task.cancel()
        if self._fleet is not None:
            await self._fleet.close()

    def host_changed(self, host: str, answers: bool) -> None:
        """A Docker host came, went, fell silent, answers again, or was changed by an administrator."""
        # Those without a host as well: this one may have room for them.
        for key in self.sandboxes.on_host(host):
            self.queue.add(key)
        if self._docker is not None:
            task = asyncio.create_task(self._docker.host_changed(host, answers), name=f"change of {host}")
            # Held, since the event loop holds tasks by weak references only.
            self._noticing.add(task)
            task.add_done_callback(self._noticing.discard)

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self.sandboxes,
            self.backend,
            self._reporter,
            self.settings.site,
            hosted=self._docker,
            busy=lambda: len(self.queue) > 0,
            config_map=self.watches.config_map,
            delete=self._delete,
            images=self.images,
            compromised_keys=self._compromised_keys,
            restores=self._restores,
            backups=self._backups.schedules if self._backups is not None else None,
        )

    def _wake_backed_up(self, key: Key) -> None:
        """A backup of it came, went, or is further."""
        raw = self.sandboxes.get(key)
        if raw is not None and (raw.get("spec") or {}).get("backup"):
            self.queue.add(key)

    async def _delete(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """Delete this version of a sandbox. Raises ApiError."""
        metadata = raw["metadata"]
        # This version: whoever changed it meanwhile may have changed why it is deleted.
        return await self.api.delete(
            SANDBOXES,
            metadata["name"],
            metadata["namespace"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )

    def _labels_of(self, namespace: str) -> Mapping[str, str] | None:
        found = self.watches.namespace(namespace)[1]
        return None if found is None else found["metadata"].get("labels") or {}

    def namespace_uid(self, namespace: str) -> str | None:
        """The UID of the namespace that has a name now, as last seen; None where there is none, or it is not known."""
        if not self._works_for(namespace):
            return None
        found = self.watches.namespace(namespace)[1]
        return None if found is None else str(found["metadata"]["uid"])

    async def kept_workspaces(self, host: str) -> tuple[str, ...] | None:
        """The volumes of workspaces on a Docker host whose namespace is gone; None where that can't be told."""
        return None if self._docker is None else await self._docker.kept(host, self._is_gone)

    def _works_for(self, namespace: str) -> bool:
        """Whether it is one of those that are looked after, and so followed."""
        return not self.settings.namespaces or namespace in self.settings.namespaces

    def _is_gone(self, namespace: str, uid: str) -> bool:
        """Whether the namespace of this name and UID is certainly there no more."""
        if not self._works_for(namespace):
            return False
        informer, found = self.watches.namespace(namespace)
        if found is None:
            # Certain only after a whole list that was answered: a refusal, or a start, shows no namespace either.
            return informer.synced.is_set() and informer.readable
        return bool(found["metadata"]["uid"] != uid)

    async def reconcile(self, key: Key) -> Result:
        """One pass, its log lines marked with the sandbox."""
        raw = self.sandboxes.get(key)
        # The calls of an engine that the pass makes count for its namespace (`engine/threads.py`).
        with about(key.namespace, key.name, raw["metadata"]["uid"] if raw else ""), of_tenant(key.namespace):
            if raw is None or not on_docker(raw):
                return await self.reconciler(key)
            try:
                # On Docker alone: each request to the API server has a time-out of its own, and a budget for its tries.
                async with asyncio.timeout(PASS_LIMIT) as limit:
                    return await self.reconciler(key)
            except TimeoutError:
                # Something within the pass may have had a limit of its own.
                if not limit.expired():
                    raise
                raise PassTooLongError(f"it was not done within {PASS_LIMIT:.0f} s") from None

    def _limits(self, key: Key) -> Limits:
        """How many passes there may be at a time of the same kind: what holds one up must not hold up others."""
        raw = self.sandboxes.get(key)
        if raw is None or not on_docker(raw):
            return {"Kubernetes": self.settings.workers}
        if (host := host_of(raw)) is None:
            # On whichever host it is placed, it goes on there.
            return {("homeless", key.namespace): TENANT_PASSES}
        # By host and namespace, so that one tenant's sandboxes can't take up all the passes of a host that hangs.
        return {("host", host): HOST_PASSES, ("host", host, key.namespace): TENANT_PASSES}

    def _wake_told(self, namespace: str, config_map: str) -> None:
        for key in self.sandboxes.told_by(namespace, config_map):
            self.queue.add(key)

    def _wake_users(self, namespace: str, secret: str) -> None:
        for key in self.sandboxes.using(namespace, secret):
            self.queue.add(key)
