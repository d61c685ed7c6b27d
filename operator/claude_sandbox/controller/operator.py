"""The parts of one operator process, put together."""

import asyncio
from collections.abc import Mapping
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.docker_hosts.spec import HostImages
from claude_sandbox.api.spec import Image
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.threads import of_tenant
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.capacity import Allocated
from claude_sandbox.backends.docker.images.registry_auth import RegistryLogins
from claude_sandbox.backends.docker.keys.secrets import SecretKeys
from claude_sandbox.backends.docker.keys.service_secrets import ServiceSecrets
from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.backends.kubernetes.admission import Pod
from claude_sandbox.backends.kubernetes.backend import KubernetesBackend
from claude_sandbox.backends.kubernetes.evidence.access_reviews import AccessReviews
from claude_sandbox.backends.kubernetes.gateway.objects import Brokering
from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.evidence.pods import QUESTIONS
from claude_sandbox.controller.docker_hosts.demand import HostAllocations
from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.docker_hosts.status import DrainProgress
from claude_sandbox.controller.machinery.logs import about
from claude_sandbox.controller.machinery.queue import Limits, WorkQueue
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.sandboxes.docker import DockerSandboxes
from claude_sandbox.controller.sandboxes.gateways.brokered import BrokeredSecrets
from claude_sandbox.controller.sandboxes.interfaces import Reporter
from claude_sandbox.controller.sandboxes.namespace_rate_limiter import NamespaceRateLimiter
from claude_sandbox.controller.sandboxes.reconciler import Reconciler
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes, host_of, on_docker
from claude_sandbox.controller.sandboxes.watch import WatchErrors
from claude_sandbox.controller.settings import Settings
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informer import Timings

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
        self._limiter = NamespaceRateLimiter(self.sandboxes, self.queue.add)
        metrics.watch_queue(self.queue, observer, settings.workers)
        self.watches = Watches(
            api,
            settings.namespaces,
            secrets=settings.secrets,
            gateways=settings.gateway_image is not None,
            wake=lambda namespace, name: self.queue.add(Key(namespace, name)),
            wake_soon=lambda namespace, name: self.queue.add_after(Key(namespace, name), SOON),
            wake_all=self._limiter.all_of,
            wake_users=self._wake_users,
            wake_told=self._wake_told,
            pace=Timings(resync=settings.resync * 2),
        )
        metrics.watch_informers(lambda: self.watches)
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
        )
        self._fleet: Fleet | None = None
        self._docker: DockerSandboxes | None = None
        self._noticing: set[asyncio.Task[None]] = set()
        self.reconciler = self._reconciler()

    def _brokered(self, namespace: str) -> frozenset[str] | None:
        """The Secrets that sandboxes with a gateway name and may use; None where there is no such sandbox."""
        named = self._brokered_secrets.of(namespace)
        return None if named is None else frozenset(one for one in named if self.watches.may_be_used(namespace, one))

    def _recorded(self, identity: Identity) -> Pod | None:
        """The pod that the sandbox's status names, as last seen."""
        raw = self.sandboxes.get(Key(identity.namespace, identity.name))
        if raw is None or raw["metadata"]["uid"] != identity.uid or on_docker(raw):
            return None
        told = (raw.get("status") or {}).get("workload") or {}
        return Pod(told["uid"], told.get("revision") or "") if told.get("uid") else None

    def use_hosts(self, hosts: HostsOperator, cluster: str) -> None:
        """Run sandboxes on Docker hosts too. `cluster` tells this control plane from others that use an engine."""
        settings, pacer, secrets = self.settings, Pacer(), SecretKeys(self.api, self.backend.key)

        def wake(namespace: str, name: str) -> None:
            self.queue.add(Key(namespace, name))

        def publishing(host: str) -> Publishing:
            host_info = hosts.reconciler.host_info(host)
            if host_info is None:
                return Publishing(settings.relay_image)
            allowed, ports = host_info.spec.publish_addresses, host_info.spec.publish_ports
            return Publishing(settings.relay_image, tuple(allowed), (ports.first, ports.last))

        def images(host: str) -> HostImages | None:
            host_info = hosts.reconciler.host_info(host)
            return None if host_info is None else host_info.spec.images

        def keeps(host: str) -> int | None:
            said = images(host)
            return said.remove_unused_after_hours if said is not None and said.remove_unused else None

        def permits(host: str, image: Image | None) -> bool:
            said = images(host)
            return image is None or (said is not None and said.permits(image))

        def opted_in(namespace: str, secret: str) -> Mapping[str, Any] | None:
            return self.watches.opted_in(namespace, secret, meta.SERVICE_SECRET_TYPE)[1]

        def make(host: str, engine: Engine) -> DockerBackend:
            registries = settings.allowed_registries
            return DockerBackend(
                engine,
                cluster,
                host,
                secrets,
                pacer,
                allowed_registries=registries,
                helper=settings.relay_image,
                gateways=settings.gateways,
                publishing=lambda: publishing(host),
                permits=lambda image: permits(host, image),
                login=RegistryLogins(host, hosts.secrets, lambda: images(host)).of,
                wake=wake,
                services=ServiceSecrets(self.api, opted_in),
            )

        self._metrics.watch_hosts()
        self._fleet = Fleet(hosts.hosts, make, wake, self._metrics.hosts.failed, keeps)
        self._docker = DockerSandboxes(
            self.api,
            self.sandboxes,
            self._reporter,
            self._fleet,
            hosts.reconciler,
            self._labels_of,
            self.queue.add_after,
            hosts.wake,
            settings.namespaces,
        )
        self.reconciler = self._reconciler()

    def demands_on(self, host: str) -> Allocated:
        """What the sandboxes that are placed on a Docker host, or on their way to it, may use."""
        coming = self._docker.drains.demands_on(host) if self._docker is not None else ()
        return self._demands.taken(host).plus(Allocated.by(coming))

    def drain(self, host: str, moved: int) -> DrainProgress:
        """Have the next sandboxes of a Docker host that is being drained moved; how far that is."""
        return self._docker.drains.look(host, moved) if self._docker is not None else DrainProgress(moved)

    async def close(self) -> None:
        """End what follows Docker hosts; the sandboxes go on."""
        for task in self._noticing:
            task.cancel()
        if self._fleet is not None:
            await self._fleet.close()

    def host_changed(self, host: str, answers: bool) -> None:
        """A Docker host came, went, fell silent, answers again, or was changed by an administrator."""
        for key in self.sandboxes.on_host(host):
            self.queue.add(key)
        if self._docker is not None:
            task = asyncio.create_task(self._docker.host_changed(host, answers), name=f"change of {host}")
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
            return informer.synced.is_set() and informer.readable
        return bool(found["metadata"]["uid"] != uid)

    async def reconcile(self, key: Key) -> Result:
        """One pass, its log lines marked with the sandbox."""
        raw = self.sandboxes.get(key)
        with about(key.namespace, key.name, raw["metadata"]["uid"] if raw else ""), of_tenant(key.namespace):
            if raw is None or not on_docker(raw):
                return await self.reconciler(key)
            try:
                async with asyncio.timeout(PASS_LIMIT):
                    return await self.reconciler(key)
            except TimeoutError:
                raise PassTooLongError(f"it was not done within {PASS_LIMIT:.0f} s") from None

    def _limits(self, key: Key) -> Limits:
        """How many passes there may be at a time of the same kind: what holds one up must not hold up others."""
        raw = self.sandboxes.get(key)
        if raw is None or not on_docker(raw):
            return {"Kubernetes": self.settings.workers}
        if (host := host_of(raw)) is None:
            # On whichever host it is placed, it goes on there.
            return {("homeless", key.namespace): TENANT_PASSES}
        return {("host", host): HOST_PASSES, ("host", host, key.namespace): TENANT_PASSES}

    def _wake_told(self, namespace: str, config_map: str) -> None:
        for key in self.sandboxes.told_by(namespace, config_map):
            self.queue.add(key)

    def _wake_users(self, namespace: str, secret: str) -> None:
        for key in self.sandboxes.using(namespace, secret):
            self.queue.add(key)
