"""The DockerHosts as last seen.

Theory of operation. Holds the objects whole, by name: an administrator writes them, and there are few. Always true: of
one host only a newer version replaces a version, whether a watch, a list or the answer to a write of ours brings it; an
object that was put is never changed. Called on the event loop, by kopf's handler, the list of each round and the
passes; no call awaits. A crash forgets them, and a process that starts lists them before any work.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from claude_sandbox.controller.machinery.resource_versions import not_newer

Raw = Mapping[str, Any]


class DockerHosts:
    """All DockerHosts, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Raw] = {}
        self._followers: list[Callable[[str, Raw | None], None]] = []

    def follow(self, changed: Callable[[str, Raw | None], None]) -> None:
        """Have `changed` called with each host as it is since, None where it is gone."""
        self._followers.append(changed)

    def _tell(self, name: str, now: Raw | None) -> None:
        for changed in self._followers:
            changed(name, now)

    def get(self, name: str) -> Raw | None:
        """The host as last seen."""
        return self._by_name.get(name)

    def put(self, raw: Raw) -> bool:
        """Remember an object; False where this version or a newer one was known (by our own write)."""
        metadata = raw["metadata"]
        known = self._by_name.get(metadata["name"])
        if known is not None and not_newer(metadata, known["metadata"]):
            return False
        self._by_name[metadata["name"]] = raw
        self._tell(metadata["name"], raw)
        return True

    def learn(self, written: Raw) -> None:
        """Remember the answer to a write of ours, unless that very host was deleted while it was on its way."""
        known = self._by_name.get(written["metadata"]["name"])
        if known is not None and known["metadata"]["uid"] == written["metadata"]["uid"]:
            self.put(written)

    def lose(self, raw: Raw) -> bool:
        """Forget a host that is gone; False where another of its name is known by now."""
        known = self._by_name.get(raw["metadata"]["name"])
        if known is None or known["metadata"]["uid"] != raw["metadata"]["uid"]:
            return False
        del self._by_name[raw["metadata"]["name"]]
        self._tell(raw["metadata"]["name"], None)
        return True

    def uids(self) -> dict[str, str]:
        """The UID of each: to be asked for before a list is, which is then taken over with this."""
        return {name: raw["metadata"]["uid"] for name, raw in self._by_name.items()}

    def take_over(self, listed: Iterable[Raw], before: Mapping[str, str]) -> set[str]:
        """Take over a complete list; the names of those that came, went or changed.

        `before`: `uids()` when the list was asked for. What the watch told of meanwhile is newer than the list: who
        came is not gone, and who went has not come.
        """
        fresh = {raw["metadata"]["name"]: raw for raw in listed}
        known = self.uids()
        gone = {name for name in before.keys() - fresh.keys() if known.get(name) == before[name]}
        for name in gone:
            del self._by_name[name]
            self._tell(name, None)
        # Who was there before, and is not now or is another, went while the list was on its way.
        went = {name for name, uid in before.items() if known.get(name) != uid}
        came = (raw for name, raw in fresh.items() if name not in went or raw["metadata"]["uid"] != before[name])
        return gone | {raw["metadata"]["name"] for raw in came if self.put(raw)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)
