"""The ClaudeSandboxes as last seen, and which of them a change elsewhere concerns.

Theory of operation. Holds what the projection keeps of each sandbox, by namespace and name, as far as the limits of its
namespace go; an index by Docker host; who follows changes; and which sandboxes a write of ours is under way to.

Always true:
- Of one sandbox only a newer version replaces a version, wherever it comes from: watch, list, or answer to a write.
- An object that was put is never changed. Who keeps one has a sandbox at a moment, and not a view of the present one.
- The index by host is of just the objects that are held; followers were told of each change before the call ends.
- Our own write is learned before its watch tells of it (`written` has that wait), so that it wakes nobody.

Written to by kopf's handler, by the list of each round, and by passes with the answers to their writes; read by all.
All of it on the event loop, and no call but `written` and `take_over` awaits. A crash forgets it: a process that starts
takes over a whole list before any work, for a sandbox that is not known yet must not look like one that is gone. A
deletion that no watch told of is found by the next list, or by a pass whose write is answered with NotFound.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from claude_sandbox.api.meta import FINALIZER
from claude_sandbox.api.named_secrets import secrets_named
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import Placement
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.controller.machinery.resource_versions import not_newer
from claude_sandbox.kubernetes_api.informers.cache_limits import CacheLimits
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.informers.yielding import Breath
from claude_sandbox.kubernetes_api.resources import SANDBOXES

Raw = Mapping[str, Any]


class Key(NamedTuple):
    """Names one sandbox."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(raw: Raw) -> Key:
    """The key of an object as the API server sent it."""
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def on_docker(raw: Raw) -> bool:
    """Whether the sandbox says that it is on Docker, whatever else is wrong with its spec."""
    return bool(((raw.get("spec") or {}).get("backend") or {}).get("type") == BackendType.DOCKER)


def is_held(raw: Raw) -> bool:
    """Whether the sandbox may still have something on a Docker host."""
    return FINALIZER in (raw["metadata"].get("finalizers") or ())


def placement_of(raw: Raw) -> Placement | None:
    """Where the sandbox was placed; None before."""
    found = _placement(raw)
    return Placement.model_validate(found) if found else None


def host_of(raw: Raw) -> str | None:
    """The Docker host that the sandbox was placed on; None before."""
    return _placement(raw).get("host")


def _placement(raw: Raw) -> Mapping[str, Any]:
    return (raw.get("status") or {}).get("placement") or {}


