"""Starts and stops one operator process, in order.

Watch, list, lead, work. On the way down: hand out no more work, finish what is in hand, give up the lead so that the
other replica takes over at once, stop watching.
"""

import asyncio
import contextlib
import logging
import signal
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.api.meta import LEASE
from claude_sandbox.controller.backups.operator import BackupsOperator
from claude_sandbox.controller.docker_hosts.operator import HostsOperator
from claude_sandbox.controller.machinery import garbage_collection, logs
from claude_sandbox.controller.machinery.election import LeaderElector, LeadershipLostError, own_identity
from claude_sandbox.controller.machinery.events import EventRecorder
from claude_sandbox.controller.machinery.health import HealthServer, all_set, no_stuck_worker
from claude_sandbox.controller.machinery.heartbeat import Heartbeat
from claude_sandbox.controller.machinery.workers import run_workers
from claude_sandbox.controller.metrics.metrics import Metrics
from claude_sandbox.controller.operator import Operator
from claude_sandbox.controller.policy_reports.operator import PolicyReports
from claude_sandbox.controller.sandboxes import watch as watching
from claude_sandbox.controller.sandboxes.reporting.reporter import KubernetesReporter
from claude_sandbox.controller.sandboxes.resync import list_all, resync_forever
from claude_sandbox.controller.sandboxes.staleness import OVERDUE_AFTER, mark_overdue_forever
from claude_sandbox.controller.settings import Settings
from claude_sandbox.controller.trail.recorder import Recorder
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES
from claude_sandbox.trail.settings import writer_of

logger = logging.getLogger(__name__)


# A worker that holds one key for longer than this, in seconds, hangs.
STUCK_AFTER = 120.0


class OperatorError(Exception):
    """The operator can't start, or can't go on; the message says what to do."""


