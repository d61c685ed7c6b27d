"""What a request's JSON body says at its top, read while it passes. Pure; keeps none of it but what is asked for.

A body may have 32 MB, and it is decided by a few of its fields. So it is not built up in memory: its tokens are
checked one after another against the grammar (RFC 8259) and forgotten. The grammar is kept to the letter, and a field
that decides may be there once: otherwise a second reader might see another value than this one did.
"""

import codecs
import json
import re
from dataclasses import dataclass, field

MAX_DEPTH = 200
"""Of objects and lists within one another."""
MAX_SHORT = 1024
"""Characters of a number, a key, or a string that is kept. Strings that are not kept may have any length."""
MAX_TYPES = 64
"""Of values of `type` that are noted, and of fields at the top."""

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_PART = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
# A string, a mark or a value of which what follows shows that it is whole.
_WHOLE = re.compile(
    rf'{_SPACE.pattern}(?:"({_STRING_PART.pattern})"|([{{}}\[\]:,])|({_SCALAR.pattern})(?=[ \t\n\r,\]}}]))'
)
_OPEN, _CLOSE = "open", "close"
# What a mark does where this is expected: an object or array begins or ends, or this is expected next.
_MOVES = {
    ("{", "{"): _OPEN, ("value", "{"): _OPEN, ("value", "["): _OPEN, ("value or ]", "{"): _OPEN,
    ("value or ]", "["): _OPEN, ("key or }", "}"): _CLOSE, (", or }", "}"): _CLOSE, ("value or ]", "]"): _CLOSE,
    (", or ]", "]"): _CLOSE, (":", ":"): "value", (", or }", ","): "key", (", or ]", ","): "value",
}  # fmt: skip
_STRINGS = ("value", "value or ]", "key", "key or }")

Scalar = str | int | float | bool | None


class JSONError(ValueError):
    """The body is no JSON object, or one that can be read in two ways. The message has nothing of the body."""


@dataclass(frozen=True)
class Scanned:
    """`fields`: those of the asked-for ones that are there; an object or array is given as `...`. `keys`: all keys at
    the top. `types`: the values of every key `type` at any depth, `...` among them where there were too many."""

    fields: dict[str, object] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()


