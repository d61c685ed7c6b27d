"""One pass for one sandbox: observe, plan, apply, measure, report. Level-triggered: why it was woken is no matter."""

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from claude_sandbox.api.conditions import ConditionStatus, ConditionType, Reason
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.spec import BackendType, ClaudeSandboxSpec, OperatingMode
from claude_sandbox.api.status import Compliance
from claude_sandbox.api.validate import FieldError, InvalidSpec, parse_spec, refused_metadata
from claude_sandbox.backends.base import Failure, Healed, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.egress import Network, out_of_reach
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.controller.machinery.merge_patch import merge_patch, without_times
from claude_sandbox.controller.machinery.queue import Result
from claude_sandbox.controller.sandboxes import status as report
from claude_sandbox.controller.sandboxes.staleness import Lapses, write
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, is_held, key_of, on_docker, overtaken
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.unstructured import terminating

logger = logging.getLogger(__name__)

# How long a sandbox may be on its way to Ready before that is worth a write of its own: most are there sooner.
# An engine does not check before a second has passed whether a container is healthy.
PROGRESS_AFTER = {BackendType.KUBERNETES: 1.0, BackendType.DOCKER: 3.0}
# While others are in line: a write that only says "not yet" would make all of them later, and so more of its kind.
PROGRESS_AFTER_WHEN_BUSY = 10.0
# Specs that are kept as they were understood: a new sandbox is looked at several times within seconds.
REMEMBERED_SPECS = 256
# How long the kubelet takes to bring a changed key, once told: measured at 0.9 s, promised within 2.
KEY_SETTLES_AFTER = 2.0
# Seconds until a Secret that can't be used is looked at again, at first and at most: only those that opted in are
# followed, so that nothing tells of another that is made or taken away.
SECRET_AGAIN = 10.0
SECRET_AGAIN_AT_MOST = 60.0


Judgement = tuple[ConditionStatus, Reason, str]
"""What a condition says: status, reason, message."""


class Backend(Protocol):
    """What the loop needs of a backend. No method raises for what the outside world does."""

    async def key(self, identity: Identity, secret: str, key: str) -> KeyState:
        """What is known of the Secret that the sandbox names."""

    async def ensure(self, blueprint: Blueprint, key: KeyState, spec: ClaudeSandboxSpec, past: Past) -> Outcome:
        """Observe, plan and apply."""

    async def state(self, identity: Identity) -> WorkloadState:
        """Whether the workload can be worked with now."""

    async def measure(
        self, blueprint: Blueprint, spec: ClaudeSandboxSpec, outcome: Outcome
    ) -> tuple[Compliance, Judgement, Judgement]:
        """The controls' results, the Compliant and the IsolationVerified condition."""

    async def forget(self, namespace: str, name: str, *, last: bool) -> None:
        """The sandbox is gone. `last`: no other is left in its namespace."""


@dataclass(frozen=True)
class Moving:
    """A sandbox is on its way from one host to another, and that is not done yet. To be looked at again in seconds."""

    message: str
    again: float


