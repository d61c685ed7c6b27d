"""A document that an engine wrote, looked at. What it does not tell is None, unless engines leave it out when empty."""

from collections.abc import Mapping
from typing import Any

from claude_sandbox.compliance.evidence.readings import Object

_ABSENT = object()


class Document:
    """One document.

    A field of another type than the engine's counts as absent. Where the engine writes null for an empty list or map,
    null is empty. `omissible` marks what it leaves out when it is empty, in every version from 20.10 on.
    """

    def __init__(self, document: Object) -> None:
        self.document = document

    def flag(self, path: str) -> bool | None:
        value = self._at(path)
        return value if isinstance(value, bool) else None

    def number(self, path: str) -> int | None:
        """Null is 0, as for the engine."""
        value = self._at(path)
        if value is None:
            return 0
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, path: str) -> str | None:
        value = self._at(path)
        return value if isinstance(value, str) else None

    def strings(self, path: str, *, omissible: bool = False) -> tuple[str, ...] | None:
        return self._items(path, str, omissible)

    def objects(self, path: str, *, omissible: bool = False) -> tuple[Object, ...] | None:
        return self._items(path, Mapping, omissible)

    def mapping(self, path: str, *, omissible: bool = False) -> Object | None:
        value = self._at(path)
        if value is None or (omissible and self._left_out(path)):
            return {}
        return value if isinstance(value, Mapping) else None

    def tells(self, path: str) -> bool:
        """Whether there is a value other than null."""
        return self._at(path) not in (_ABSENT, None)

    def _at(self, path: str) -> Any:
        value: Any = self.document
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return _ABSENT
            value = value[key]
        return value

    def _left_out(self, path: str) -> bool:
        """Whether the object that the field belongs to is there, and the field is not."""
        parent, _, key = path.rpartition(".")
        owner = self._at(parent) if parent else self.document
        return isinstance(owner, Mapping) and key not in owner

    def _items(self, path: str, kind: type, omissible: bool) -> tuple[Any, ...] | None:
        value = self._at(path)
        if value is None or (omissible and self._left_out(path)):
            return ()
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            return None
        return tuple(value)
