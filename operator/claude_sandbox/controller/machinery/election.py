"""Leader election over a Lease: at no moment do two replicas act.

`kubernetes.aio.leaderelection` is not used: it compares wall clocks, sets no limit to how long a renewal may take (a
renewal that hangs leaves a leader acting whose lease another has taken), never gives the lease back, and needs the
generated client with a connection pool that the work shares. What is here keeps client-go's protocol and its Lease, so
that `kubectl get lease` shows what one expects.

Why two can't act: the right to act ends `renew_deadline` after the *sending* of the last renewal that succeeded.
Another replica takes the lease over no earlier than `lease_duration` after it *saw* that renewal, which is later than
its sending. Durations are measured by each replica's own monotonic clock; no two clocks are compared. A write is given
no longer than the right to act (`LeaderElector.permit`), and the difference of the two (5 s by default) is left for
what the API server has already received.

What remains: a process that is frozen between the last look at its permit and the sending of one request sends this one
when it wakes up. Nothing short of an API server that knows of leases could stop it. It does no harm: writes carry the
UID or the resourceVersion of what they were decided upon, and a create of what exists already is refused.
The same holds where somebody deletes the Lease by hand: whoever creates it next acts at once, and the one before until
its next renewal.

Holds the Lease as last seen, when its record was seen to change last, and until when this replica may act. `run` is
called once, and tries, renews and gives back one after the other; `leading` and `permit` are reads, for any thread. A
crash leaves the Lease to its end. An answer that is lost leaves it unknown who holds it: it is read before the next
write, and a renewal that was heard all the same is found to be ours.
"""

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from claude_sandbox.api.mishap import Told
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import LEASES

logger = logging.getLogger(__name__)

JITTER = 0.2
_REMEDY = "Give the operator's account its role (kubectl apply -k manifests/), or choose another --lease-namespace"
# A clock that goes on while the machine sleeps, where there is one: a lease does not sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class NotLeadingError(Told):
    """A write was about to be sent by a replica that may not act (any more)."""


class LeadershipLostError(Exception):
    """The lease could not be renewed, or was taken. The process should end and start anew."""


@dataclass(frozen=True)
class LeaderElectionConfig:
    """In seconds; client-go's defaults. Raises ValueError unless retry < renew deadline < lease duration."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_period * (1 + JITTER) < self.renew_deadline < self.lease_duration:
            raise ValueError(
                "leader election needs retry period < renew deadline < lease duration, but they are"
                f" {self.retry_period:g} s, {self.renew_deadline:g} s and {self.lease_duration:g} s"
            )


def now() -> float:
    """Seconds of the clock that all of this is measured by."""
    return time.clock_gettime(_CLOCK)


def own_identity() -> str:
    """A name that no other process has, nor this one after a restart."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"


def new(name: str, namespace: str, spec: Obj) -> Obj:
    """A Lease that is not there yet."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}


def renewed(before: Obj, identity: str, lasts: float) -> Obj:
    """What a Lease's spec becomes as `identity` takes or renews it for `lasts` seconds; `before`: {} of a new one."""
    moment = _micro_time()
    ours = before.get("holderIdentity") == identity
    return {
        **before,
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, round(lasts)),
        "acquireTime": (before.get("acquireTime") if ours else None) or moment,
        "renewTime": moment,
        # client-go counts so: each time that the holder is another.
        "leaseTransitions": (before.get("leaseTransitions") or 0) + (0 if ours or not before else 1),
    }


