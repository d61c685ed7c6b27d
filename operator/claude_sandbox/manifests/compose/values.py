"""Values of a Compose file, in the forms that it allows, as an engine has them. None: it can't be told."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

UNTOLD = "\ue000"
"""Stands in a text for a variable that Compose would put in, of the environment that it is run in."""
_VARIABLE = re.compile(r"\$(?:\$|\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = " kmgtp"


def interpolated(value: Any) -> Any:
    """The same with `$$` for what is a dollar, and a mark for each variable: `docker compose config` puts them in."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: "$" if match[0] == "$$" else UNTOLD, value)
    if isinstance(value, list):
        return [interpolated(one) for one in value]
    if isinstance(value, Mapping):
        return {key: interpolated(one) for key, one in value.items()}
    return value


def text(value: Any) -> str | None:
    """A text or a number, as Compose takes either."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return None if isinstance(value, str) and UNTOLD in value else str(value)


def texts(value: Any) -> list[str] | None:
    """A list of texts, or a single one. Nothing is an empty list."""
    if value is None:
        return []
    those = [text(one) for one in (value if isinstance(value, list) else [value])]
    return None if None in those else [one for one in those if one is not None]


def pairs(value: Any) -> list[tuple[str, Any]] | None:
    """`A: b` as well as `- A=b`; the value of what has none, which Compose takes from its own environment, is None."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(str(name), one) for name, one in value.items()]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return [(name, rest if equals else None) for name, equals, rest in (one.partition("=") for one in value)]


def truth(value: Any) -> bool | None:
    """What is left out is false."""
    return False if value is None else value if isinstance(value, bool) else None


def number(value: Any) -> int | None:
    """A whole number; one that is left out is 0, which for an engine is no limit."""
    if value is None:
        return 0
    try:
        return None if isinstance(value, bool) else int(str(value))
    except ValueError:
        return None


def size(value: Any) -> int | None:
    """Bytes: a number, or one with a unit, each 1024 of the one before. What is left out is 0."""
    if value is None:
        return 0
    match = _SIZE.fullmatch(str(value).strip())
    try:
        return None if isinstance(value, bool) or match is None else int(float(match[1]) * 1024 ** _power(match[2]))
    except OverflowError:
        return None


def nano_cpus(value: Any) -> int | None:
    """Billionths of a CPU. What is left out is 0."""
    if value is None:
        return 0
    try:
        return None if isinstance(value, bool) else int(float(str(value)) * 1e9)
    except (ValueError, OverflowError):
        return None


def bindings(ports: Any) -> dict[str, list[dict[str, str]]] | None:
    """What is published, as an engine has it: each port of the container with addresses and ports of the host."""
    found: dict[str, list[dict[str, str]]] = {}
    if not isinstance(ports, list | None):
        return None
    for port in ports or ():
        one = _port(port)
        if one is None:
            return None
        target, address, published = one
        found.setdefault(target, []).append({"HostIp": address, "HostPort": published})
    return found


def _port(port: Any) -> tuple[str, str, str] | None:
    if isinstance(port, Mapping):
        told = [text(port.get(key, other)) for key, other in _PORT]
        if None in told:
            return None
        target, published, address, protocol = (str(one) for one in told)
        return f"{target}/{protocol}", address, published
    short = text(port)
    if short is None:
        return None
    rest, _, protocol = short.partition("/")
    before, _, target = rest.rpartition(":")
    address, _, published = before.rpartition(":")
    if before and not published:
        address, published = before.rstrip(":"), ""
    return f"{target}/{protocol or 'tcp'}", address.strip("[]"), published


_PORT = (("target", None), ("published", ""), ("host_ip", ""), ("protocol", "tcp"))


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a list."""
    yield from (one for one in (value if isinstance(value, list) else ()) if isinstance(one, Mapping))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, where it has fields."""
    return value if isinstance(value, Mapping) else {}


def _power(unit: str) -> int:
    return _POWERS.index(unit.lower()) if unit else 0
