"""A part of a file that is changed: what is done to it, and said of it.

An edit sets what has to be so and removes what must not be. It changes nothing that is right already, and nothing that
it can't know: which mounts, variables and networks a program needs is for whoever wrote them to say.
"""

from collections.abc import Callable, MutableMapping, MutableSequence
from dataclasses import dataclass, field
from typing import Any

Object = MutableMapping[str, Any]


@dataclass
class Edit:
    """One thing that would run, as it is in the file, and what was changed of it, for one control at a time."""

    value: Object
    changes: list[str] = field(default_factory=list)

    def set(self, of: Object, where: str, key: str, value: Any) -> None:
        """Have a field of `of`, which is called `where`, be `value`."""
        if key not in of or of[key] != value or (isinstance(value, bool) and of[key] is not value):
            of[key] = value
            self.changes.append(f"{_path(where, key)}: {_shown(value)}")

    def remove(self, of: Object, where: str, key: str) -> None:
        """Have a field not be there."""
        if of.get(key) is not None:
            del of[key]
            if of.get(key) is not None:
                # It is merged into it from elsewhere (`<<: *defaults`), where others may have it from too.
                of[key] = None
            self.changes.append(f"{_path(where, key)} removed")

    def keep(self, of: Object, where: str, key: str, good: Callable[[Any], bool]) -> None:
        """Have only those items in a list, or only those keys in a mapping, that are good; nothing if none is."""
        those = of.get(key)
        if isinstance(those, MutableSequence):
            wrong = [one for one in those if not good(one)]
            for number in reversed([number for number, one in enumerate(those) if not good(one)]):
                del those[number]
        elif isinstance(those, MutableMapping):
            wrong = [one for one in those if not good(one)]
            for one in wrong:
                del those[one]
        else:
            return
        if wrong:
            self.changes.append(f"{_path(where, key)}: {len(wrong)} removed")
        if wrong and not those:
            of.pop(key, None)

    def below(self, of: Object, key: str) -> Object:
        """The mapping in a field; one is made where there is none."""
        if not isinstance(of.get(key), MutableMapping):
            of[key] = {}
        found: Object = of[key]
        return found


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, MutableMapping):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    return str(value)


def mapping(value: Any) -> Object:
    """The value, where it has fields; else one without any."""
    return value if isinstance(value, MutableMapping) else {}


def mappings(value: Any) -> list[Object]:
    """The objects in a list."""
    return [one for one in value if isinstance(one, MutableMapping)] if isinstance(value, MutableSequence) else []
