"""One look at one Docker host: what the spec says, what the engine answers, and the status that follows.

Nothing here touches a sandbox. A host that does not answer, or that is gone, is remembered or forgotten; what runs
there is the backend's to think about, and who leaves a host that is being drained `drains.py`'s.

Theory of operation. The queue calls `HostReconciler` with a host's name, never twice at once for one. Holds, of each
host, the credentials that were read last and when, what was seen of it last, and when workspaces were looked for on it
last. Connections, and what the engine answered, are `backends/docker/hosts`'s, which never raises for an engine.

Always true: nothing is said of a host, nor a sandbox placed on it, before it was looked at once (`unseen`); who has to
know is told of each change of whether it is there, answers and is ready (`on_change`); no connection is left with
credentials whose Secret was found to be gone, and that is looked for within a minute; and of two DockerHosts for one
engine only the older takes sandboxes, or its room would be given away twice. What others ask here (`host_info`,
`candidates`) comes from what is held, and costs no request.

Used on the event loop; hosts are looked at side by side. A crash forgets all: every host is unseen again, sandboxes
wait for the first look, and statuses stay as they were until then. A change that no watch tells is seen by the next
look, half a minute away at most.
"""

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.api.docker_hosts.conditions import HostConditionType
from claude_sandbox.api.docker_hosts.incident import HostIncidentStatus
from claude_sandbox.api.docker_hosts.spec import DockerHostSpec
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.validate import InvalidSpec, parse_host_spec, refused_host_metadata
from claude_sandbox.backends.docker.engine.capabilities import gives_app_armor
from claude_sandbox.backends.docker.engine.connection.certificates import ends_of
from claude_sandbox.backends.docker.engine.connection.client_credentials import (
    ClientCredentials,
    ClientCredentialsError,
)
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.backends.docker.hosts.capacity import Allocated, capacity_of, cores_of
from claude_sandbox.backends.docker.hosts.hosts import Hosts, HostState, Target
from claude_sandbox.backends.docker.hosts.placement import Candidate, HostInfo
from claude_sandbox.controller.docker_hosts import status as report
from claude_sandbox.controller.docker_hosts.compromised import engine_of_compromised
from claude_sandbox.controller.docker_hosts.store import DockerHosts, Raw
from claude_sandbox.controller.machinery.merge_patch import merge_patch
from claude_sandbox.controller.machinery.workers import Result
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.unstructured import terminating

logger = logging.getLogger(__name__)

POLL = 10.0
"""Seconds between two looks at a host that answers."""
POLL_SILENT = 3.0
"""Seconds between two looks at one that does not."""
POLL_STALLED = 30.0
"""Seconds between two looks at one that somebody has to mend first: most are told by the watch."""
MATERIAL_AGE = 60.0
"""Seconds for which a Secret is taken to be what it was. A new one is noticed then, or as soon as the old one fails."""


KEPT_AGE = 60.0
"""Seconds until it is looked again for workspaces on a host whose namespace is gone."""


async def unasked(_: str) -> tuple[str, ...] | None:
    """Nothing is known of workspaces."""
    return None


class Secrets(Protocol):
    """Where credentials of hosts come from."""

    async def credentials(self, name: str, scheme: Any) -> ClientCredentials:
        """What the Secret holds. Raises ClientCredentialsError where somebody has to act, else ApiError."""


class HostReporter(Protocol):
    """Where a host's status and what is worth telling a person go."""

    async def write_status(self, raw: Raw, patch: Mapping[str, Any]) -> Raw | None:
        """Merge the patch into the status; the object as it is now, or None where it is gone."""

    def tell(self, raw: Raw, reason: str, message: str, *, warning: bool) -> None:
        """A Kubernetes Event."""

    def observe(self, name: str, status: Mapping[str, Any] | None, known: HostState) -> None:
        """The status for the metrics, which is not always written; None where the host is gone."""