class Sandboxes:
    """All sandboxes, by key and by namespace: of each what its projection keeps, as far as its namespace's ration goes.

    One that is too large, or too much for its namespace, says so in `outsize`. What it has can be found and removed.
    """

    def __init__(self) -> None:
        self._rations = CacheLimits(SANDBOXES)
        self._by_namespace: dict[str, dict[str, Raw]] = {}
        self._by_host: dict[str | None, dict[Key, None]] = {}  # None: those on Docker that wait for one
        self._followers: list[Callable[[Key, Raw | None], None]] = []
        self._writing: dict[Key, list[asyncio.Event]] = {}

    def get(self, key: Key) -> Raw | None:
        """The sandbox as last seen."""
        return self._by_namespace.get(key.namespace, {}).get(key.name)

    def put(self, raw: Raw) -> bool:
        """Remember an object; False where this version or a newer one was known (by our own write)."""
        key = key_of(raw)
        known = self.get(key)
        if known is not None and not_newer(raw["metadata"], known["metadata"]):
            # What was too much to be kept may not be any more.
            if OUTSIZE not in known or not _same(raw["metadata"], known["metadata"]):
                return False
            if OUTSIZE in (kept := self._kept(raw)):
                return False
        else:
            kept = self._kept(raw)
        self._by_namespace.setdefault(key.namespace, {})[key.name] = kept
        self._indexed(key, known, kept)
        return True

    def follow(self, changed: Callable[[Key, Raw | None], None]) -> None:
        """Have `changed` called with each sandbox as it is since, None where it is gone."""
        self._followers.append(changed)

    def _indexed(self, key: Key, before: Raw | None, now: Raw | None) -> None:
        # A sandbox that says that it is on Kubernetes may still name a host, where somebody wrote it into its status.
        for raw, enters in ((before, False), (now, True)):
            if raw is None or not (on_docker(raw) or host_of(raw)):
                continue
            host = host_of(raw)
            keys = self._by_host.setdefault(host, {})
            if enters:
                keys[key] = None
            else:
                keys.pop(key, None)
                if not keys:
                    del self._by_host[host]
        for changed in self._followers:
            changed(key, now)

    def _kept(self, raw: Raw) -> Raw:
        return self._rations.admit(PROJECTIONS[SANDBOXES](dict(raw)))

    @contextmanager
    def writing(self, raw: Raw) -> Iterator[None]:
        """A write of ours to a sandbox, until its answer was learned."""
        key, written = key_of(raw), asyncio.Event()
        # A pass may write while what is overdue is taken back, so there may be two.
        under_way = self._writing.setdefault(key, [])
        under_way.append(written)
        try:
            yield
        finally:
            under_way.remove(written)
            if not under_way:
                del self._writing[key]
            written.set()

    async def written(self, raw: Raw) -> None:
        """Wait while a write of ours is under way: its watch may be told of it before it is answered."""
        # Asked again after each: another write may have begun meanwhile.
        while writing := self._writing.get(key_of(raw)):
            await writing[-1].wait()

    def learn(self, written: Raw) -> None:
        """Remember the answer to a write of ours, unless that very sandbox was deleted while it was on its way."""
        # Not where it is unknown: an answer that comes after the deletion would bring it back to life.
        known = self.get(key_of(written))
        if known is not None and known["metadata"]["uid"] == written["metadata"]["uid"]:
            self.put(written)

    def lose(self, raw: Raw) -> None:
        """Forget a sandbox that turned out to be gone, unless another of its name is known by now."""
        key = key_of(raw)
        known = self.get(key)
        if known is not None and known["metadata"]["uid"] == raw["metadata"]["uid"]:
            self.remove(key)

    def remove(self, key: Key) -> None:
        """Forget a sandbox that is gone."""
        names = self._by_namespace.get(key.namespace, {})
        known = names.pop(key.name, None)
        self._rations.forget(key)
        if known is not None:
            self._indexed(key, known, None)
        if not names:
            self._by_namespace.pop(key.namespace, None)

    def uids(self) -> dict[Key, str]:
        """The UID of each: to be asked for before a list is, which is then taken over with this."""
        return {key: raw["metadata"]["uid"] for key in self if (raw := self.get(key)) is not None}

    def replace(self, listed: Iterable[Raw]) -> set[Key]:
        """Take over a complete list while nothing else tells of sandboxes; the keys that came, went or changed."""
        return set(self._taken_over(listed, self.uids()))

    async def take_over(self, listed: Iterable[Raw], before: Mapping[Key, str]) -> set[Key]:
        """As `replace`, letting others have the event loop in between. `before`: `uids()` when the list was asked for.

        What its watch told of meanwhile is newer than the list: who came is not gone, and who went has not come.
        """
        breath = Breath()
        found: set[Key] = set()
        for key in self._taken_over(listed, before):
            found.add(key)
            await breath()
        return found

    def _taken_over(self, listed: Iterable[Raw], before: Mapping[Key, str]) -> Iterator[Key]:
        fresh = {key_of(raw): raw for raw in listed}
        for key in before.keys() - fresh.keys():
            known = self.get(key)
            # Else one of its name came after the list was asked for, and its watch told of that.
            if known is not None and known["metadata"]["uid"] == before[key]:
                self.remove(key)
                yield key
        for key, raw in fresh.items():
            known, uid = self.get(key), raw["metadata"]["uid"]
            # Its watch told of its end after the list was read.
            went = before.get(key) == uid and (known is None or known["metadata"]["uid"] != uid)
            if not went and self.put(raw):
                yield key

    def __iter__(self) -> Iterator[Key]:
        """All of them."""
        for namespace, names in self._by_namespace.items():
            for name in names:
                yield Key(namespace, name)

    def of(self, namespace: str) -> list[Key]:
        """Those of a namespace."""
        return [Key(namespace, name) for name in self._by_namespace.get(namespace, {})]

    def on_host(self, host: str) -> list[Key]:
        """Those on Docker that are placed on this host, or on none yet."""
        found = [*self.placed_on(host), *self._by_host.get(None, ())]
        # A status may tell of a host that the spec knows nothing of.
        return [key for key in found if on_docker(self.get(key) or {})]

    def placed_on(self, host: str) -> list[Key]:
        """Those that say that they are placed on this host."""
        return list(self._by_host.get(host, ()))

    def unplaced(self) -> list[Key]:
        """Those on Docker that wait for a host, the oldest first."""
        waiting = [
            ((self.get(key) or {}).get("metadata", {}).get("creationTimestamp", ""), key)
            for key in self._by_host.get(None, ())
        ]
        return [key for _, key in sorted(waiting)]

    def using(self, namespace: str, secret: str) -> list[Key]:
        """Those of a namespace that name this Secret."""
        return [
            Key(namespace, name)
            for name, raw in self._by_namespace.get(namespace, {}).items()
            if secret in secrets_named(raw)
        ]

    def told_by(self, namespace: str, config_map: str) -> list[Key]:
        """Those of a namespace that name this ConfigMap."""
        return [
            Key(namespace, name)
            for name, raw in self._by_namespace.get(namespace, {}).items()
            if config_map in config_maps_named(raw)
        ]

    def __len__(self) -> int:
        return sum(map(len, self._by_namespace.values()))


def credential_named(raw: Raw) -> str | None:
    """The Secret of its credential."""
    credentials = (raw.get("spec") or {}).get("credentials") or {}
    references = (credentials.get(name) for name in ("apiKeySecretRef", "oauthTokenSecretRef"))
    return next((str(one["name"]) for one in references if one and one.get("name")), None)


def workspace_of(raw: Raw) -> int | None:
    """Which of its workspaces it says it has, whatever else is wrong with its spec."""
    asked = ((raw.get("spec") or {}).get("workspace") or {}).get("instance")
    return asked if isinstance(asked, int) else None


def config_maps_named(raw: Raw) -> Iterator[str]:
    """The ConfigMaps that its spec.claudeCode names."""
    asked = (raw.get("spec") or {}).get("claudeCode") or {}
    for one in asked.values():
        yield from (each["name"] for each in (one if isinstance(one, list) else [one]) if each.get("name"))


def overtaken(before: Raw, written: Raw) -> bool:
    """Whether somebody changed the sandbox before a write of ours, of which its watch tells nothing new then."""
    # Not the resourceVersion: every write of a status makes a new one, and the status is ours.
    told = ("generation", "deletionTimestamp", "labels", "annotations")
    one, other = (PROJECTIONS[SANDBOXES](dict(raw))["metadata"] for raw in (before, written))
    return any(one.get(name) != other.get(name) for name in told)


def _same(new: Raw, known: Raw) -> bool:
    return bool(new["uid"] == known["uid"] and new["resourceVersion"] == known["resourceVersion"])
