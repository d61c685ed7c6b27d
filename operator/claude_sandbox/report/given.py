"""What a document has, whatever it is that it has there: a status may have been written by anybody."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from claude_sandbox.api import meta
from claude_sandbox.api.clip import clip

MAX_TEXT = 1024
"""Bytes of a text; the longest in a status has 384."""

Word = TypeVar("Word", bound=StrEnum)
Default = TypeVar("Default")

_NAME = re.compile("[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class NotASandboxError(Exception):
    """The document is no ClaudeSandbox, or DockerHost, that an API server could have; the message says why."""


def fields(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part that is an object; an empty one where it is none."""
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def items(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    """A part that is a list; an empty one where it is none."""
    found = document.get(name)
    return found if isinstance(found, list) else []


def objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a part that is a list."""
    return [one for one in items(document, name) if isinstance(one, Mapping)]


def text(value: Any) -> str:
    """A word or a number as a text that shows as itself, of bounded length; empty for anything else."""
    if isinstance(value, datetime):
        value = value.isoformat()
    return clip(str(value), MAX_TEXT) if isinstance(value, str | int | float) else ""


def number(value: Any) -> int:
    """A whole number; -1 for anything else."""
    return value if type(value) is int else -1


def choice(words: type[Word], value: Any, default: Default) -> Word | Default:
    """A word of a set; `default` for anything else."""
    try:
        return words(value)
    except ValueError:
        return default


def time(value: Any) -> datetime | None:
    """YAML makes a time of what looks like one."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(found, datetime):
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)


def name(metadata: Mapping[str, Any], key: str, kind: str = meta.KIND) -> str:
    """A name that the API server would take. Raises NotASandboxError for any other."""
    value = metadata.get(key)
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise NotASandboxError(f"metadata.{key} of a {kind} is {clip(repr(value), 80)}, which is no name of one")
