"""What one pass finds of a sandbox and does for it: observe, plan, apply. What is said of that is the reconciler's.

Theory of operation. A pass goes down one way until something ends it: an incident, beside which nothing else is done;
a spec that can't be understood; a deletion that is due; a host that is not there yet. Then `Pass` has what was found
until then, and what the status said of the rest stays said. An image that may not run, or a workspace that is not
filled yet, ends nothing: all but the workload is made. What is asked of the outside world, and may fail, is the
backend's, which raises for none of that: it comes back as an `Outcome` or a state.

Holds, in memory, what one pass leaves for the next of the same sandbox: when its waits began, which workload it ended,
what was told of its instructions. Used on the event loop; passes of different sandboxes run side by side. A crash loses
these, and the next pass finds what was done by looking.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from claude_sandbox.api.fields.work.backup import WhenHostCompromised
from claude_sandbox.api.spec import BackendType, ClaudeSandboxSpec
from claude_sandbox.api.status_fields.usage import Usage
from claude_sandbox.api.validate import InvalidSpec
from claude_sandbox.backends.base import Failure, KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.gateway_reports import believed
from claude_sandbox.blueprint.instructions import instructed
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.compliance.evidence.exemptions import ends_in
from claude_sandbox.controller.images.measured import measured_of
from claude_sandbox.controller.images.updates import NO_WORK, Work
from claude_sandbox.controller.sandboxes import canaries
from claude_sandbox.controller.sandboxes.accepted_specs import AcceptedSpecs
from claude_sandbox.controller.sandboxes.gateways.usage import over_in, previous_usage, usage_after
from claude_sandbox.controller.sandboxes.incidents.declared import quarantined, was_quarantined
from claude_sandbox.controller.sandboxes.incidents.keys import CompromisedKeys
from claude_sandbox.controller.sandboxes.incidents.quarantine import Quarantines
from claude_sandbox.controller.sandboxes.instructions import Look, ToldInstructions
from claude_sandbox.controller.sandboxes.interfaces import (
    Backend,
    Backups,
    HostedSandboxes,
    ImagePolicies,
    Moving,
    Restoration,
    Restoring,
    Stays,
)
from claude_sandbox.controller.sandboxes.lifecycle.cpu import CpuLooks
from claude_sandbox.controller.sandboxes.lifecycle.deleting import Deletions, rests
from claude_sandbox.controller.sandboxes.lifecycle.life import is_over, turns_in
from claude_sandbox.controller.sandboxes.lifecycle.look import after, before, last_active, previous
from claude_sandbox.controller.sandboxes.reporting.dates import Verified, dates_of
from claude_sandbox.controller.sandboxes.reporting.findings import LIFTED, NOTHING, Findings, refused_image
from claude_sandbox.controller.sandboxes.reporting.status import past as past_of
from claude_sandbox.controller.sandboxes.store import (
    Key,
    Raw,
    key_of,
    on_docker,
    overtaken,
    workspace_of,
)
from claude_sandbox.controller.sandboxes.timers import Timers

Desired = tuple[Backend, Blueprint, ClaudeSandboxSpec]


@dataclass(frozen=True)
class Pass:
    """What one pass found before anything was measured. `desired` is None where nothing could be asked for.

    `raw` is the sandbox as it is since. `told`: what its gateway has told, be it time to write that or not; `before`:
    what the status says of that.
    """

    raw: Raw
    findings: Findings
    requeue: float | None = None
    desired: Desired | None = None
    told: Usage | None = None
    before: Usage | None = None


class Passes:
    """Of one operator. Without `hosted`, sandboxes on Docker are refused."""

    def __init__(
        self,
        backend: Backend,
        site: Site,
        hosted: HostedSandboxes | None,
        timers: Timers,
        deletions: Deletions,
        compromised: CompromisedKeys,
        config_map: Look,
        now: Callable[[], datetime],
        restores: Restoration | None,
        images: ImagePolicies | None,
        backups: Backups | None,
    ) -> None:
        self._backend = backend
        self._hosted = hosted
        self._timers = timers
        self._deletions = deletions
        self._compromised = compromised
        self._now = now
        self._restores = restores
        self._images = images
        self._backups = backups
        self._specs = AcceptedSpecs(site, docker=hosted is not None)
        self._told = ToldInstructions(config_map)
        self._quarantines = Quarantines(now)
        self._cpu = CpuLooks()
        # The workload that was told to end last: that it is missing is no loss.
        self._ended: dict[Key, str] = {}

    def forget(self, key: Key, uid: str | None) -> None:
        """The sandbox is gone, or is to go: the next one of the name must not inherit any of it."""
        self._told.forget(key)
        self._cpu.forget(key)
        self._ended.pop(key, None)
        if uid is not None:
            self._quarantines.forget(uid)

    async def of(self, raw: Raw) -> Pass:
        """Observe, plan and apply; of one with an incident, what is to be done about that and nothing else."""
        metadata = raw["metadata"]
        identity = Identity(metadata["namespace"], metadata["name"], metadata["uid"], workspace=workspace_of(raw))
        backend, found = self._backend_of(raw), nothing_yet(raw)
        # First: nothing that is wrong with the spec, the host or the namespace may keep an incident from being
        # contained.
        if quarantined(raw):
            quarantine = await self._quarantines.of(raw, identity, backend)
            return Pass(raw, replace(found, quarantine=quarantine), quarantine.again)
        # Before anything is asked of it: what a compromised engine answers is whatever its intruder likes.
        if self._hosted is not None and on_docker(raw) and (host := self._hosted.lost_with(raw)) is not None:
            return await self._lost(raw, identity, replace(found, lost_with=host))
        if was_quarantined(raw):
            # What was frozen goes first. While it can't be ended, nothing is made beside it.
            failure = await self._quarantines.lifted(raw, identity, backend)
            if failure is None:
                # Written down before anything is made: what is made from now on was never frozen.
                return Pass(raw, replace(found, lifted=True, workload=LIFTED), 0.0)
            unlifted = replace(found, outcome=Outcome(failure=failure))
            return Pass(raw, replace(unlifted, workload=await _state(backend, identity)))
        return await self._wished(raw, identity, backend, found)

    async def _lost(self, raw: Raw, identity: Identity, found: Findings) -> Pass:
        """Of one whose host is compromised: it begins anew elsewhere where it asks for that, and where it can."""
        assert self._hosted is not None  # noqa: S101 - who has a host has that
        # Read before its host is left: what of it is restored elsewhere is told apart by this UID.
        namespace = await self._hosted.namespace_of(raw) if _leaves(raw) else ""
        if namespace is None:
            return Pass(raw, replace(found, outcome=Outcome(gone=True)))
        if not namespace or isinstance(namespace, Failure):
            return Pass(raw, replace(found, stays=namespace.message if isinstance(namespace, Failure) else ""))
        identity = replace(identity, namespace_uid=namespace)
        try:
            spec, _ = self._specs.of(raw, identity)
        except InvalidSpec as error:
            return Pass(raw, replace(found, stays=f"Its spec is refused: {error}"))
        left = await self._hosted.leave(raw, identity, spec)
        if left is None:
            return Pass(raw, replace(found, outcome=Outcome(gone=True)))
        if isinstance(left, Stays):
            return Pass(raw, replace(found, stays=left.message), left.again)
        # What was just written is what the next pass begins with.
        return Pass(left, replace(found, outcome=Outcome(stale=True)), requeue=0)

    async def _wished(self, raw: Raw, identity: Identity, backend: Backend | None, found: Findings) -> Pass:
        """Observe, plan and apply what the spec asks for."""
        if self._hosted is not None and on_docker(raw):
            namespace = await self._hosted.namespace_of(raw)
            if namespace is None:
                return Pass(raw, replace(found, outcome=Outcome(gone=True)))
            if isinstance(namespace, Failure):
                unknown = replace(found, outcome=Outcome(failure=namespace))
                return Pass(raw, replace(unknown, workload=await _state(backend, identity)))
            identity = replace(identity, namespace_uid=namespace)
        try:
            spec, blueprint = self._specs.of(raw, identity)
        except InvalidSpec as error:
            return Pass(raw, replace(found, invalid=str(error), workload=await _state(backend, identity)))
        # Asked for only where it may count: on Docker that is a question to the engine.
        asks = spec.lifecycle is not None and (not spec.on_docker or previous(raw).ended is not None)
        state = await _state(backend, identity) if asks else NOTHING
        now = self._now()
        found = replace(found, looked=before(raw, spec, now, rests=rests(state)))
        if is_over(found.looked):
            blueprint = replace(blueprint, running=False)
            deletion = await self._deletions.of(raw, found.looked, state, now)
            if deletion is not None and deletion.failure is None:
                return Pass(raw, replace(found, outcome=deletion), deletion.paced)
            found = replace(found, outcome=deletion or found.outcome)
        reference = spec.credentials.secret_ref
        if self._hosted is not None and spec.on_docker:
            settled = await self._hosted.settle(raw, blueprint, spec)
            if settled is None:
                return Pass(raw, replace(found, outcome=Outcome(gone=True)))
            if isinstance(settled, Moving):
                moving = replace(found, secret=reference.name, moving=settled.message)
                return Pass(raw, replace(moving, workload=await _state(backend, identity)), settled.again)
            if isinstance(settled, Failure):
                refused = replace(found, secret=reference.name, outcome=Outcome(failure=settled))
                return Pass(raw, replace(refused, workload=await _state(backend, identity)))
            if overtaken(raw, settled):
                # Another spec than the one that was just understood: nothing of this one is carried out.
                return Pass(settled, replace(found, outcome=Outcome(stale=True)), requeue=0)
            # As it was stored just now: the backend is that of the host that was chosen, should it be another than
            # before.
            raw, backend = settled, self._hosted.backend(settled)
        assert backend is not None  # noqa: S101 - what is on Kubernetes has one, and what was settled
        return await self._run(raw, *await self._admitted(raw, found, (backend, blueprint, spec)))

    async def _admitted(self, raw: Raw, found: Findings, desired: Desired) -> tuple[Findings, Desired]:
        """What is asked for with the image by the digest that may run, or held where none may."""
        backend, blueprint, spec = desired
        if self._images is None:
            return found, desired
        if not blueprint.running:
            return replace(found, admission=await canaries.ended(raw, backend, blueprint)), desired
        now, work = self._now(), NO_WORK
        if spec.follows_tag:
            # An exchange waits until the agent is at rest, which only the workload and its gateway tell.
            state = _believed(await backend.state(blueprint.identity))
            work = Work(state, last_active(raw, found.usage, state, now), state.heard)
            told = raw.get("status") or {}
            work = replace(work, measured=measured_of(told, work.uid))
            work = replace(work, generation=raw["metadata"]["generation"], status=told)
        admission = await canaries.admitted(self._images, self._hosted, raw, desired, now, work)
        held, exchanged = admission.held, admission.replaces and not admission.held
        blueprint = replace(blueprint, image=admission.image, held=held, exchanged=exchanged)
        blueprint = replace(blueprint, image_refused=admission.refused)
        return replace(found, admission=admission), (backend, replace(blueprint, running=not admission.ends), spec)

    async def _run(self, raw: Raw, found: Findings, desired: Desired) -> Pass:
        """Carry it out, but for what has to wait until the workspace is filled, or is over."""
        backend, blueprint, spec = desired
        if (restoring := await self._restoring(raw, desired)) is not None:
            found = replace(found, restoring=restoring)
            # All but the workload: the volume that is to be filled has to be there.
            waited = await self._carry_out(raw, found, (backend, replace(blueprint, running=False), spec))
            again = (waited.requeue, restoring.again)
            return replace(waited, requeue=min((one for one in again if one is not None), default=None))
        # A suspended one that is yet to be filled has nothing in its workspace that is worth a backup.
        empty = not blueprint.running and self._restores is not None and self._restores.is_due(raw, spec)
        if self._backups is not None and not empty:
            found = replace(found, backed=await self._backups.of(raw, spec))
        done = await self._carry_out(raw, found, (backend, blueprint, spec))
        # Only where the pass wrote nothing: what it has just written is not known well enough to end it.
        if blueprint.running and is_over(done.findings.looked) and not done.findings.outcome.wrote:
            # It turned out to be idle.
            found = replace(found, looked=done.findings.looked)
            return await self._carry_out(raw, found, (backend, replace(blueprint, running=False), spec))
        return done

    async def _restoring(self, raw: Raw, desired: Desired) -> Restoring | None:
        """What keeps the agent from starting before its workspace is filled. One that runs was started after that,
        whatever the status says."""
        backend, blueprint, spec = desired
        if self._restores is None or not blueprint.running or not self._restores.is_due(raw, spec):
            return None
        # Who may write statuses could else have a workspace filled again under a running agent.
        if (await _state(backend, blueprint.identity)).workload is not None:
            return None
        return await self._restores.of(raw, spec)

    async def _carry_out(self, raw: Raw, found: Findings, desired: Desired) -> Pass:
        """Have the backend do what is asked for."""
        backend, blueprint, spec = desired
        identity, reference = blueprint.identity, spec.credentials.secret_ref
        # Read anew in each pass, and never kept: of a Secret that has lost its label the next pass uses nothing.
        key = await backend.key(identity, reference.name, reference.key)
        # The compromised one is that of the Secret which was named when it was declared.
        named = self._compromised.secret_of(raw, reference.name)
        told_of = key if named == reference.name else await backend.key(identity, named, reference.key)
        found = replace(found, incident=self._compromised.status(raw, named, told_of, self._now()))
        # After the status took note of it, so that the message can say which key it is that counts as missing.
        key = self._compromised.judged(identity.namespace, reference.name, key)
        if self._hosted is not None:
            key, lost = self._hosted.judged(identity.namespace, reference.name, key)
            found = replace(found, lost_key=lost)
        told = self._told.of(key_of(raw), identity.uid, spec.claude_code)
        blueprint = instructed(blueprint, told.instructions, held=told.failure is not None)
        past = self._past(raw)
        # What ConfigMaps say now is another wish, as another spec is; and so is an end, or that it is put off.
        changed = told.changed or is_over(found.looked) != (previous(raw).ended is not None)
        # So is another image, although an operator that ended after it had removed the workload does not tell.
        changed = changed or canaries.is_exchanged(found.admission, raw)
        outcome = await backend.ensure(blueprint, key, spec, replace(past, settled=past.settled and not changed))
        # A deletion that failed is said only where nothing of this pass did: that is nearer to what a person can mend.
        outcome = replace(outcome, failure=outcome.failure or found.outcome.failure)
        if told.failure is not None and blueprint.running and outcome.failure is None:
            outcome = replace(outcome, failure=told.failure)
        if outcome.ended is not None:
            # Or the next pass would take it for one that was lost.
            self._ended[key_of(raw)] = outcome.ended
        # After the writes: what is told is what is there now, not what the pass began with.
        workload = _believed(await backend.state(identity))
        refused = refused_image(found.admission, workload)
        outcome = replace(outcome, failure=outcome.failure or refused)
        return self._came_of(raw, found, (backend, blueprint, spec), key, outcome, workload)

    def _came_of(
        self,
        raw: Raw,
        found: Findings,
        desired: Desired,
        key: KeyState,
        outcome: Outcome,
        workload: WorkloadState,
    ) -> Pass:
        """What came of a pass, and when to look again."""
        _, blueprint, spec = desired
        gateway = blueprint.gateway
        budget = gateway.budget if gateway is not None else None
        settling = self._timers.key_settles_in(key_of(raw), outcome)
        secret = self._timers.secret_again(key_of(raw), key)
        findings = replace(
            found,
            suspended=not blueprint.running,
            secret=spec.credentials.secret_ref.name,
            key=key,
            key_settling=settling is not None,
            outcome=outcome,
            workload=workload,
            brokered=gateway is not None,
            clones=blueprint.git.clones if blueprint.git is not None else (),
            usage=usage_after(workload, found.usage, budget, self._now()) if gateway is not None else None,
            budget=budget,
            services=gateway.services if gateway is not None else (),
        )
        now = self._now()
        if spec.lifecycle is not None and spec.lifecycle.idle_timeout is not None:
            findings = replace(findings, cpu=self._cpu.look(key_of(raw), workload.cpu, now))
        looked = found.looked if is_over(found.looked) else after(raw, spec, findings, now)
        ends = looked.life.ends if looked is not None else None
        # Who has no gateway knows none by a certificate.
        dated = workload if gateway is not None else replace(workload, certificate_ends=None)
        dates = dates_of(spec, key, dated, ends, now, _last_verified(raw, findings))
        findings = replace(findings, looked=looked, looked_at=True, dates=dates)
        over, turns = over_in(findings.usage, now), turns_in(looked, ended=is_over(found.looked))
        if outcome.failure is None and self._deletions.begins(raw, looked, workload, now):
            turns = 0.0
        counts_again = ends_in(spec.compliance, now)
        looks = found.admission.again if found.admission is not None else None
        backed = findings.backed.again if findings.backed is not None else None
        waiting = (outcome.paced, settling, secret, key.again, workload.again, over, turns, counts_again, looks)
        again = [wait for wait in (*waiting, backed) if wait is not None]
        return Pass(raw, findings, min(again, default=None), desired, findings.usage, found.usage)

    def _backend_of(self, raw: Raw) -> Backend | None:
        """What runs the sandbox; None where no host was chosen yet."""
        return self._hosted.backend(raw) if self._hosted is not None and on_docker(raw) else self._backend

    def _past(self, raw: Raw) -> Past:
        status = raw.get("status") or {}
        past = replace(past_of(status, raw["metadata"]["generation"]), age=_age(raw))
        if past.ran and status["workload"]["uid"] == self._ended.get(key_of(raw)):
            return replace(past, ran=False)
        return past


def _leaves(raw: Raw) -> bool:
    """Whether it asks to begin anew elsewhere where its host is compromised, whatever else is wrong with its spec."""
    asked = ((raw.get("spec") or {}).get("backup") or {}).get("whenHostCompromised")
    return bool(asked == WhenHostCompromised.RESTORE_ELSEWHERE)


async def _state(backend: Backend | None, identity: Identity) -> WorkloadState:
    """What runs for a sandbox that nothing can be done for; no host was chosen yet where there is no backend."""
    return NOTHING if backend is None else await backend.state(identity)


def _believed(workload: WorkloadState) -> WorkloadState:
    """The state without what its gateways have told too long ago."""
    said = workload.report
    return workload if said is None else replace(workload, report=believed(said, datetime.now(UTC)))


def nothing_yet(raw: Raw) -> Findings:
    """What a pass begins with: what was told of the sandbox before stays said."""
    usage = previous_usage(raw.get("status") or {})
    return Findings(backend=_backend_type(raw), usage=usage, looked_at=False)


def _backend_type(raw: Raw) -> BackendType:
    return BackendType.DOCKER if on_docker(raw) else BackendType.KUBERNETES


def _last_verified(raw: Raw, findings: Findings) -> Verified | None:
    """Of the sandbox's backups; None where it has none by a schedule."""
    if findings.backed is None:
        return None
    made = datetime.fromisoformat(raw["metadata"]["creationTimestamp"])
    return Verified(findings.backed.status.last_verified, made, findings.backed.said, findings.backed.gone)


def _age(raw: Raw) -> float:
    """For how many seconds there has been the sandbox."""
    return (datetime.now(UTC) - datetime.fromisoformat(raw["metadata"]["creationTimestamp"])).total_seconds()