class LeaderElector:
    """One candidate. `api` should be its own, so that no other request is in a renewal's way.

    Give that `Api` one attempt and a time-out of about half the renew deadline: trying again is done here.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        timing: LeaderElectionConfig = LeaderElectionConfig(),
        clock: Callable[[], float] = now,
    ) -> None:
        self.identity = identity or own_identity()
        self.holder = ""
        """Whose lease it is, as far as known."""
        self.why_not = ""
        """Why the server refuses us the lease, and what to do; empty while it does not. Meant as a readiness check."""
        self._api = api
        self._namespace = namespace
        self._name = name
        self._timing = timing
        self._clock = clock
        self._lease: Obj | None = None
        self._record: Obj | None = None
        self._seen = float("-inf")  # when `_record` was seen first
        self._until = float("-inf")  # until when we may act

    @property
    def leading(self) -> bool:
        """Whether this replica may act at this moment."""
        return self._clock() < self._until

    def permit(self) -> float:
        """For how many seconds more this replica may act. Raises `NotLeadingError`. Meant as an Api's write permit."""
        left = self._until - self._clock()
        if left <= 0:
            raise NotLeadingError("this replica is not the leader; nothing was written")
        return left

    async def run(self, lead: Callable[[], Awaitable[None]], on_lost: Callable[[], None] | None = None) -> None:
        """Wait to be the leader, and `lead` for as long as that is so.

        When `lead` returns, or this is cancelled, the lease is given back once `lead` has stopped. Raises
        `LeadershipLostError` when the lease is lost: `on_lost` is called at once, and `lead` is cancelled.
        """
        while not await self._attempt():  # noqa: ASYNC110 (what is waited for is on another machine)
            await asyncio.sleep(self._pause())
        logger.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self.identity})
        work = asyncio.ensure_future(lead())
        hold = asyncio.create_task(self._hold(), name="renew-lease")
        lost = False
        try:
            await asyncio.wait((work, hold), return_when=asyncio.FIRST_COMPLETED)
            lost = hold.done()
            if lost:
                self._until = float("-inf")
                logger.critical("the lease is lost, all work stops", extra={"holder": self.holder})
                if on_lost is not None:
                    on_lost()
        finally:
            # Renewed until the work has stopped; given back only then.
            # Work that does not end keeps the lease from being given back: the other replica waits for its full time
            # then.
            if await self._stop(work, hold):
                await self._release()
            self._until = float("-inf")
        if lost:
            raise LeadershipLostError("the lease was lost") from (None if hold.cancelled() else hold.exception())
        work.result()  # an error of the work is ours

    async def _stop(self, work: asyncio.Future[None], hold: asyncio.Task[None]) -> bool:
        """Cancel the work and wait for its end, while the lease is ours and a little longer; whether it ended."""
        work.cancel()
        await asyncio.wait((work, hold), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # Not longer: after that another replica may have the lease.
            grace = self._timing.lease_duration - self._timing.renew_deadline
            await asyncio.wait((work,), timeout=grace)
        if not work.done():
            logger.critical("work goes on after its cancellation; its writes are refused")
        hold.cancel()
        await asyncio.wait((hold,))
        return work.done()

    async def _hold(self) -> None:
        """Renew until that is no longer possible."""
        while True:
            # Never past the end of the right to act, at which `run` has to hear that it is lost.
            await asyncio.sleep(min(self._pause(), max(0.0, self._until - self._clock())))
            try:
                # A renewal that hangs is given up with the right to act; an answer after that would be too late.
                async with asyncio.timeout(self._until - self._clock()):
                    while not await self._attempt(leading=True):
                        if self.holder != self.identity:
                            return  # taken; it can only be by someone's hand
                        await asyncio.sleep(self._pause() / 2)
            except TimeoutError:
                pass
            # `_attempt` has moved the end where it succeeded; a time-out may have cut short the last of several tries.
            if not self.leading:
                return

    async def _attempt(self, *, leading: bool = False) -> bool:
        """Take or renew the lease, if that is ours to do; whether it succeeded."""
        try:
            # The holder knows its lease from its own writes: one request for a renewal, not two.
            if not leading or self._lease is None:
                await self._read()
            # Before the request, since another replica may count from the moment that the server has it.
            sent = self._clock()
            if self._lease is None:
                wanted = new(self._name, self._namespace, self._renewed({}))
                lease = await self._api.create(LEASES, wanted, self._namespace)
            elif self._free():
                # Guarded by the resourceVersion that was read: of two that find it free one gets a conflict.
                renewed = self._renewed(self._lease.get("spec") or {})
                lease = await self._api.replace(LEASES, {**self._lease, "spec": renewed})
            else:
                self.why_not = ""
                return False
        except ApiError as error:
            self._lease = None  # read it before the next try
            if not error.is_conflict and not error.is_already_exists:
                self._complain(error)
            return False
        self.why_not = ""
        # From the answer, so that the next renewal needs no read.
        self._observe(lease)
        self._until = sent + self._timing.renew_deadline
        return True

    def _complain(self, error: ApiError) -> None:
        """Say what is wrong; a refusal, which may last, only once."""
        trouble = f"cannot use the lease {self._namespace}/{self._name}: {error}"
        refused = error.is_forbidden or error.is_unauthorized or error.is_not_found
        why = f"{trouble}. {_REMEDY}" if refused else ""
        if not refused or why != self.why_not:
            logger.warning("%s", why or trouble)
        self.why_not = why

    async def _read(self) -> None:
        try:
            self._observe(await self._api.get(LEASES, self._name, self._namespace))
        except ApiError as error:
            if not error.is_not_found:
                raise
            # Nobody's yet, or deleted by hand: then its holder hears of the next one only when it renews.
            self._lease, self.holder = None, ""

    def _observe(self, lease: Obj) -> None:
        self._lease = lease
        record = lease.get("spec") or {}
        # By our clock, and whatever it says in renewTime: that is another machine's.
        if record != self._record:
            self._record, self._seen = record, self._clock()
        holder = record.get("holderIdentity") or ""
        if holder != self.holder:
            logger.info("the leader is %s", holder or "nobody")
        self.holder = holder

    def _free(self) -> bool:
        """Whether we may write the lease: it is ours, nobody's, or was not renewed for as long as it lasts."""
        if self.holder in ("", self.identity):
            return True
        # The longer of both, should the replicas be set differently; one that was given back says a second, and nobody.
        theirs = (self._record or {}).get("leaseDurationSeconds") or 0
        return self._clock() >= self._seen + max(self._timing.lease_duration, theirs)

    def _renewed(self, before: Obj) -> Obj:
        return renewed(before, self.identity, self._timing.lease_duration)

    async def _release(self) -> None:
        """Give the lease back, so that another replica need not wait for its end."""
        if not self.leading:
            return
        self._until = float("-inf")
        try:
            async with asyncio.timeout(self._timing.retry_period):
                while not await self._given_back():
                    # A renewal that was cancelled may have been carried out all the same.
                    await self._read()
        except (ApiError, TimeoutError) as error:
            logger.warning("the lease could not be given back: %s", error)

    async def _given_back(self) -> bool:
        """Whether the lease is ours no more; False where it is another version of it that is ours."""
        lease = self._lease
        if lease is None or self.holder != self.identity:
            return True
        # As client-go gives it back: a holder of nobody, and a second, for candidates that look at the duration alone.
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
        try:
            await self._api.replace(LEASES, {**lease, "spec": spec})
        except ApiError as error:
            if error.is_conflict:
                return False
            raise
        logger.info("the lease is given back")
        return True

    def _pause(self) -> float:
        return self._timing.retry_period * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
