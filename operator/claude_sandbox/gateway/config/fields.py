"""Reads fields of a JSON document, strictly: what is unknown, missing or of another kind is named with its remedy."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, TypeVar

from claude_sandbox.gateway.config.bundle import BundleError, certificates
from claude_sandbox.gateway.destinations.addresses import Network

T = TypeVar("T")
# As in a ClaudeSandbox's spec.budget: not all that Decimal reads, and no more digits than nano-USD have.
_USD = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?")
_WINDOW = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ConfigError(ValueError):
    """A field is wrong. The message names it and says what to write; it never has the value of a secret."""

    def __init__(self, field: str, remedy: str) -> None:
        super().__init__(f"{field}: {remedy}")
        self.field = field
        self.remedy = remedy


class Fields:
    """The fields of one JSON object. Each is asked for once; `end` refuses what nobody asked for."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(path or "the document", "write a JSON object, {…}")
        self._left = dict(value)
        self._path = path

    def path(self, name: str) -> str:
        """How a field is named in messages."""
        return f"{self._path}.{name}" if self._path else name

    def text(self, name: str, default: str | None = None, *, pattern: str = r"[^\x00-\x1f\x7f]+") -> str:
        """A string that the pattern matches whole."""
        found = self._take(name, str, "a string", default)
        if default is not None and found == default:
            return found
        if not re.fullmatch(pattern, found):
            raise ConfigError(self.path(name), f"write what matches {pattern}")
        return found

    def optional(self, name: str, pattern: str = r"[^\x00-\x1f\x7f]+") -> str | None:
        """A string, or None where it is not there."""
        return self.text(name, pattern=pattern) if self.has(name) else None

    def certificates(self, name: str) -> str | None:
        """Certificates in PEM, or None where it is not there."""
        if not self.has(name):
            return None
        try:
            return certificates(self._take(name, str, "certificates in PEM", None))
        except BundleError as error:
            raise ConfigError(self.path(name), str(error)) from None

    def number(self, name: str, default: int | None, low: int, high: int) -> int:
        """A whole number within these bounds."""
        found = self._take(name, int, f"a whole number from {low} to {high}", default)
        # To Python, true is a number.
        if isinstance(found, bool) or not low <= found <= high:
            raise ConfigError(self.path(name), f"write a whole number from {low} to {high}")
        return found

    def choice(self, name: str, default: str | None, *choices: str) -> str:
        """One of these strings."""
        found = self._take(name, str, f"one of {', '.join(choices)}", default)
        if found not in choices:
            raise ConfigError(self.path(name), f"write one of {', '.join(choices)}")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._take(name, bool, "true or false", default)

    def usd(self, name: str) -> Decimal | None:
        """An amount in USD as a string, or None where it is not there."""
        text = self.optional(name)
        if text is None:
            return None
        if not _USD.fullmatch(text) or not Decimal(text):
            raise ConfigError(self.path(name), 'write an amount in USD above 0 as a string, for example "20" or "0.50"')
        return Decimal(text)

    def duration(self, name: str) -> float | None:
        """A length of time such as 24h, in seconds, or None where it is not there.

        Written as in a spec (`api/fields/lifecycle.py`), of which the gateway, a program of its own, knows nothing.
        """
        text = self.optional(name)
        if text is None:
            return None
        found = _WINDOW.fullmatch(text)
        if not found:
            raise ConfigError(self.path(name), "write a number and s, m, h or d, for example 24h")
        return float(int(found[1]) * _SECONDS[found[2]])

    def items(self, name: str) -> Iterator[tuple[Any, str]]:
        """The items of a list with the names that they have in messages; none where it is not there."""
        found = self._take(name, list, "a list, […]", [])
        return ((item, f"{self.path(name)}[{index}]") for index, item in enumerate(found))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        found = tuple(self.items(name))
        for item, path in found:
            if not isinstance(item, str) or not item:
                raise ConfigError(path, "write a string")
        return tuple(item for item, _ in found)

    def networks(self, name: str) -> tuple[Network, ...]:
        """A list of networks, as in 10.0.0.0/8."""
        networks = []
        for index, text in enumerate(self.texts(name)):
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise ConfigError(
                    f"{self.path(name)}[{index}]", "write a network with no bits of hosts, as in 10.0.0.0/8"
                ) from None
        return tuple(networks)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object whose keys are free; empty where it is not there."""
        return dict(self._take(name, dict, "a JSON object, {…}", {}))

    def inner(self, name: str, read: Callable[["Fields"], T]) -> T:
        """An object within; an empty one where it is not there."""
        return read_object(self._take(name, dict, "a JSON object, {…}", {}), self.path(name), read)

    def inner_open(self, name: str) -> "Fields":
        """An object within of which not every field is asked for; an empty one where it is not there."""
        return Fields(self._take(name, dict, "a JSON object, {…}", {}), self.path(name))

    def has(self, name: str) -> bool:
        """Whether the field is there, and not null, which is as if it were not."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return False
        return True

    def end(self) -> None:
        """Refuse what is left."""
        for name in self._left:
            raise ConfigError(self.path(name), "there is no such field: remove it, or mend its spelling")

    def _take(self, name: str, kind: type[T], what: str, default: T | None) -> T:
        value = self._left.pop(name, None)
        if value is None:
            if default is None:
                raise ConfigError(self.path(name), f"it is missing: write {what}")
            return default
        if not isinstance(value, kind):
            raise ConfigError(self.path(name), f"write {what}")
        return value


def read_object(value: Any, path: str, read: Callable[[Fields], T]) -> T:
    """Read one object with a function, and refuse what the function didn't ask for."""
    fields = Fields(value, path)
    found = read(fields)
    fields.end()
    return found
