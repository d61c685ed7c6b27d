"""One pass for one sandbox: observe, plan, apply, measure, report. Level-triggered: why it was woken is no matter.

Theory of operation. The queue calls `Reconciler` with a key, never twice at once for one. A pass takes the sandbox as
the store has it, and ends in one of these ways: the sandbox is gone, so that all that is known of it is forgotten; it
is overtaken by a newer version of itself, so that it is looked at anew at once and nothing is said; what it has to say
may wait (`timers.py`); or its status is written, where that says something new. What is asked of the outside world,
and may fail, is the backend's, which raises for none of that: it comes back as an `Outcome` or a state.

Always true: a status tells of one generation, the one that the pass looked at; a pass that ends unexpectedly says
Unknown first, so that no earlier verdict stays (but for an ApiError, with which nothing could be written: of that the
verdict lapses, `staleness.py`); and a Result asks for another look wherever nothing will tell.

Holds, in memory, what one pass leaves for the next of the same sandbox: when its waits began, which workload it ended,
and when it was evaluated last. Used on the event loop; passes of different sandboxes run side by side, and meet only in
the stores. A crash at any point loses these, and the next pass finds what was done by looking: the status is the only
thing that outlives a process. Whether this replica may write is asked by the client of each write, not here.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.fields.budget import Budget
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import BackendType, ClaudeSandboxSpec, OperatingMode
from claude_sandbox.api.usage_status import Usage
from claude_sandbox.api.validate import InvalidSpec
from claude_sandbox.backends.base import Failure, Outcome, Past, WorkloadState
from claude_sandbox.blueprint.instructions import instructed
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.controller.machinery.merge_patch import merge_patch, without_times
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes import status as report
from claude_sandbox.controller.sandboxes.accepted_specs import AcceptedSpecs
from claude_sandbox.controller.sandboxes.events import tell
from claude_sandbox.controller.sandboxes.gateways.denials import DenialEvents
from claude_sandbox.controller.sandboxes.gateways.usage import over_in, previous_usage, usage_of, waits
from claude_sandbox.controller.sandboxes.instructions import Look, ToldInstructions
from claude_sandbox.controller.sandboxes.interfaces import Backend, HostedSandboxes, Moving, Reporter
from claude_sandbox.controller.sandboxes.staleness import Evaluations, write
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, is_held, key_of, on_docker, overtaken
from claude_sandbox.controller.sandboxes.timers import Timers
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.unstructured import terminating

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pass:
    """What one pass found before anything was measured. `desired` is None where nothing could be asked for.

    `raw` is the sandbox as it is since. `told`: what its gateway has told, be it time to write that or not; `before`:
    what the status says of that.
    """

    raw: Raw
    findings: report.Findings
    requeue: float | None = None
    desired: tuple[Backend, Blueprint, ClaudeSandboxSpec] | None = None
    told: Usage | None = None
    before: Usage | None = None


class Reconciler:
    """Callable for the work queue. Without `hosted`, sandboxes on Docker are refused."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        backend: Backend,
        reporter: Reporter,
        site: Site,
        hosted: HostedSandboxes | None = None,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        config_map: Look = lambda _namespace, _name: (False, None),
    ) -> None:
        self._sandboxes = sandboxes
        self._backend = backend
        self._hosted = hosted
        self._reporter = reporter
        self._specs = AcceptedSpecs(site, docker=hosted is not None)
        self._timers = Timers(clock, busy)
        self._denials = DenialEvents(clock)
        self._told = ToldInstructions(config_map)
        self.evaluations = Evaluations(sandboxes, reporter, clock)
        # The workload that was told to end last: that it is missing is no loss.
        self._ended: dict[Key, str] = {}

    async def __call__(self, key: Key) -> Result:
        """One pass. Raises ApiError where the status could not be written."""
        raw = self._sandboxes.get(key)
        if raw is None or terminating(raw):
            # All that is kept by key goes now: the next sandbox of the name must not inherit any of it.
            self._timers.forget(key)
            self._denials.forget(key)
            self._told.forget(key)
            self._ended.pop(key, None)
            self.evaluations.forget(key)
            self._reporter.observe(key, None, ())
            await self._backend.forget(*key, last=not self._living(key.namespace))
            return await self._ended_well(key, raw)
        try:
            return await self._look(key, raw)
        except ApiError:
            raise
        except Exception as error:
            # Nothing that a sandbox, its image, an engine or a tenant chose may keep the status as it was.
            found = report.unclear(_nothing_yet(raw), mishap(error))
            await self._report(key, self._sandboxes.get(key) or raw, None, found)
            raise

    async def _look(self, key: Key, raw: Raw) -> Result:
        """One pass for a sandbox that is there."""
        if self._hosted is not None and on_docker(raw):
            if self._hosted.waits(raw):
                return Result()
            live = await self._hosted.fresh(raw)
            if live is None:
                return self._lose(raw)
            if terminating(live):
                # It was learned with that; the next pass takes the way of those that are to go.
                return Result(requeue_after=0)
            raw = live
        done = self._paced(key, await self._pass(raw))
        if done.findings.outcome.gone:
            return self._lose(raw)
        tell(self._reporter, raw, done.findings)
        self._denials.tell(self._reporter, key, raw, done.before, done.told)
        if done.findings.outcome.stale and not done.findings.outcome.healed:
            # Not all of this spec was carried out, so nothing is said of it yet.
            return Result(requeue_after=done.requeue)
        if (wait := self._timers.report_in(key, done.findings)) > 0:
            return Result(requeue_after=wait if done.requeue is None else min(wait, done.requeue))
        return await self._report(key, done.raw, done.requeue, await self._measured(done))

    def _paced(self, key: Key, done: "_Pass") -> "_Pass":
        """The same; what was used since the last write a moment ago is said a minute after that, and looked at again
        then."""
        before, found = done.before, done.told
        if found is None or found == before:
            return done
        again = self._timers.usage_in(key, may_wait=lambda age: waits(before, found, age))
        if again is None:
            return done
        requeue = again if done.requeue is None else min(again, done.requeue)
        return replace(done, findings=replace(done.findings, usage=before), requeue=requeue)

    def _living(self, namespace: str) -> bool:
        """Whether the namespace has a sandbox with a pod in it."""
        found = (self._sandboxes.get(key) for key in self._sandboxes.of(namespace))
        return any(raw is not None and not terminating(raw) and not on_docker(raw) for raw in found)

    async def _ended_well(self, key: Key, raw: Raw | None) -> Result:
        """`_finish`, and a word about what keeps it from its end: nobody reads the status of what is being deleted."""
        try:
            return await self._finish(key, raw)
        except ApiError:
            raise
        except Exception as error:
            if raw is not None:
                message = f"What the sandbox had could not be removed yet: {mishap(error)}."
                self._reporter.tell(raw, "Failed", message, warning=True)
            raise

    async def _finish(self, key: Key, raw: Raw | None) -> Result:
        """What is left to do for a sandbox that is gone, or is to go."""
        if self._hosted is None:
            if raw is not None and is_held(raw):
                message = "It may have a container on a Docker host, and this operator runs without --docker."
                self._reporter.tell(raw, "Failed", message, warning=True)
            return Result()
        if raw is not None and is_held(raw):
            return Result() if self._hosted.waits(raw) else await self._hosted.finish(raw)
        await self._hosted.forget(*key)
        return Result()

    async def _pass(self, raw: Raw) -> "_Pass":
        """Observe, plan and apply."""
        metadata = raw["metadata"]
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"])
        backend = self._backend_of(raw)
        found = _nothing_yet(raw)
        if self._hosted is not None and on_docker(raw):
            namespace = await self._hosted.namespace_of(raw)
            if namespace is None:
                return _Pass(raw, replace(found, outcome=Outcome(gone=True)))
            if isinstance(namespace, Failure):
                unknown = replace(found, outcome=Outcome(failure=namespace))
                return _Pass(raw, replace(unknown, workload=await _state(backend, identity)))
            identity = replace(identity, namespace_uid=namespace)
        try:
            spec, blueprint = self._specs.of(raw, identity)
        except InvalidSpec as error:
            return _Pass(raw, replace(found, invalid=str(error), workload=await _state(backend, identity)))
        reference = spec.credentials.secret_ref
        if self._hosted is not None and spec.on_docker:
            settled = await self._hosted.settle(raw, blueprint, spec)
            if settled is None:
                return _Pass(raw, replace(found, outcome=Outcome(gone=True)))
            if isinstance(settled, Moving):
                moving = replace(found, secret=reference.name, moving=settled.message)
                return _Pass(raw, replace(moving, workload=await _state(backend, identity)), settled.again)
            if isinstance(settled, Failure):
                refused = replace(found, secret=reference.name, outcome=Outcome(failure=settled))
                return _Pass(raw, replace(refused, workload=await _state(backend, identity)))
            if overtaken(raw, settled):
                # Another spec than the one that was just understood: nothing of this one is carried out.
                return _Pass(settled, replace(found, outcome=Outcome(stale=True)), requeue=0)
            raw, backend = settled, self._hosted.backend(settled)
        assert backend is not None  # noqa: S101 - what is on Kubernetes has one, and what was settled
        key = await backend.key(identity, reference.name, reference.key)
        told = self._told.of(key_of(raw), identity.uid, spec.claude_code)
        blueprint = instructed(blueprint, told.instructions, held=told.failure is not None)
        past = self._past(raw)
        # What ConfigMaps say now is another wish, as another spec is.
        outcome = await backend.ensure(blueprint, key, spec, replace(past, settled=past.settled and not told.changed))
        if told.failure is not None and blueprint.running and outcome.failure is None:
            outcome = replace(outcome, failure=told.failure)
        if outcome.ended is not None:
            self._ended[key_of(raw)] = outcome.ended
        workload = await backend.state(identity)
        gateway = blueprint.gateway
        budget = gateway.budget if gateway is not None else None
        settling = self._timers.key_settles_in(key_of(raw), outcome)
        secret = self._timers.secret_again(key_of(raw), key)
        findings = replace(
            found,
            suspended=spec.operating_mode is OperatingMode.SUSPENDED,
            secret=reference.name,
            key=key,
            key_settling=settling is not None,
            outcome=outcome,
            workload=workload,
            brokered=gateway is not None,
            clones=blueprint.git.clones if blueprint.git is not None else (),
            usage=_usage(workload, found.usage, budget) if gateway is not None else None,
            budget=budget,
        )
        over = over_in(findings.usage, datetime.now(UTC))
        waiting = (outcome.paced, settling, secret, key.again, workload.again, over)
        again = [wait for wait in waiting if wait is not None]
        return _Pass(raw, findings, min(again, default=None), (backend, blueprint, spec), findings.usage, found.usage)

    def _backend_of(self, raw: Raw) -> Backend | None:
        """What runs the sandbox; None where no host was chosen yet."""
        return self._hosted.backend(raw) if self._hosted is not None and on_docker(raw) else self._backend

    async def _measured(self, done: "_Pass") -> report.Findings:
        """The findings with the controls' results, where there is something to measure."""
        findings = done.findings
        if done.desired is None or findings.workload.workload is None:
            return findings
        backend, blueprint, spec = done.desired
        try:
            compliance, compliant, isolated = await backend.measure(blueprint, spec, findings.outcome)
        except Exception as error:
            logger.warning("the controls could not be evaluated", exc_info=True)
            return report.unmeasured(findings, mishap(error))
        return replace(
            findings,
            compliance=compliance,
            compliant=report.State(*compliant),
            isolated=report.State(*isolated),
        )

    def _past(self, raw: Raw) -> Past:
        status = raw.get("status") or {}
        past = replace(report.past(status, raw["metadata"]["generation"]), age=_age(raw))
        if past.ran and status["workload"]["uid"] == self._ended.get(key_of(raw)):
            return replace(past, ran=False)
        return past

    async def _report(self, key: Key, raw: Raw, requeue: float | None, findings: report.Findings) -> Result:
        previous = raw.get("status") or {}
        now = datetime.now(UTC).replace(microsecond=0)
        status = report.compose(previous, raw["metadata"]["generation"], findings, now)
        retry = findings.outcome.failure is not None or findings.unmeasured
        # Before the write: a status at rest is not written, and was looked at all the same.
        if not findings.unmeasured:
            self.evaluations.evaluated(key)
        if without_times(status) == without_times(previous):
            self._reporter.observe(key, previous, ())
            return Result(requeue_after=requeue, retry=retry)
        written = await write(self._sandboxes, self._reporter, raw, merge_patch(previous, status))
        if written is None:
            return self._lose(raw)
        self._reporter.observe(key, status, findings.outcome.healed)
        if overtaken(raw, written):
            # The answer was learned as the newest version, so its watch will tell nothing new of it.
            return Result(requeue_after=0)
        return Result(requeue_after=requeue, retry=retry)

    def _lose(self, raw: Raw) -> Result:
        """The sandbox is gone, whatever its watch has told. Known still, its objects would be made again and again."""
        self._sandboxes.lose(raw)
        return Result(requeue_after=0)


async def _state(backend: Backend | None, identity: Identity) -> WorkloadState:
    """What runs for a sandbox that nothing can be done for; no host was chosen yet where there is no backend."""
    return report.NOTHING if backend is None else await backend.state(identity)


def _nothing_yet(raw: Raw) -> report.Findings:
    """What a pass begins with: what was told of the sandbox before stays said."""
    return report.Findings(backend=_backend_type(raw), usage=previous_usage(raw.get("status") or {}))


def _usage(workload: WorkloadState, before: Usage | None, budget: Budget | None) -> Usage | None:
    """What the sandbox's gateway tells; of one that can't be asked, what was told before."""
    if workload.status is ConditionStatus.UNKNOWN:
        return before
    return usage_of(workload.report, before, budget, datetime.now(UTC))


def _backend_type(raw: Raw) -> BackendType:
    return BackendType.DOCKER if on_docker(raw) else BackendType.KUBERNETES


def _age(raw: Raw) -> float:
    """For how many seconds there has been the sandbox."""
    return (datetime.now(UTC) - datetime.fromisoformat(raw["metadata"]["creationTimestamp"])).total_seconds()
