"""Looking after Docker hosts, put together: what they are kept in, who is woken, who works, who writes."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import kopf

from claude_sandbox.api import meta
from claude_sandbox.api.docker_hosts.incident import HostIncidentStatus
from claude_sandbox.backends.docker.hosts.capacity import Allocated
from claude_sandbox.backends.docker.hosts.hosts import Hosts, HostState
from claude_sandbox.backends.docker.hosts.secrets import HostSecrets
from claude_sandbox.controller.docker_hosts.reconciler import HostReconciler, unasked
from claude_sandbox.controller.docker_hosts.status import DrainProgress
from claude_sandbox.controller.docker_hosts.store import DockerHosts, Raw
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.machinery.status_writer import write_status
from claude_sandbox.controller.machinery.workers import Result, run_workers
from claude_sandbox.controller.metrics.docker_hosts import HostCollector
from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS
from claude_sandbox.kubernetes_api.unstructured import Manifest

logger = logging.getLogger(__name__)

WORKERS = 32
"""Hosts looked at a time, as many as there are threads for. One that hangs holds a worker for a bounded time."""
SOON = 0.5
"""Seconds until a host is looked at that a sandbox came to or left: several that come together are one look."""


class KubernetesHostReporter:
    """Reports to the API server that the hosts came from."""

    def __init__(self, api: Api, events: EventRecorder, metrics: HostCollector, trail: Recorder) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._trail = trail

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the host's status; None where the host is gone."""
        return await write_status(self._api, DOCKER_HOSTS, raw, patch)

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event about the host, and a line in the log."""
        level = logging.WARNING if warning else logging.INFO
        logger.log(level, "DockerHost %s: %s: %s", raw["metadata"]["name"], reason, message)
        self._trail.told_of_host(raw, reason, message)
        self._events.tell(raw, reason, message, warning=warning)

    def observe(self, name: str, status: Mapping[str, Any] | None, known: HostState) -> None:
        """Bring the metrics of the host up to date."""
        if status is None:
            self._metrics.remove(name)
        else:
            self._metrics.put(name, status, known.contact)


class HostsOperator:
    """Everything that one process holds of Docker hosts. Built inside a running event loop.

    `namespace` is the operator's own, the only one in which it reads credentials of hosts.
    """

    def __init__(
        self,
        api: Api,
        events: EventRecorder,
        namespace: str,
        *,
        resync: float,
        metrics: HostCollector,
        demands: Callable[[str], Allocated] = lambda _: Allocated(),
        drain: Callable[[str, int], DrainProgress] = lambda _host, _moved: DrainProgress(),
        on_change: Callable[[str, bool], None] = lambda _host, _answers: None,
        namespace_uid: Callable[[str], str | None] = lambda _: None,
        kept: Callable[[str], Awaitable[tuple[str, ...] | None]] = unasked,
        incident: Callable[[Raw, datetime], HostIncidentStatus | None] = lambda _raw, _now: None,
        trail: Recorder | None = None,
    ) -> None:
        recorder = trail or Recorder()
        self._api = api
        self._resync = resync
        self.objects = DockerHosts()
        self.objects.follow(recorder.host)
        self.queue: WorkQueue[str] = WorkQueue()
        self.hosts = Hosts(on_slow=self.queue.add)
        self.secrets = HostSecrets(api, namespace)
        self.reconciler = HostReconciler(
            self.objects,
            self.hosts,
            self.secrets,
            KubernetesHostReporter(api, events, metrics, recorder),
            demands=demands,
            drain=drain,
            on_change=on_change,
            namespace_uid=namespace_uid,
            kept=kept,
            incident=incident,
        )

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Have kopf tell of changes."""

        @kopf.on.event(meta.GROUP, meta.VERSION, meta.HOST_PLURAL, registry=registry)
        async def host_changed(event: Any, **_: Any) -> None:
            self.take(event["type"], event["object"])

    def take(self, kind: str | None, raw: Any) -> None:
        """Remember what the event says, and have the host looked at unless it was our own write."""
        if self.objects.lose(raw) if kind == "DELETED" else self.objects.put(raw):
            self.queue.add(raw["metadata"]["name"])

    def wake(self, name: str) -> None:
        """Have the host looked at soon: a sandbox came to it or left it."""
        self.queue.add_after(name, SOON)

    async def list(self) -> None:
        """Take over the list of all hosts; what changed is looked at. Raises ApiError."""
        # Before the request: of who comes after it the list need not tell.
        before = self.objects.uids()
        listed: list[Manifest] = (await self._api.list(DOCKER_HOSTS)).items
        for name in self.objects.take_over(listed, before):
            self.queue.add(name)

    async def resync_forever(self) -> None:
        """Now and then list them anew: kopf tells of no deletion that happened while its watch was broken."""
        while True:
            await asyncio.sleep(self._resync * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await self.list()
            except ApiError as error:
                logger.warning("cannot list the Docker hosts: %s", error)

    async def work(self) -> None:
        """Look after the hosts until `stop`. Only the replica that leads does."""
        await run_workers(self.queue, WORKERS, self._reconcile)

    async def _reconcile(self, name: str) -> Result:
        return await self.reconciler(name)

    def stop(self) -> None:
        """Hand out no more work."""
        self.queue.shutdown()

    def close(self) -> None:
        """End all connections to engines."""
        self.hosts.close()
