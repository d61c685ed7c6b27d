"""One pass for one sandbox: observe, plan, apply, measure, report. Level-triggered: why it was woken is no matter.

Theory of operation. The queue calls `Reconciler` with a key, never twice at once for one. A pass takes the sandbox as
the store has it, has done for it what `passes.py` says, and ends in one of these ways: the sandbox is gone, so that all
that is known of it is forgotten; it is overtaken by a newer version of itself, so that it is looked at anew at once and
nothing is said; what it has to say may wait (`timers.py`); or its status is written, where that says something new.

Always true: a status tells of one generation, the one that the pass looked at; a pass that ends unexpectedly says
Unknown first, so that no earlier verdict stays (but for an ApiError, with which nothing could be written: of that the
verdict lapses, `staleness.py`); and a Result asks for another look wherever nothing will tell.

Holds, in memory, when a sandbox was evaluated last and what was told of it, beside what its passes hold. Used on the
event loop; passes of different sandboxes run side by side, and meet only in the stores. A crash at any point loses
these, and the next pass finds what was done by looking: the status is the only thing that outlives a process. Whether
this replica may write is asked by the client of each write, not here.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from claude_sandbox.api.mishap import mishap
from claude_sandbox.blueprint.model import Site
from claude_sandbox.controller.machinery.merge_patch import merge_patch, without_times
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.controller.sandboxes.gateways.denials import DenialEvents
from claude_sandbox.controller.sandboxes.gateways.usage import waits
from claude_sandbox.controller.sandboxes.incidents.keys import CompromisedKeys
from claude_sandbox.controller.sandboxes.instructions import Look
from claude_sandbox.controller.sandboxes.interfaces import (
    Backend,
    Backups,
    HostedSandboxes,
    ImagePolicies,
    Reporter,
    Restoration,
)
from claude_sandbox.controller.sandboxes.lifecycle.deleting import Delete, Deletions
from claude_sandbox.controller.sandboxes.passes import Pass, Passes, nothing_yet
from claude_sandbox.controller.sandboxes.reporting import probing
from claude_sandbox.controller.sandboxes.reporting.events import tell
from claude_sandbox.controller.sandboxes.reporting.findings import (
    Findings,
    State,
    unclear,
    unmeasured,
)
from claude_sandbox.controller.sandboxes.reporting.status import compose
from claude_sandbox.controller.sandboxes.staleness import Evaluations, write
from claude_sandbox.controller.sandboxes.store import (
    Key,
    Raw,
    Sandboxes,
    is_held,
    on_docker,
    overtaken,
)
from claude_sandbox.controller.sandboxes.timers import Timers
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.unstructured import terminating

logger = logging.getLogger(__name__)


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
        delete: Delete | None = None,
        compromised_keys: CompromisedKeys | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        restores: Restoration | None = None,
        images: ImagePolicies | None = None,
        backups: Backups | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._backend = backend
        self._hosted = hosted
        self._reporter = reporter
        self._now = now
        self._timers = Timers(clock, busy)
        self._denials = DenialEvents(clock)
        self.evaluations = Evaluations(sandboxes, reporter, clock)
        self._passes = Passes(
            backend,
            site,
            hosted,
            self._timers,
            Deletions(sandboxes, reporter, delete, backups),
            CompromisedKeys(sandboxes) if compromised_keys is None else compromised_keys,
            config_map,
            now,
            restores,
            images,
            backups,
        )

    async def __call__(self, key: Key) -> Result:
        """One pass. Raises ApiError where the status could not be written."""
        raw = self._sandboxes.get(key)
        if raw is None or terminating(raw):
            # All that is kept by key goes now: the next sandbox of the name must not inherit any of it.
            self._timers.forget(key)
            self._denials.forget(key)
            self._passes.forget(key, raw["metadata"]["uid"] if raw is not None else None)
            self.evaluations.forget(key)
            self._reporter.observe(key, None, ())
            # Before its end on a host is seen to: the namespace's deny-all policy may go with the last pod.
            await self._backend.forget(*key, last=not self._living(key.namespace))
            return await self._ended_well(key, raw)
        try:
            return await self._look(key, raw)
        except ApiError:
            raise
        except Exception as error:
            # Nothing that a sandbox, its image, an engine or a tenant chose may keep the status as it was.
            found = unclear(nothing_yet(raw), mishap(error))
            await self._report(key, self._sandboxes.get(key) or raw, None, found)
            raise

    async def _look(self, key: Key, raw: Raw) -> Result:
        """One pass for a sandbox that is there."""
        if self._hosted is not None and on_docker(raw):
            # Nothing is said before its host was looked at once; the first look wakes it.
            if self._hosted.waits(raw):
                return Result()
            live = await self._hosted.fresh(raw)
            if live is None:
                return self._lose(raw)
            if terminating(live):
                # It was learned with that; the next pass takes the way of those that are to go.
                return Result(requeue_after=0)
            raw = live
        done = self._paced(key, await self._passes.of(raw))
        if done.findings.outcome.gone:
            return self._lose(raw)
        # Events and denials before the status: a pass that is overtaken has happened all the same.
        tell(self._reporter, raw, done.findings)
        self._denials.tell(self._reporter, key, raw, done.before, done.told)
        if done.findings.outcome.stale and not done.findings.outcome.healed:
            # Not all of this spec was carried out, so nothing is said of it yet.
            return Result(requeue_after=done.requeue)
        if (wait := self._timers.report_in(key, done.findings)) > 0:
            return Result(requeue_after=wait if done.requeue is None else min(wait, done.requeue))
        return await self._report(key, done.raw, done.requeue, await self._measured(done))

    def _paced(self, key: Key, done: Pass) -> Pass:
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

    async def _measured(self, done: Pass) -> Findings:
        """The findings with the controls' results, where there is something to measure."""
        findings = done.findings
        there = findings.workload.workload is not None or findings.workload.cloning is not None
        if done.desired is None or not there:
            return findings
        backend, blueprint, spec = done.desired
        try:
            # Last, of what is there now. Whatever a judge raises makes results Unknown, and costs no write of the rest.
            compliance, compliant, isolated = await backend.measure(blueprint, spec, findings.outcome)
        except Exception as error:
            logger.warning("the controls could not be evaluated", exc_info=True)
            return unmeasured(findings, mishap(error))
        return replace(
            findings,
            compliance=compliance,
            compliant=State(*compliant),
            isolated=State(*isolated),
        )

    async def _report(self, key: Key, raw: Raw, requeue: float | None, findings: Findings) -> Result:
        previous = raw.get("status") or {}
        # Kubernetes' times have seconds; with more, the same status would compare as another one.
        now = self._now().replace(microsecond=0)
        status = compose(previous, raw["metadata"]["generation"], findings, now)
        retry = findings.outcome.failure is not None or findings.unmeasured
        # Before the write: a status at rest is not written, and was looked at all the same.
        if not findings.unmeasured:
            self.evaluations.evaluated(key)
        if without_times(status) == without_times(previous) or probing.may_wait(previous, status):
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
