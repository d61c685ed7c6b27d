"""The parts of one operator process, put together."""

from claude_sandbox.backends.kubernetes.access import AccessReviews
from claude_sandbox.backends.kubernetes.backend import KubernetesBackend
from claude_sandbox.backends.kubernetes.client import Api
from claude_sandbox.backends.kubernetes.informer import Pace
from claude_sandbox.backends.kubernetes.pacing import Pacer
from claude_sandbox.backends.kubernetes.watches import Watches
from claude_sandbox.compliance.identity import QUESTIONS
from claude_sandbox.controller.logs import about
from claude_sandbox.controller.metrics import Metrics
from claude_sandbox.controller.queue import Result, WorkQueue
from claude_sandbox.controller.reconciler import Reconciler, Reporter
from claude_sandbox.controller.sandboxes import Key, Sandboxes
from claude_sandbox.controller.settings import Settings
from claude_sandbox.controller.watching import Refusals


class Operator:
    """Everything that one process holds. Built inside a running event loop."""

    def __init__(self, settings: Settings, api: Api, reporter: Reporter, metrics: Metrics, minor: int) -> None:
        self.settings = settings
        self.api = api
        self.sandboxes = Sandboxes()
        self.refusals = Refusals()
        observer = metrics.queue_observer()
        self.queue: WorkQueue[Key] = WorkQueue(observer=observer)
        metrics.watch_queue(self.queue, observer, settings.workers)
        self.watches = Watches(
            api,
            settings.namespaces,
            secrets=settings.secrets,
            wake=lambda namespace, name: self.queue.add(Key(namespace, name)),
            wake_all=self._wake_all,
            wake_users=self._wake_users,
            pace=Pace(resync=settings.resync * 2),
        )
        metrics.watch_informers(lambda: self.watches)
        self.backend = KubernetesBackend(
            api,
            self.watches,
            AccessReviews(api, QUESTIONS),
            Pacer(),
            minor=minor,
            allowed_registries=settings.allowed_registries,
        )
        self.reconciler = Reconciler(
            self.sandboxes, self.backend, reporter, settings.site, busy=lambda: len(self.queue) > 0
        )

    async def reconcile(self, key: Key) -> Result:
        """One pass, its log lines marked with the sandbox."""
        raw = self.sandboxes.get(key)
        with about(key.namespace, key.name, raw["metadata"]["uid"] if raw else ""):
            return await self.reconciler(key)

    def _wake_all(self, namespace: str) -> None:
        for key in self.sandboxes.of(namespace):
            self.queue.add(key)

    def _wake_users(self, namespace: str, secret: str) -> None:
        for key in self.sandboxes.using(namespace, secret):
            self.queue.add(key)