class Scanner:
    """Takes a body's bytes in order, then says what it found. `wanted`: top-level fields that are kept, once each."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text = ""
        self._stack: list[str] = []
        self._expect = "{"
        self._string: list[str] | None = None
        self._kept = 0
        self._key: list[str] = [""]
        self._fields: dict[str, object] = {}
        self._keys: set[str] = set()
        self._types: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Take further bytes. Raises JSONError as soon as they can't be part of what is wanted."""
        try:
            self._text += self._decoder.decode(data)
        except UnicodeDecodeError:
            raise JSONError("the body is not UTF-8") from None
        self._scan(final=False)

    def finish(self) -> Scanned:
        """The body is over. Raises JSONError where it is not whole."""
        try:
            self._text += self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise JSONError("the body is not UTF-8") from None
        self._scan(final=True)
        if self._expect != "end" or self._text:
            raise JSONError("the body is cut off")
        return Scanned(self._fields, frozenset(self._keys), frozenset(self._types))

    def _scan(self, *, final: bool) -> None:
        text, at = self._text, 0
        while True:
            if self._string is None:
                at = self._whole(text, at)
            moved = self._in_string(text, at) if self._string is not None else self._token(text, at, final)
            if moved is None:
                break
            at = moved
        self._text = text[at:]
        # Of strings nothing is kept here, so what is left over is a number without an end.
        if len(self._text) > MAX_SHORT + 8:
            raise JSONError("a number is too long")

    def _whole(self, text: str, at: int) -> int:
        """Take what is there as a whole, as nearly all is: the rest is for `_token`."""
        match = _WHOLE.match
        while (found := match(text, at)) is not None:
            at = found.end()
            kind = found.lastindex
            if kind == 2:
                self._structure(found[2])
            elif kind == 1:
                if self._expect not in _STRINGS:
                    raise JSONError("a string is where none can be")
                start, end = found.span(1)
                self._value_of_string(_read(text[start:end]) if end - start <= MAX_SHORT else None)
            else:
                self._scalar(found[3])
        return at

    def _in_string(self, text: str, at: int) -> int | None:
        """Take what there is of a string. Its end, or None where more is needed (what was taken is noted)."""
        part = _STRING_PART.match(text, at)
        assert part is not None  # noqa: S101  # it matches the empty string
        assert self._string is not None  # noqa: S101
        end = part.end()
        self._keep(part.group())
        if end < len(text) and text[end] == '"':
            whole, self._string = "".join(self._string), None
            self._value_of_string(_read(whole) if self._kept <= MAX_SHORT else None)
            return end + 1
        # Only an escape that is cut off may be waited for.
        if end < len(text) and (text[end] != "\\" or len(text) - end >= 6):
            raise JSONError("a string is malformed")
        if end == at:
            return None
        return end

    def _keep(self, part: str) -> None:
        self._kept += len(part)
        if self._string is not None and self._kept <= MAX_SHORT:
            self._string.append(part)

    def _token(self, text: str, at: int, final: bool) -> int | None:
        space = _SPACE.match(text, at)
        assert space is not None  # noqa: S101
        at = space.end()
        if at >= len(text):
            return None if at == len(text) and space.start() == at else at
        mark = text[at]
        if mark == '"':
            if self._expect not in _STRINGS:
                raise JSONError("a string is where none can be")
            self._string, self._kept = [], 0
            return at + 1
        if mark in "{}[]:,":
            self._structure(mark)
            return at + 1
        word = _WORD.match(text, at)
        assert word is not None  # noqa: S101
        if word.end() == len(text) and not final:
            # Whether it goes on is not known. What is so long already goes nowhere.
            return None if space.start() == at else at
        self._scalar(word.group())
        return word.end()

    def _scalar(self, word: str) -> None:
        if self._expect not in ("value", "value or ]"):
            raise JSONError("a value is where none can be")
        if not _SCALAR.fullmatch(word) or len(word) > MAX_SHORT:
            raise JSONError("a value is malformed")
        self._value(json.loads(word))

    def _structure(self, mark: str) -> None:
        move = _MOVES.get((self._expect, mark))
        if move is None:
            raise JSONError("the body is no JSON object")
        if move == _OPEN:
            self._open(mark)
        elif move == _CLOSE:
            self._close()
        else:
            self._expect = move

    def _open(self, mark: str) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise JSONError("the body is nested too deeply")
        if len(self._stack) == 1:
            self._field(...)
        self._stack.append(mark)
        self._key.append("")
        self._expect = "key or }" if mark == "{" else "value or ]"

    def _close(self) -> None:
        self._stack.pop()
        self._key.pop()
        self._after_value()

    def _after_value(self) -> None:
        self._expect = "end" if not self._stack else ", or }" if self._stack[-1] == "{" else ", or ]"

    def _value_of_string(self, value: str | None) -> None:
        """A string has ended; None stands for one that is too long to be kept."""
        if self._expect in ("key", "key or }"):
            if value is None:
                raise JSONError("a key is too long")
            self._key[-1] = value
            if len(self._stack) == 1:
                self._new_top_key(value)
            self._expect = ":"
            return
        if self._stack[-1] == "{" and self._key[-1] == "type":
            self._types.add("..." if value is None or len(self._types) >= MAX_TYPES else value)
        self._value("..." if value is None else value)

    def _new_top_key(self, key: str) -> None:
        if key in self._keys:
            raise JSONError("a field at the top is there twice")
        if len(self._keys) >= MAX_TYPES:
            raise JSONError("there are too many fields at the top")
        self._keys.add(key)

    def _value(self, value: Scalar) -> None:
        if len(self._stack) == 1:
            self._field(value)
        self._after_value()

    def _field(self, value: object) -> None:
        if self._key[-1] in self._wanted:
            self._fields[self._key[-1]] = value


def _read(inside: str) -> str:
    """The string that has this between its quotes."""
    if "\\" not in inside:
        return inside
    found: str = json.loads(f'"{inside}"')
    return found