class Hosted(Protocol):
    """What sandboxes need around the loop that run on hosts of their own. Raises ApiError."""

    async def fresh(self, raw: Raw) -> Raw | None:
        """The sandbox, read anew where it may be on another host than is known here; None where it is gone."""

    def waits(self, raw: Raw) -> bool:
        """Whether nothing can be said of the sandbox yet; it is looked at again when that has changed."""

    def backend(self, raw: Raw) -> Backend | None:
        """Of the host that was chosen; None before."""

    async def namespace_of(self, raw: Raw) -> str | Failure | None:
        """The UID of the sandbox's namespace, why it can't be told, or None where the sandbox is gone."""

    async def settle(self, raw: Raw, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> Raw | Failure | Moving | None:
        """Choose the host: the sandbox as it is then.

        Or why there is no host, what the way to another one waits for, or None where the sandbox is gone.
        """

    async def finish(self, raw: Raw) -> Result:
        """Remove what a sandbox that is being deleted has, then let it go."""

    async def forget(self, namespace: str, name: str) -> None:
        """The sandbox is gone."""


class Reporter(Protocol):
    """Where a status and what is worth telling a person go."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status; the object as it is now, or None where it is gone."""

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event."""

    def observe(self, key: Key, status: Mapping[str, Any] | None, healed: tuple[Healed, ...]) -> None:
        """The status for the metrics; None where the sandbox is gone."""


@dataclass(frozen=True)
class _Pass:
    """What one pass found before anything was measured. `desired` is None where nothing could be asked for.

    `raw` is the sandbox as it is since.
    """

    raw: Raw
    findings: report.Findings
    requeue: float | None = None
    desired: tuple[Backend, Blueprint, ClaudeSandboxSpec] | None = None


class Reconciler:
    """Callable for the work queue. Without `hosted`, sandboxes on Docker are refused."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        backend: Backend,
        reporter: Reporter,
        site: Site,
        hosted: Hosted | None = None,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sandboxes = sandboxes
        self._backend = backend
        self._hosted = hosted
        self._reporter = reporter
        self._site = site
        self._busy = busy
        self._clock = clock
        self.lapses = Lapses(sandboxes, reporter, clock)
        # Since when a sandbox has been on its way without that having been reported.
        self._progressing: dict[Key, float] = {}
        # The workload that was told to end last: that it is missing is no loss.
        self._ended: dict[Key, str] = {}
        # Since when a new generation of the key has been on its way to a running workload.
        self._key_sent: dict[Key, float] = {}
        # Since when the Secret can't be used, and nothing tells when that changes.
        self._keyless: dict[Key, float] = {}
        # By UID and generation, the one that was asked for last at the end.
        self._understood: OrderedDict[tuple[str, int], tuple[ClaudeSandboxSpec, Blueprint]] = OrderedDict()

    async def __call__(self, key: Key) -> Result:
        """One pass. Raises ApiError where the status could not be written."""
        raw = self._sandboxes.get(key)
        if raw is None or terminating(raw):
            self._progressing.pop(key, None)
            self._key_sent.pop(key, None)
            self._ended.pop(key, None)
            self._keyless.pop(key, None)
            self.lapses.forget(key)
            self._reporter.observe(key, None, ())
            await self._backend.forget(*key, last=not self._living(key.namespace))
            return await self._ended_well(key, raw)
        try:
            return await self._look(key, raw)
        except ApiError:
            raise
        except Exception as error:
            # Nothing that a sandbox, its image, an engine or a tenant chose may keep the status as it was.
            found = report.unclear(report.Findings(backend=_backend_type(raw)), mishap(error))
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
                return Result(requeue_after=0)
            raw = live
        done = await self._pass(raw)
        if done.findings.outcome.gone:
            return self._lose(raw)
        self._tell(raw, done.findings)
        if done.findings.outcome.stale and not done.findings.outcome.healed:
            # Not all of this spec was carried out, so nothing is said of it yet.
            return Result(requeue_after=done.requeue)
        if (wait := self._held(key, done.findings)) > 0:
            return Result(requeue_after=wait if done.requeue is None else min(wait, done.requeue))
        return await self._report(key, done.raw, done.requeue, await self._measured(done))

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
        found = report.Findings(backend=_backend_type(raw))
        if self._hosted is not None and on_docker(raw):
            namespace = await self._hosted.namespace_of(raw)
            if namespace is None:
                return _Pass(raw, replace(found, outcome=Outcome(gone=True)))
            if isinstance(namespace, Failure):
                unknown = replace(found, outcome=Outcome(failure=namespace))
                return _Pass(raw, replace(unknown, workload=await _state(backend, identity)))
            identity = replace(identity, namespace_uid=namespace)
        try:
            spec, blueprint = self._accepted(raw, identity)
        except InvalidSpec as error:
            return _Pass(raw, replace(found, invalid=str(error), workload=await _state(backend, identity)))
        reference = spec.credentials.api_key_secret_ref
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
                return _Pass(settled, replace(found, outcome=Outcome(stale=True)), requeue=0)
            raw, backend = settled, self._hosted.backend(settled)
        assert backend is not None  # noqa: S101 - what is on Kubernetes has one, and what was settled
        key = await backend.key(identity, reference.name, reference.key)
        outcome = await backend.ensure(blueprint, key, spec, self._past(raw))
        if outcome.ended is not None:
            self._ended[key_of(raw)] = outcome.ended
        workload = await backend.state(identity)
        settling = self._key_settles_in(key_of(raw), outcome)
        secret = self._secret_again(key_of(raw), key)
        findings = replace(
            found,
            suspended=spec.operating_mode is OperatingMode.SUSPENDED,
            secret=reference.name,
            key=key,
            key_settling=settling is not None,
            outcome=outcome,
            workload=workload,
        )
        waits = [wait for wait in (outcome.paced, settling, secret, key.again, workload.again) if wait is not None]
        return _Pass(raw, findings, min(waits, default=None), (backend, blueprint, spec))

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

    def _held(self, key: Key, findings: report.Findings) -> float:
        """Seconds for which it is not worth a write yet that the sandbox is on its way to Ready."""
        if findings.outcome.healed or not report.on_its_way(findings):
            self._progressing.pop(key, None)
            return 0.0
        now = self._clock()
        patience = PROGRESS_AFTER_WHEN_BUSY if self._busy() else PROGRESS_AFTER[findings.backend]
        wait = self._progressing.setdefault(key, now) + patience - now
        if wait <= 0:
            del self._progressing[key]
        return wait

    def _accepted(self, raw: Raw, identity: Identity) -> tuple[ClaudeSandboxSpec, Blueprint]:
        """The spec and what it asks for, if schema, what that can't see, and administrator let it pass.

        Raises InvalidSpec.
        """
        if refused := refused_metadata(raw):
            raise InvalidSpec(refused)
        if why := raw.get(OUTSIZE):
            raise InvalidSpec((FieldError("metadata", f"{why}: {_LESS}"),))
        version = identity.uid, raw["metadata"]["generation"]
        found = self._understood.pop(version, None) or self._understand(raw, identity)
        self._understood[version] = found
        if len(self._understood) > REMEMBERED_SPECS:
            self._understood.popitem(last=False)
        return found

    def _understand(self, raw: Raw, identity: Identity) -> tuple[ClaudeSandboxSpec, Blueprint]:
        spec = parse_spec(raw)
        if spec.on_docker and self._hosted is None:
            raise InvalidSpec((_NO_DOCKER,))
        cidrs = spec.network.egress.allowed_cidrs
        if closed := tuple(out_of_reach(cidrs, self._site.opened)):
            raise InvalidSpec(tuple(_closed(index, private) for index, private in closed))
        return spec, build(identity, spec, self._site)

    def _past(self, raw: Raw) -> Past:
        status = raw.get("status") or {}
        past = replace(report.past(status, raw["metadata"]["generation"]), age=_age(raw))
        if past.ran and status["workload"]["uid"] == self._ended.get(key_of(raw)):
            return replace(past, ran=False)
        return past

    def _key_settles_in(self, key: Key, outcome: Outcome) -> float | None:
        """Seconds until a key that was sent can be taken to be there; None where none is on its way."""
        now = self._clock()
        if outcome.key_sent:
            self._key_sent[key] = now
        left = self._key_sent.get(key, float("-inf")) + KEY_SETTLES_AFTER - now
        if left > 0:
            return left
        self._key_sent.pop(key, None)
        return None

    def _secret_again(self, key: Key, state: KeyState) -> float | None:
        """Seconds until the Secret is worth another look, the longer the longer it lasts; None where that is told."""
        if state.followed:
            self._keyless.pop(key, None)
            return None
        now = self._clock()
        lasts = now - self._keyless.setdefault(key, now)
        return min(max(SECRET_AGAIN, lasts / 2), SECRET_AGAIN_AT_MOST) * random.uniform(0.9, 1.1)  # noqa: S311

    async def _report(self, key: Key, raw: Raw, requeue: float | None, findings: report.Findings) -> Result:
        previous = raw.get("status") or {}
        now = datetime.now(UTC).replace(microsecond=0)
        status = report.compose(previous, raw["metadata"]["generation"], findings, now)
        retry = findings.outcome.failure is not None or findings.unmeasured
        if not findings.unmeasured:
            self.lapses.evaluated(key)
        if without_times(status) == without_times(previous):
            self._reporter.observe(key, previous, ())
            return Result(requeue_after=requeue, retry=retry)
        written = await write(self._sandboxes, self._reporter, raw, merge_patch(previous, status))
        if written is None:
            return self._lose(raw)
        self._reporter.observe(key, status, findings.outcome.healed)
        if overtaken(raw, written):
            return Result(requeue_after=0)
        return Result(requeue_after=requeue, retry=retry)

    def _lose(self, raw: Raw) -> Result:
        """The sandbox is gone, whatever its watch has told. Known still, its objects would be made again and again."""
        self._sandboxes.lose(raw)
        return Result(requeue_after=0)

    def _tell(self, raw: Raw, findings: report.Findings) -> None:
        outcome = findings.outcome
        for what in outcome.healed:
            self._reporter.tell(raw, "Healed", f"{what}.", warning=False)
        if outcome.created:
            self._reporter.tell(raw, "Created", f"Created {', '.join(outcome.created)}.", warning=False)
        if outcome.updated:
            self._reporter.tell(raw, "Updated", f"Updated {', '.join(outcome.updated)}.", warning=False)
        if outcome.removed:
            self._reporter.tell(raw, "Removed", f"Removed {', '.join(outcome.removed)}.", warning=False)
        before = _was(raw, ConditionType.READY)
        for short in findings.workload.pressure:
            if before is None or short not in before[1]:
                self._reporter.tell(raw, "Strained", f"Of what runs: {short}.", warning=True)
        states = report.conditions_of(findings)
        stalled = states[ConditionType.STALLED]
        if stalled.status is ConditionStatus.TRUE and _was(raw, ConditionType.STALLED) != (
            stalled.reason,
            stalled.message,
        ):
            self._reporter.tell(raw, "Refused", stalled.message, warning=True)
        if (failed := outcome.failure) and not failed.permanent and failed.reason is Reason.RETRYING:
            self._reporter.tell(raw, "Failed", failed.message, warning=True)


async def _state(backend: Backend | None, identity: Identity) -> WorkloadState:
    """What runs for a sandbox that nothing can be done for; no host was chosen yet where there is no backend."""
    return report.NOTHING if backend is None else await backend.state(identity)


_LESS = "make it smaller, or delete sandboxes of the namespace that are not needed"
_NO_DOCKER = FieldError(
    "spec.backend.type",
    "is Docker, and this operator runs sandboxes on Kubernetes only: write Kubernetes, or have an administrator start"
    " it with --docker",
)


def _backend_type(raw: Raw) -> BackendType:
    return BackendType.DOCKER if on_docker(raw) else BackendType.KUBERNETES


def _closed(index: int, private: Network) -> FieldError:
    return FieldError(
        f"spec.network.egress.allowedCIDRs[{index}]",
        f"lies in the private network {private}, which the operator's administrator has not opened "
        "(--open-private-network)",
    )


def _age(raw: Raw) -> float:
    """For how many seconds there has been the sandbox."""
    return (datetime.now(UTC) - datetime.fromisoformat(raw["metadata"]["creationTimestamp"])).total_seconds()


def _was(raw: Raw, kind: ConditionType) -> tuple[str, str] | None:
    for condition in (raw.get("status") or {}).get("conditions") or ():
        if condition["type"] == kind:
            return condition["reason"], condition["message"]
    return None
