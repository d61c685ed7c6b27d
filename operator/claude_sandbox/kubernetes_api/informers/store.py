"""An in-memory copy of the objects of one kind, by name and by whatever else they are looked up with.

Theory of operation. It holds each object once, by namespace and name, and for each index the objects under each value
that the index function gave for them. What is handed out is what is held, without a copy: nobody may change an object
that is in a store, or it would be left under values that it no longer has. So a thread may read objects that it was
given, while the store itself is for one event loop. Every call leaves the indexes whole: nothing in it awaits, and what
an index function raises, for an object of a shape that it does not know, leaves the store as it was. A crash loses all.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

Obj = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for objects of the cluster) and name."""

IndexFunction = Callable[[Obj], Iterable[Hashable]]
"""The values under which an object is found. Must depend on nothing but the object."""

Change = tuple[Obj | None, Obj | None]
"""The object before and after; None where it did not exist."""

BY_NAMESPACE = "namespace"
BY_OWNER = "owner"


def key_of(obj: Obj) -> Key:
    """Where an object is kept."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def controller_uid(obj: Obj) -> str | None:
    """The UID of the object's controller, by its ownerReferences."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            uid: str = reference["uid"]
            return uid
    return None


def _namespaces(obj: Obj) -> Iterable[Hashable]:
    return (obj["metadata"].get("namespace") or "",)


def _owners(obj: Obj) -> Iterable[Hashable]:
    uid = controller_uid(obj)
    return () if uid is None else (uid,)


class Store:
    """Objects are immutable by agreement: the store hands out the ones it holds, without a copy."""

    def __init__(self, indexes: Mapping[str, IndexFunction] | None = None) -> None:
        self._objects: dict[Key, Obj] = {}
        self._functions: dict[str, IndexFunction] = {
            BY_NAMESPACE: _namespaces,
            BY_OWNER: _owners,
            **(indexes or {}),
        }
        self._indexes: dict[str, dict[Hashable, dict[Key, Obj]]] = {name: {} for name in self._functions}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Obj]:
        # A copy of the list, not of the objects: who iterates may let others have the loop, and they change the store.
        return iter(tuple(self._objects.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def keys(self) -> tuple[Key, ...]:
        """The keys of all objects."""
        return tuple(self._objects)

    def get(self, namespace: str | None, name: str) -> Obj | None:
        """One object, None where there is none."""
        return self._objects.get((namespace or "", name))

    def by_namespace(self, namespace: str) -> tuple[Obj, ...]:
        """The objects of one namespace."""
        return self.by_index(BY_NAMESPACE, namespace)

    def by_owner(self, uid: str) -> tuple[Obj, ...]:
        """The objects whose controller has this UID."""
        return self.by_index(BY_OWNER, uid)

    def by_index(self, index: str, value: Hashable) -> tuple[Obj, ...]:
        """The objects that the index function `index` put under `value`. Raises KeyError for an unknown index."""
        found = self._indexes[index].get(value)
        # A copy, for the same reason as in `__iter__`.
        return tuple(found.values()) if found else ()

    def index_values(self, index: str) -> tuple[Hashable, ...]:
        """The values of an index under which there is an object."""
        return tuple(self._indexes[index])

    def put(self, obj: Obj) -> Obj | None:
        """Add or replace an object; the one before."""
        key = key_of(obj)
        # All of them before anything is changed: an object is somebody else's, and a function may raise for it.
        found = {name: frozenset(function(obj)) for name, function in self._functions.items()}
        old = self._objects.get(key)
        self._objects[key] = obj
        for name, function in self._functions.items():
            index, values = self._indexes[name], found[name]
            if old is not None:
                # Computed once more: what is held is not changed, so it is what was given then.
                for value in function(old):
                    if value not in values:
                        _discard(index, value, key)
            for value in values:
                index.setdefault(value, {})[key] = obj
        return old

    def remove(self, key: Key) -> Obj | None:
        """Forget an object; the one before."""
        old = self._objects.pop(key, None)
        if old is not None:
            for name, function in self._functions.items():
                for value in function(old):
                    _discard(self._indexes[name], value, key)
        return old

    def replace(self, objects: Iterable[Obj]) -> list[Change]:
        """Hold exactly these objects; what changed. An object with the same uid and resourceVersion has not."""
        changes: list[Change] = []
        seen: set[Key] = set()
        for obj in objects:
            key = key_of(obj)
            seen.add(key)
            old = self._objects.get(key)
            if old is None or not same_version(old, obj):
                self.put(obj)
                changes.append((old, obj))
        for key in self._objects.keys() - seen:
            changes.append((self.remove(key), None))
        return changes


def version_of(obj: Obj) -> int:
    """The resourceVersion. Those of one kind can be compared (KEP-5504; with etcd they always could)."""
    return int(obj["metadata"]["resourceVersion"])


def same_version(a: Obj, b: Obj) -> bool:
    """Whether both are the same state of the same object."""
    one, other = a["metadata"], b["metadata"]
    return bool(one.get("resourceVersion") == other.get("resourceVersion") and one.get("uid") == other.get("uid"))


def _discard(index: dict[Hashable, dict[Key, Obj]], value: Hashable, key: Key) -> None:
    entries = index.get(value)
    if entries is not None:
        entries.pop(key, None)
        # Or there would be an entry for ever for what is long gone.
        if not entries:
            del index[value]