class HostReconciler:
    """Callable for the work queue, whose keys are names of hosts.

    `demands` tells what the sandboxes that are placed on a host may use. `drain` has the next sandboxes of a host that
    is being drained moved, given how many were before, and tells how far that is. `on_change` is called with a host's
    name and whether it answers when it began or ceased to answer, became ready or not, or was changed by an
    administrator. `namespace_uid` gives the UID of the namespace that has a name now. `kept` finds the volumes of
    workspaces on a host whose namespace is gone. `incident`: what was on a host that is compromised; None of others.
    """

    def __init__(
        self,
        objects: DockerHosts,
        hosts: Hosts,
        secrets: Secrets,
        reporter: HostReporter,
        *,
        demands: Callable[[str], Allocated] = lambda _: Allocated(),
        drain: Callable[[str, int], report.DrainProgress] = lambda _host, _moved: report.DrainProgress(),
        on_change: Callable[[str, bool], None] = lambda _host, _answers: None,
        namespace_uid: Callable[[str], str | None] = lambda _: None,
        kept: Callable[[str], Awaitable[tuple[str, ...] | None]] = unasked,
        incident: Callable[[Raw, datetime], HostIncidentStatus | None] = lambda _raw, _now: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._hosts = hosts
        self._secrets = secrets
        self._reporter = reporter
        self._demands = demands
        self._drain = drain
        self._on_change = on_change
        self._namespace_uid = namespace_uid
        self._kept = kept
        self._incident = incident
        self._kept_at: dict[str, float] = {}
        self._clock = clock
        self._credentials: dict[str, tuple[float, tuple[str, str], ClientCredentials]] = {}
        self._seen: dict[str, tuple[Any, ...]] = {}

    async def __call__(self, name: str) -> Result:
        """One look. Raises ApiError where the status could not be written."""
        raw = self._objects.get(name)
        if raw is None or terminating(raw):
            # A DockerHost that goes ends the connections, and nothing else: what runs there runs on.
            self._forget(name)
            return Result()
        try:
            found = await self._look(name, raw)
        except ApiError:
            raise
        except Exception as error:
            logger.warning("the look at a Docker host ended early", exc_info=True)
            error = ConnectError(ConnectErrorReason.UNSUPPORTED, f"it could not be looked at: {mishap(error)}")
            found = report.HostFindings(None, known=replace(self._hosts.known(name), error=error))
        # Before what may take time: sandboxes wait for the first look at their host.
        self._notice(name, raw, found)
        found = await self._with_namespaces(name, raw, found)
        if found.spec is not None and found.spec.drain:
            found = replace(found, drain=self._drain(name, report.moved_before(raw.get("status") or {})))
        written = await self._report(raw, found)
        return Result(requeue_after=_pause(found)) if written else Result(requeue_after=0)

    def unseen(self) -> set[str]:
        """Hosts that were not looked at yet: of these nothing can be said. `on_change` tells when they were."""
        return {name for name in self._objects if name not in self._seen}

    def exists(self, name: str) -> bool:
        """Whether there is such a host, whatever becomes of it."""
        return self._objects.get(name) is not None

    def host_info(self, name: str) -> HostInfo | None:
        """What a host stands for; None where there is none, or its spec is refused."""
        raw = self._objects.get(name)
        spec = None if raw is None else _spec(raw)
        if raw is None or not isinstance(spec, DockerHostSpec):
            return None
        told = (raw.get("status") or {}).get("namespaces") or ()
        meant = {str(one.get("name")): str(one.get("uid")) for one in told}
        known = self._hosts.known(name)
        confines = None if known.documents is None else gives_app_armor(known.documents.info)
        return HostInfo(name, spec, known.engine_id, namespaces=meant, app_armor=confines)

    def tell(self, name: str, reason: str, message: str) -> None:
        """A Kubernetes Event about a host, where there still is one."""
        if (raw := self._objects.get(name)) is not None:
            self._reporter.tell(raw, reason, message, warning=False)

    def candidates(self) -> list[Candidate]:
        """The hosts that sandboxes may be placed on, as last seen."""
        return [self._candidate(found) for name in self._objects if (found := self.host_info(name)) is not None]

    def _candidate(self, host: HostInfo) -> Candidate:
        raw, known = self._objects.get(host.name), self._hosts.known(host.name)
        info = known.documents.info if known.documents is not None else {}
        capacity = capacity_of(host.spec.capacity, info)
        return Candidate(
            **vars(host),
            labels=(raw or {}).get("metadata", {}).get("labels") or {},
            answers=known.answers and self._older_of_the_same(host.name) is None and not self._compromised(host.name),
            cores=cores_of(info),
            capacity=capacity,
            free=capacity.without(self._demands(host.name)),
        )

    async def _with_namespaces(self, name: str, raw: Raw, found: report.HostFindings) -> report.HostFindings:
        """With the namespaces that are meant, and, now and then, with what is left of those that are gone."""
        if found.spec is None:
            return found
        before = (raw.get("status") or {}).get("namespaces") or ()
        meant = report.meant(found.spec.allowed_namespaces.names, before, self._namespace_uid)
        kept, now = None, self._clock()
        # Each time a list of all volumes, so not with every look.
        if found.known.answers and now - self._kept_at.get(name, -KEPT_AGE) >= KEPT_AGE:
            self._kept_at[name] = now
            kept = await self._kept(name)
        return replace(found, namespaces=meant, kept=kept)

    def _forget(self, name: str) -> None:
        self._hosts.forget(name)
        self._kept_at.pop(name, None)
        self._credentials.pop(name, None)
        self._reporter.observe(name, None, HostState())
        if self._seen.pop(name, None) is not None:
            self._on_change(name, False)

    async def _look(self, name: str, raw: Raw) -> report.HostFindings:
        spec = _spec(raw)
        incident = self._incident(raw, datetime.now(UTC).replace(microsecond=0))
        if incident is not None:
            # Whatever else is wrong with it: no connection, and no Secret is read for one.
            self._hosts.forget(name)
            self._credentials.pop(name, None)
            usable, invalid = (None, spec) if isinstance(spec, str) else (spec, "")
            return report.HostFindings(usable, invalid=invalid, demands=self._demands(name), incident=incident)
        if isinstance(spec, str):
            self._hosts.forget(name)
            return report.HostFindings(None, invalid=spec, demands=self._demands(name))
        known, secret, unread = self._hosts.known(name), None, ""
        credentials: ClientCredentials | None = None
        try:
            credentials = await self._credentials_of(name, spec)
        except ClientCredentialsError as error:
            # Whoever took the Secret away wants no more connections with what was in it.
            self._hosts.forget(name)
            secret = error
        except ApiError as error:
            unread = f"The Secret could not be read: {error}."
        else:
            known = await self._hosts.look(name, Target(spec.address, credentials))
            if known.error is not None and not known.error.passes:
                self._credentials.pop(name, None)  # read anew next time, in case it was mended
        return report.HostFindings(
            spec,
            secret=secret,
            secret_unread=unread,
            known=known,
            same_engine=self._older_of_the_same(name),
            compromised=self._compromised(name),
            demands=self._demands(name),
            certificates=ends_of(credentials),
        )

    async def _credentials_of(self, name: str, spec: DockerHostSpec) -> ClientCredentials | None:
        """What to connect with, kept for a while, and for longer where the API server does not answer."""
        reference = spec.credentials_secret_ref
        if reference is None:
            return None
        scheme = spec.address.scheme
        key, now, kept = (reference.name, scheme), self._clock(), self._credentials.get(name)
        # Another name or another scheme asks for other credentials, however young these are.
        if kept is not None and kept[1] == key and now - kept[0] < MATERIAL_AGE:
            return kept[2]
        try:
            credentials = await self._secrets.credentials(reference.name, scheme)
        except ApiError:
            # An API server that is away must not cut the operator off from engines that it reached a moment ago.
            if kept is not None and kept[1] == key:
                return kept[2]
            raise
        self._credentials[name] = now, key, credentials
        return credentials

    def _older_of_the_same(self, name: str) -> str | None:
        """The older DockerHost that stands for the same engine, whose sandboxes would be counted twice."""
        engine = self._hosts.known(name).engine_id
        raw = self._objects.get(name)
        if engine is None or raw is None:
            return None
        same = [
            (other["metadata"]["creationTimestamp"], candidate)
            for candidate in self._objects
            if candidate != name
            and self._hosts.known(candidate).engine_id == engine
            and (other := self._objects.get(candidate)) is not None
        ]
        # By age, then by name: whichever of them is looked at, it is the same one.
        first = min(same, default=None)
        return first[1] if first is not None and first < (raw["metadata"]["creationTimestamp"], name) else None

    def _compromised(self, name: str) -> str | None:
        """The DockerHost by whose name the same engine was declared compromised."""
        engine = self._hosts.known(name).engine_id
        others = (one for one in self._objects if engine is not None and one != name)
        return next((one for one in others if engine_of_compromised(self._objects.get(one) or {}) == engine), None)

    def _notice(self, name: str, raw: Raw, found: report.HostFindings) -> None:
        """Tell who has to know that the host is not what it was."""
        state = report.ready(found)
        metadata = raw["metadata"]
        said = (metadata["uid"], state.status, state.reason)
        seen = (*said, found.known.answers, found.known.engine_id, metadata["generation"])
        before, self._seen[name] = self._seen.get(name), seen
        if before != seen:
            self._on_change(name, found.known.answers)
        # Of a host that is new the status alone is enough.
        if before is not None and before[0] == metadata["uid"] and before[:3] != said:
            bad = state.status is not ConditionStatus.TRUE
            self._reporter.tell(raw, state.reason, state.message, warning=bad)

    async def _report(self, raw: Raw, found: report.HostFindings) -> bool:
        """Write the status where it says something new; whether the host is still there."""
        previous = raw.get("status") or {}
        now = datetime.now(UTC).replace(microsecond=0)
        status = report.compose(previous, raw["metadata"]["generation"], found, now)
        self._reporter.observe(raw["metadata"]["name"], status, found.known)
        if not report.worth_writing(previous, status):
            return True
        written = await self._reporter.write_status(raw, merge_patch(previous, status))
        if written is None:
            # Though no watch has told of it yet.
            self._objects.lose(raw)
            return False
        self._objects.learn(written)
        drained = report.drained(found)
        if report.is_news(previous, HostConditionType.DRAINED, drained):
            # Events about hosts are in a namespace that others read: they name no sandbox.
            message = drained.message if found.drain is None else f"Sandboxes: {found.drain}."
            self._reporter.tell(raw, drained.reason, message, warning=False)
        return True


def _spec(raw: Raw) -> DockerHostSpec | str:
    """The spec, or what is wrong with it."""
    if refused := refused_host_metadata(raw):
        return "; ".join(map(str, refused))
    try:
        return parse_host_spec(raw)
    except InvalidSpec as error:
        return str(error)


def _pause(found: report.HostFindings) -> float:
    """Seconds until the next look, spread by a tenth."""
    known: HostState = found.known
    if found.spec is None or found.incident is not None or (known.error is not None and not known.error.passes):
        pause = POLL_STALLED
    else:
        # A Secret that is mended is told by no watch.
        pause = POLL if known.answers or found.secret is not None else POLL_SILENT
    return pause * random.uniform(0.9, 1.1)  # noqa: S311 (no secret)
