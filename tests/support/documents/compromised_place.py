"""DockerHosts that are compromised, what was on them, and a sandbox that is to leave one. Without I/O."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import Backend, BackendType
from claude_sandbox.api.status import Placement
from claude_sandbox.api.validate import parse_host_spec, parse_spec
from claude_sandbox.backends.base import KeyState
from claude_sandbox.backends.docker.hosts.capacity import Allocatable, Requests
from claude_sandbox.backends.docker.hosts.placement import Candidate, PlacementRequest
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.docker_hosts.compromised import CompromisedHosts
from claude_sandbox.controller.docker_hosts.recoveries import Recoveries
from claude_sandbox.controller.docker_hosts.store import DockerHosts
from claude_sandbox.controller.sandboxes.interfaces import Stays
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
COMPROMISED = {"state": "HostCompromised"}
SNAPSHOT = "0a1b2c3d" * 8
SPEC = {
    "backend": {"type": "Docker"},
    "credentials": {"apiKeySecretRef": {"name": "key"}},
    "backup": {
        "schedule": "30 2 * * *",
        "target": {
            "type": "S3",
            "s3": {"endpoint": "https://s3.example.org", "bucket": "backups"},
            "credentialsSecretRef": {"name": "backups"},
        },
        "passwordSecretRef": {"name": "backups"},
        "whenHostCompromised": "RestoreElsewhere",
    },
}
BACKUP: dict[str, Any] = {
    "metadata": {"name": "alice-1", "namespace": "agents", "creationTimestamp": "2026-11-29T10:00:00Z"},
    "spec": {"sandboxName": "alice", "target": {"type": "S3"}},
    "status": {
        "completedAt": "2026-11-29T10:30:00Z",
        "snapshot": SNAPSHOT,
        "conditions": [{"type": "Complete", "status": "True"}, {"type": "BackupVerified", "status": "True"}],
    },
}


class Marked:
    """Hosts of which some are compromised, and what was on them."""

    def __init__(self) -> None:
        self.hosts, self.sandboxes, self.version = DockerHosts(), Sandboxes(), 0
        self.woken, self.users, self.severed = list[str](), set[str](), list[str]()
        self.found = CompromisedHosts(
            self.hosts,
            self.sandboxes,
            lambda key: self.woken.append(str(key)),
            lambda namespace, secret: self.users.add(f"{namespace}/{secret}"),
            self.severed.append,
            lambda _namespace, secret: f"of-{secret}",
        )

    def meta(self, name: str, **more: str) -> dict[str, str]:
        self.version += 1
        return {"name": name, "uid": name, "resourceVersion": str(self.version), "creationTimestamp": "2026"} | more

    def host(self, name: str = "build-1", declared: Any = None, **status: Any) -> Any:
        spec = {"endpoint": "unix:///a"} | ({} if declared is None else {"incident": declared})
        raw = {"metadata": self.meta(name), "spec": spec, "status": status}
        self.hosts.put(raw)
        return raw

    def declared(self, name: str = "build-1", **status: Any) -> Any:
        """Declared, and written into the host's status."""
        raw = self.host(name, COMPROMISED, **status)
        told = self.found.status(raw, NOW)
        assert told is not None
        return self.host(name, COMPROMISED, incident=told.model_dump(mode="json", by_alias=True, exclude_none=True))

    def sandbox(self, name: str, host: str | None = "build-1", named: str = "key", **status: Any) -> None:
        had = {"credentials": {"secret": named, "generation": "7", "mountedGeneration": "7"}}
        placed = {"placement": {"host": host, "engineId": "e"}} if host else {}
        spec: dict[str, Any] = {
            "credentials": {"apiKeySecretRef": {"name": named}},
            "backend": {"type": "Docker" if host else "Kubernetes"},
        }
        metadata = self.meta(name, namespace="agents")
        self.sandboxes.put({"metadata": metadata, "spec": spec, "status": {**had, **placed, **status}})

    def withdrawn(self, generation: str | None = "7", named: str = "key", namespace: str = "agents") -> bool:
        key, lost = self.found.judged(namespace, named, KeyState(generation))
        assert (lost is not None) == key.withdrawn == (key.problem is Reason.KEY_COMPROMISED)
        return key.withdrawn


def candidate(name: str, engine: str, **more: Any) -> Candidate:
    """A host with room, for the namespace `agents`."""
    spec = parse_host_spec({"spec": {"endpoint": "unix:///a", "allowedNamespaces": {"names": ["agents"]}, **more}})
    room = Allocatable(10, None, 2**40)
    return Candidate(name, spec, engine, labels={}, answers=True, cores=8000, capacity=room, free=room)


class Leaving:
    """The host build-1 with the engine `e`, which alice is on; and others."""

    def __init__(self, *others: Candidate) -> None:
        self.marked = Marked()
        self.marked.sandbox("alice", engine={"id": "e"})
        known = self.marked.sandboxes.get(Key("agents", "alice"))
        assert known is not None
        metadata = {**known["metadata"], "creationTimestamp": "2026-11-01T00:00:00Z"}
        self.raw: dict[str, Any] = {**known, "spec": SPEC, "metadata": metadata}
        self.backups: list[Raw] = [BACKUP]
        self.others = list(others or [candidate("build-2", "e2")])
        self.first = set[str]()
        self.told, self.stored = list[str](), list[dict[str, Any]]()
        self.gone = False
        self.recoveries = Recoveries(
            self, self, self, self.marked.found, lambda: self, asyncio.Lock(), lambda _: None, lambda: NOW  # type: ignore[arg-type]
        )  # fmt: skip

    # What it asks of hosts, backends, backups and of whom it tells.
    def of(self, which: Any) -> Any:
        return self.backups if isinstance(which, Key) else self

    def kept_volumes(self, identity: Identity, *, home: bool) -> tuple[str, ...]:
        return (f"{identity.name}-workspace", f"{identity.name}-home") if home else (f"{identity.name}-workspace",)

    def unseen(self) -> set[str]:
        return self.first

    def candidates(self) -> list[Candidate]:
        return [candidate("build-1", "e", incident=COMPROMISED), *self.others]

    async def known(self, _: str) -> str:
        return ""

    def tell(self, _raw: Any, reason: str, message: str, **_: Any) -> None:
        self.told.append(f"{reason} {message}")

    async def store(self, raw: Raw, placement: Placement, more: Mapping[str, object]) -> Raw | None:
        self.stored.append({"placement": placement.model_dump(mode="json", by_alias=True), **more})
        status = {**raw["status"], **self.stored[-1]}
        return None if self.gone else {**raw, "status": {name: one for name, one in status.items() if one is not None}}

    def leave(self, **spec: Any) -> Raw | Stays | None:
        raw = {**self.raw, "spec": {**self.raw["spec"], **spec}}
        wish = PlacementRequest("agents", None, Backend(type=BackendType.DOCKER), Requests(1000, 2**30))
        identity = Identity("agents", "alice", "alice", "n")
        return asyncio.run(self.recoveries.leave(raw, identity, parse_spec(raw), wish, self.store))

    def stays(self) -> str:
        found = self.leave()
        assert isinstance(found, Stays)
        assert found.again > 0
        assert not self.stored and not self.told  # noqa: PT018 - nothing was written, and nothing told
        return found.message
