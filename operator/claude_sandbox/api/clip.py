"""Texts of bounded length that a terminal shows as they are, whatever a hostile program put into them."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

ELLIPSIS = "…"


def plain(text: str) -> str:
    """The text with everything that is not seen as itself written as Python writes it (`\\x1b`, `\\u202e`, `\\udcff`).

    That is what Unicode's categories Other (control and format characters, halves of pairs, what is not assigned) and
    Separator hold, but for the space: what moves a cursor, turns the direction of writing, or ends a line.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def clip(text: str, limit: int) -> str:
    """The text as `plain` has it, cut with an ellipsis where it would take more than `limit` bytes as JSON.

    Bytes as the API server writes them: UTF-8, with quotes and `<>&` escaped. Takes a time that goes with `limit`,
    however long the text is.
    """
    # Each character takes a byte at least: what is behind so many is not seen, and not to be kept in the cache either.
    return _clipped(text[: limit + 1], limit)


@lru_cache(maxsize=8192)
def _clipped(text: str, limit: int) -> str:
    text = plain(text)
    if _size(text) <= limit:
        return text
    room = limit - len(ELLIPSIS.encode())
    end = 0
    for character in text:
        room -= _size(character)
        if room < 0:
            break
        end += 1
    return text[:end].rstrip() + ELLIPSIS


@dataclass(frozen=True)
class Clip:
    """Marks a text of a model as clipped to `limit` bytes."""

    limit: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(lambda text: clip(text, self.limit), handler(source))


# What Go's encoding/json escapes and Python's json does not, with the bytes that the escape takes more.
_ESCAPED = {b"<": 5, b">": 5, b"&": 5, "\u2028".encode(): 3, "\u2029".encode(): 3}


def _size(text: str) -> int:
    encoded = json.dumps(text, ensure_ascii=False).encode(errors="replace")
    return len(encoded) - 2 + sum(encoded.count(character) * more for character, more in _ESCAPED.items())