async def run_operator(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises OperatorError."""
    logs.watch_loop(asyncio.get_running_loop())
    garbage_collection.tune()
    try:
        credentials = load(settings.kubeconfig)
    except CredentialsError as error:
        raise OperatorError(str(error)) from None
    settings = replace(settings, lease_namespace=settings.lease_namespace or credentials.namespace)
    metrics = Metrics(version=version("claude-sandbox-operator"), overdue_after=OVERDUE_AFTER * settings.resync)
    async with AsyncExitStack() as stack:
        election = None
        if settings.leader_election:
            # Connections of its own, so that no other request is in a renewal's way.
            lease_api = await stack.enter_async_context(Api(credentials, pool_size=2, attempts=1, timeout=5.0))
            election = LeaderElector(lease_api, settings.lease_namespace or credentials.namespace, LEASE)
            metrics.watch_leading(LEASE, lambda: election.leading)
        permit = election.permit if election else None
        observer = metrics.requests_to(urlsplit(credentials.server).netloc)
        api = await stack.enter_async_context(Api(credentials, write_permit=permit, observer=observer))
        events = EventRecorder(api, election.identity if election else own_identity(), on_drop=metrics.event_dropped)
        try:
            # Some distributions answer with a plus sign: "31+".
            minor = int(str((await api.get_path("/version"))["minor"]).rstrip("+"))
            listed = await list_all(api, settings.namespaces)
        except ApiError as error:
            raise OperatorError(_cannot_start(api, error)) from None
        trail = _trail(settings, metrics)
        operator = Operator(settings, api, KubernetesReporter(api, events, metrics, trail), metrics, minor)
        # Before what was listed is taken in: the trail has to know what there was when this replica begins to lead.
        operator.sandboxes.follow(lambda key, raw: trail.sandbox(*key, raw))
        hosts = await _hosts(operator, events, credentials, metrics, trail) if settings.docker else None
        if hosts is not None:
            stack.callback(hosts.close)
            operator.use_hosts(hosts, await _cluster(api))
        # Before the hosts and the connections, which it uses: the stack closes in the order from last to first.
        stack.push_async_callback(operator.close)
        # Before any work: a sandbox that is not known yet must never look like one that is gone.
        for key in operator.sandboxes.replace(listed):
            operator.queue.add(key)
        health = _health(operator, hosts, election, metrics)
        await _listening(stack, health, (settings.bind_host, settings.bind_port), "--bind")

        def leads() -> bool:
            return election.leading if election else True

        sessions = operator.sessions(leads)
        if sessions is not None:
            await _listening(stack, sessions, settings.sessions_bind, "--sessions-bind")
        try:
            beside = [operator.tidy_sessions(sessions, leads)] if sessions is not None else []
            beside += _beside(operator, events, leads)
            await _run(operator, hosts, credentials, election, events, metrics, trail, beside)
        except* LeadershipLostError:
            raise OperatorError(
                "the lease was taken by another replica, or could not be renewed in time; start anew"
            ) from None


def _trail(settings: Settings, metrics: Metrics) -> Recorder:
    """Raises OperatorError."""
    if settings.trail is None:
        return Recorder()
    try:
        writer = writer_of(settings.trail)
    except ValueError as error:
        raise OperatorError(f"--trail-export can't be used: {error}") from None
    metrics.watch_trail(writer.told)
    return Recorder(writer)


def _health(
    operator: Operator, hosts: HostsOperator | None, election: LeaderElector | None, metrics: Metrics
) -> HealthServer:
    return HealthServer(
        live={
            "workers": no_stuck_worker(operator.queue.in_work, STUCK_AFTER),
            **({"hosts": no_stuck_worker(hosts.queue.in_work, STUCK_AFTER)} if hosts else {}),
        },
        ready={
            "informers": all_set(lambda: {str(i.resource): i.settled for i in operator.watches}),
            "sandboxes": operator.watch_errors.check,
            "lease": lambda: election.why_not if election else "",
        },
        metrics=metrics.render,
        host=operator.settings.bind_host,
        port=operator.settings.bind_port,
    )


def _beside(
    operator: Operator, events: EventRecorder, leads: Callable[[], bool]
) -> Sequence[Coroutine[Any, Any, None]]:
    """What goes on for as long as the operator does, whether it leads or not."""
    settings = operator.settings
    beside = [operator.node_agents.run(leads)] if operator.node_agents is not None else []
    beside += operator.backups(events).following()
    beside += [operator.policy_reports.run()] if operator.policy_reports is not None else []
    beside += operator.images.following()
    if settings.renew_lease and settings.lease_namespace is not None:
        beside.append(Heartbeat(operator.api, settings.lease_namespace, LEASE, own_identity()).run())
    return beside


async def _listening(
    stack: AsyncExitStack, server: AbstractAsyncContextManager[Any], address: tuple[str, int], option: str
) -> None:
    """Start it until the stack's end. Raises OperatorError where the address can't be had."""
    try:
        await stack.enter_async_context(server)
    except OSError as error:
        where = "{}:{}".format(*address)
        raise OperatorError(f"{where} can't be bound: {error.strerror}. Choose another with {option}") from None


async def _hosts(
    operator: Operator, events: EventRecorder, credentials: Credentials, metrics: Metrics, trail: Recorder
) -> HostsOperator:
    """The part that looks after Docker hosts, which knows them all. Raises OperatorError."""
    settings = operator.settings
    hosts = HostsOperator(
        operator.api,
        events,
        settings.lease_namespace or credentials.namespace,
        resync=settings.resync,
        metrics=metrics.hosts,
        demands=operator.demands_on,
        drain=operator.drain,
        on_change=operator.host_changed,
        namespace_uid=operator.namespace_uid,
        kept=operator.kept_workspaces,
        incident=operator.host_incident,
        trail=trail,
    )
    try:
        await hosts.list()
    except ApiError as error:
        hosts.close()
        if error.is_not_found:
            remedy = "Install the CRD (kubectl apply -f crds/), or leave out --docker"
            raise OperatorError(f"the cluster doesn't know DockerHosts. {remedy}") from None
        if error.is_forbidden:
            remedy = "Give the operator's account its role: kubectl apply -k manifests/overlays/docker"
            raise OperatorError(f"{error.message}. {remedy}") from None
        raise OperatorError(_cannot_start(operator.api, error)) from None
    return hosts


async def _cluster(api: Api) -> str:
    """What tells this control plane from all others, for as long as it lives. Raises OperatorError."""
    try:
        return str((await api.get(NAMESPACES, "kube-system", metadata_only=True))["metadata"]["uid"])
    except ApiError as error:
        raise OperatorError(_cannot_start(api, error)) from None


async def _run(
    operator: Operator,
    hosts: HostsOperator | None,
    credentials: Credentials,
    election: LeaderElector | None,
    events: EventRecorder,
    metrics: Metrics,
    trail: Recorder,
    beside: Sequence[Coroutine[Any, Any, None]],
) -> None:
    """`beside`: what goes on for as long as the operator does."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        background = [group.create_task(operator.watches.run(), name="watches")]
        background += [group.create_task(one) for one in beside]
        # Once each kind was listed or refused: what is not known yet must not be taken for missing.
        await operator.watches.settled()
        ready = asyncio.Event()
        registry = watching.registry_for(credentials, operator.sandboxes, operator.queue.add, operator.watch_errors)
        if hosts is not None:
            hosts.register(registry)
            background.append(group.create_task(hosts.resync_forever(), name="resync of hosts"))
        namespaces = operator.settings.namespaces
        group.create_task(watching.watch(registry, namespaces, ready, stop), name="kopf")
        await ready.wait()
        _stop_on_signals(stop)
        resync = resync_forever(operator.api, namespaces, operator.sandboxes, operator.queue, operator.settings.resync)
        background.append(group.create_task(resync, name="resync"))
        background.append(group.create_task(events.run(lambda: bool(operator.queue.in_work())), name="events"))
        idle = garbage_collection.collect_when_idle(operator.queue.idle)
        background.append(group.create_task(idle, name="garbage"))
        await _lead(election, stop, lambda: _work(operator, hosts, events, metrics, trail, stop))
        # Ends kopf; the tasks below end by their cancellation alone.
        stop.set()
        for task in background:
            task.cancel()


async def _lead(election: LeaderElector | None, stop: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Work while leading; stop waiting for the lead when told to stop. Raises LeadershipLostError."""
    if election is None:
        await work()
        return
    leading = asyncio.create_task(election.run(work))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((leading, stopping), return_when=FIRST_COMPLETED)
    # Who leads finishes its work first, which the same `stop` has told to end; who waits for the lead has none.
    if not election.leading:
        leading.cancel()
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leading


async def _work(
    operator: Operator,
    hosts: HostsOperator | None,
    events: EventRecorder,
    metrics: Metrics,
    trail: Recorder,
    stop: asyncio.Event,
) -> None:
    """Everything that was heard of while another replica led is in the queue already."""
    # First: what the work does is to be recorded from its first write on.
    trail.begin({"version": version("claude-sandbox-operator")})
    workers = asyncio.create_task(run_workers(operator.queue, None, operator.reconcile, metrics.reconciled))
    looks = asyncio.create_task(hosts.work()) if hosts is not None else None
    others: list[BackupsOperator | PolicyReports] = [operator.looks_after_backups]
    others += [operator.policy_reports] if operator.policy_reports is not None else []
    working = [asyncio.create_task(one.work()) for one in others]
    overdue = OVERDUE_AFTER * operator.settings.resync
    marking = asyncio.create_task(mark_overdue_forever(operator.reconciler.evaluations, operator.queue, overdue))
    stopping = asyncio.create_task(stop.wait())
    try:
        endless = [workers, marking, *working, *([looks] if looks is not None else [])]
        await asyncio.wait([stopping, *endless], return_when=FIRST_COMPLETED)
        # Before they were told to stop they end with an error only. The process ends with it, and is started anew.
        for ended in endless:
            if ended.done() and not stop.is_set():
                ended.result()
        logger.info("stopping: what is in hand is finished first")
        operator.queue.shutdown()
        for one in others:
            one.stop()
        if hosts is not None:
            hosts.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(operator.settings.shutdown_grace):
                # Events last: the passes that are finished here still say something.
                await workers
                await asyncio.gather(*working)
                if looks is not None:
                    await looks
                await events.drain()
    finally:
        # Whatever took longer than the grace. A pass may be cut anywhere: the next operator begins at what is there.
        for task in (stopping, marking, workers, *working):
            task.cancel()
        if looks is not None:
            looks.cancel()
        # Before the lease is given up: the next leader writes it.
        await trail.end()


def _stop_on_signals(stop: asyncio.Event) -> None:
    # After kopf is up: it sets handlers of its own, which would stop the watching before the work.
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _cannot_start(api: Api, error: ApiError) -> str:
    if error.is_not_found:
        return "the cluster doesn't know ClaudeSandboxes. Install the CRD: kubectl apply -f crds/"
    if error.is_forbidden:
        return f"{error.message}. Give the operator's account its role: kubectl apply -k manifests/"
    return f"the API server at {api.host} can't be used: {error}"
