"""What the sandboxes that are placed on Docker hosts may use, as their specs and statuses say.

Holds a sum for each host, and of each placed sandbox what it was counted with: the host and the demand, by UID,
generation, and whether another image is tried beside it. `Sandboxes` tells of each change, so a spec is understood once
for each of these, and to choose a host for one sandbox costs nothing for the others. Used from the event loop; a
restart counts anew while it lists.
"""

from collections.abc import Iterator
from typing import NamedTuple

from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.backends.docker.hosts.capacity import Allocated, Requests, beside_of, requests_of
from claude_sandbox.controller.sandboxes.store import Key, Raw, Sandboxes, host_of, is_held
from claude_sandbox.kubernetes_api.unstructured import terminating


class _Counted(NamedTuple):
    """How a sandbox was counted. `demand` is None where its spec can't be understood: then it takes nothing."""

    version: tuple[str, int, bool]
    host: str
    demand: Requests | None


class HostAllocations:
    """Of all hosts, kept up to date by `sandboxes`."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._counted: dict[Key, _Counted] = {}
        self._taken: dict[str, Allocated] = {}
        for key in sandboxes:
            self._changed(key, sandboxes.get(key))
        sandboxes.follow(self._changed)

    def taken(self, host: str) -> Allocated:
        """What the sandboxes that are placed on the host may use."""
        return self._taken.get(host, Allocated())

    def _changed(self, key: Key, raw: Raw | None) -> None:
        before = self._counted.pop(key, None)
        if before is not None and before.demand is not None:
            left = self._taken[before.host].minus(before.demand)
            # By the count, not by the sums: a sandbox may ask for nothing.
            if left.sandboxes:
                self._taken[before.host] = left
            else:
                del self._taken[before.host]
        if raw is None or (host := host_of(raw)) is None or not _counts(raw):
            return
        version = raw["metadata"]["uid"], raw["metadata"].get("generation", 0), _tries(raw)
        demand = before.demand if before is not None and before.version == version else _demand(raw)
        self._counted[key] = _Counted(version, host, demand)
        if demand is not None:
            self._taken[host] = self.taken(host).plus(Allocated.by([demand]))


def placed_on(sandboxes: Sandboxes, host: str) -> Iterator[Raw]:
    """The sandboxes of a host, suspended ones too: they come back to where their workspace is."""
    for key in sandboxes.placed_on(host):
        raw = sandboxes.get(key)
        if raw is not None and _counts(raw):
            yield raw


def _counts(raw: Raw) -> bool:
    # One that is being deleted and was let go has nothing there any more.
    return is_held(raw) or not terminating(raw)


def _tries(raw: Raw) -> bool:
    """Whether another image is tried beside it."""
    canary = ((raw.get("status") or {}).get("image") or {}).get("canary")
    return bool(canary and not canary.get("endedAt"))


def _demand(raw: Raw) -> Requests | None:
    try:
        spec = parse_spec(raw)
        return beside_of(spec) if _tries(raw) else requests_of(spec)
    except InvalidSpec:
        return None
