"""What a body of which all is there says at its top, by the standard library, which is many times as fast. Pure.

The standard library takes more than `Scanner` does. So what it finds counts only where the two can't differ; wherever
they might, and to refuse a body, the scanner decides.
"""

import json
from typing import Any, NoReturn

from claude_sandbox.gateway.http.json_scan import MAX_DEPTH, MAX_SHORT, MAX_TYPES, Scanned, Scanner

_SURELY_SHORT = MAX_SHORT // 12
"""Characters of a string that has no more than `MAX_SHORT` as it is written, whatever its escapes (`\\ud83d\\ude00`
is one character)."""


def scan(data: bytes, wanted: frozenset[str]) -> Scanned:
    """A whole body. Raises JSONError. What a Scanner finds in it, and refuses what that refuses."""
    found = _read_at_once(data, wanted)
    if found is None:
        scanner = Scanner(wanted)
        scanner.feed(data)
        found = scanner.finish()
    return found


class _DoubtError(ValueError):
    """Here the standard library takes more than a Scanner, or might."""


def _read_at_once(data: bytes, wanted: frozenset[str]) -> Scanned | None:
    """By the standard library; None where the body is refused, or where only a Scanner can tell.

    An object becomes a tuple with its depth, which nothing else in JSON is; of the last, the outermost one, its pairs
    are looked at in the end.
    """
    types: set[str] = set()
    top: list[tuple[str, Any]] = []

    def pairs(found: list[tuple[str, Any]]) -> tuple[int]:
        nonlocal top
        top, below = found, 0
        for key, value in found:
            if len(key) > _SURELY_SHORT:
                raise _DoubtError
            if type(value) is str:
                if key == "type":
                    types.add(_short(value))
            elif type(value) is tuple or type(value) is list:
                below = max(below, _depth(value))
        return (below + 1,)

    try:
        whole = json.JSONDecoder(
            object_pairs_hook=pairs, parse_int=_int, parse_float=_float, parse_constant=_constant
        ).decode(data.decode())
        # Where the scanner has bounds, it decides itself: it refuses, or notes that there was more.
        if type(whole) is not tuple or whole[0] > MAX_DEPTH or len(types) >= MAX_TYPES or len(top) > MAX_TYPES:
            return None
        fields = {key: _top(value) for key, value in top if key in wanted}
    except (ValueError, RecursionError):
        return None
    keys = frozenset(key for key, _ in top)
    return Scanned(fields, keys, frozenset(types)) if len(keys) == len(top) else None


def _depth(value: object) -> int:
    if type(value) is tuple:
        depth: int = value[0]
        return depth
    return 1 + max(map(_depth, value), default=0) if type(value) is list else 0


def _top(value: object) -> object:
    if type(value) is tuple or type(value) is list:
        return ...
    return _short(value) if type(value) is str else value


def _short(value: str) -> str:
    if len(value) > _SURELY_SHORT:
        raise _DoubtError
    return value


def _int(text: str) -> int:
    return int(_number(text))


def _float(text: str) -> float:
    return float(_number(text))


def _number(text: str) -> str:
    if len(text) > MAX_SHORT:
        raise _DoubtError
    return text


def _constant(_: str) -> NoReturn:
    raise _DoubtError
