"""The text of a file, in parts that can be read, changed and written back with their comments and order."""

import io
import json
import re
from collections.abc import MutableMapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from claude_sandbox.manifests.documents import is_json, parts

_SEQUENCE = re.compile(r"(?m)^( *)(?:- )*[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)- ")
_MAPPING = re.compile(r"(?m)^( *)[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)[^\s#-]")


class UnwritableError(Exception):
    """A part that can't be written back as it is."""


class Written:
    """A file's text. Parts that are not changed stay as they are, to the byte."""

    def __init__(self, text: str) -> None:
        self._is_json = is_json(text) and _is_whole(text)
        self._parts = _values(text) if self._is_json else [part for _, part in parts(text)]
        self._read: dict[int, Any] = {}
        self._changed: set[int] = set()

    def at(self, path: tuple[str | int, ...]) -> MutableMapping[str, Any]:
        """What is there. Raises UnwritableError."""
        number, *keys = path
        value = self._value(int(number))
        try:
            for key in keys:
                value = value[key]
        except (KeyError, IndexError, TypeError):
            raise UnwritableError from None
        if not isinstance(value, MutableMapping):
            raise UnwritableError
        return value

    def change(self, path: tuple[str | int, ...]) -> None:
        """Have the part written anew."""
        self._changed.add(int(path[0]))

    def text(self) -> str:
        """The whole text, as it is now."""
        shown = [self._shown(number, part) for number, part in enumerate(self._parts)]
        return "\n".join(shown) + "\n" if self._is_json else "".join(shown).lstrip("\n")

    def _value(self, number: int) -> Any:
        if number not in self._read:
            part = self._parts[number]
            try:
                self._read[number] = json.loads(part) if self._is_json else _yaml(part).load(part)
            except (YAMLError, ValueError, RecursionError, NotImplementedError):
                raise UnwritableError from None
        return self._read[number]

    def _shown(self, number: int, part: str) -> str:
        if number not in self._changed:
            return part
        if self._is_json:
            return json.dumps(self._read[number], indent=2, ensure_ascii=False)
        stream = io.StringIO()
        _yaml(part).dump(self._read[number], stream)
        found = stream.getvalue()
        return found.replace("\n", "\r\n") if "\r\n" in part else found


def _yaml(part: str) -> YAML:
    """One that writes as the part is written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.explicit_start = part.startswith("---")
    plain = part.replace("\r\n", "\n")
    sequence, mapping = _SEQUENCE.search(plain), _MAPPING.search(plain)
    offset = max(len(sequence[2]) - len(sequence[1]), 0) if sequence else 0
    depth = max(len(mapping[2]) - len(mapping[1]), 2) if mapping else 2
    yaml.indent(mapping=depth, sequence=offset + 2, offset=offset)
    return yaml


def _is_whole(text: str) -> bool:
    try:
        _values(text)
    except (ValueError, RecursionError):
        return False
    return True


def _values(text: str) -> list[str]:
    """The JSON values in it, each as its text. Raises ValueError."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while rest := text[position:].lstrip():
        begins = len(text) - len(rest)
        _, position = decoder.raw_decode(text, begins)
        found.append(text[begins:position])
    return found
