"""Whether what runs has a credential in a variable or in its command line. Pure; never for a spec, but for what runs.

By all signs: those that a spec is refused for (`leaks`, `command_lines`), and those for which a schema has no room.
"""

import base64
import binascii
import json
import re
import shlex
from collections.abc import Iterator, Sequence

from claude_sandbox.api.credentials import addresses, command_lines, leaks, named, options, shapes
from claude_sandbox.api.credentials.words import parted

_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
_IS_LINE = re.compile(r"(?:OPTS|OPTIONS|ARGS|ARGUMENTS|FLAGS|PARAMS|CMD|COMMAND)$", re.IGNORECASE)
# As a shell needs a blank in a word, and as headers are lined up.
_BLANKS = re.compile(r"(?:\\?[ \t])+")
_LONGEST_DECODED = 100_000
_DEEPEST = 20


def shows_credential(text: str) -> bool:
    """Whether the text has one in it, as it is or in Base64."""
    if leaks.looks_like_credential(text) or shapes.shows(text) or addresses.holds_credential(text):
        return True
    if ("earer" in text or "asic" in text) and leaks.looks_like_credential(_BLANKS.sub(" ", text)):
        return True
    decoded = _decoded(text)
    return bool(decoded) and (leaks.looks_like_credential(decoded) or shapes.shows(decoded))


def variable_holds_credential(name: str, value: str) -> bool:
    """Whether a variable holds a credential, by its name, by its value or by both."""
    by_name = named.holds_credential(name, value) or (
        name.upper().endswith(("HEADER", "HEADERS")) and options.header_holds(value)
    )
    if by_name or shows_credential(value) or _json_holds(value):
        return True
    return not leaks.NO_ASSIGNMENT.holds(value) or _options_hold(name, value)


def command_line_holds_credential(words: Sequence[str]) -> bool:
    """Whether a list of arguments has a credential in one of them, or after an option."""
    in_one = any(shows_credential(word) or _json_holds(word) for word in words) or not all(
        map(leaks.NO_ASSIGNMENT.holds, options.without_names(words))
    )
    return in_one or any(map(addresses.holds_credential, parted(words))) or _takes(words)


def _takes(words: Sequence[str]) -> bool:
    return command_lines.takes_credential(words) or options.takes_credential(words)


def _options_hold(name: str, value: str) -> bool:
    """Whether a variable with options of a program has a credential among them."""
    is_line = _IS_LINE.search(name)
    if is_line is None and not value.startswith("-"):
        return False
    try:
        words = shlex.split(value) if len(value) <= _LONGEST_DECODED else value.split()
    except ValueError:
        words = value.split()
    # What a short option means its program says, and which that is, the variable's name: CURL_OPTS, REDIS_CLI_ARGS.
    parts = _IS_LINE.sub("", name).strip("_").lower().split("_") if value.startswith("-") else []
    return _takes(["-".join(parts), *parts, *words])


def _decoded(text: str) -> str:
    if len(text) > _LONGEST_DECODED or not _BASE64.fullmatch(text.strip()):
        return ""
    try:
        return base64.b64decode(text.strip() + "==").decode()
    except (binascii.Error, ValueError):
        return ""


def _json_holds(text: str) -> bool:
    """Whether a document in JSON has a credential by the name of what has it."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return any(_field_holds(parent, name, value) for parent, name, value in _fields(document, "")) or any(
        _takes(words) for words in _lists(document)
    )


def _field_holds(parent: str, name: str, value: str) -> bool:
    if value.startswith(("$", "{{", "<", "@", "%%", "ENC[")) or "${" in value:
        return False
    if addresses.holds_credential(value):
        return True
    return named.holds_credential(name, value) or (
        parent.lower().endswith("headers") and options.header_holds(f"{name}: {value}")
    )


def _fields(document: object, parent: str, depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """Each text of a document with the name of its field and that of the one above, however deep."""
    if depth > _DEEPEST:
        return
    if isinstance(document, dict):
        named_by, called = document.get("name"), document.get("value")
        if isinstance(named_by, str) and isinstance(called, str):
            yield parent, named_by, called
        for name, value in document.items():
            if isinstance(value, str):
                yield parent, name, value
            yield from _fields(value, name, depth + 1)
    elif isinstance(document, list):
        for value in document:
            yield from _fields(value, parent, depth + 1)


def _lists(document: object, depth: int = 0) -> Iterator[list[str]]:
    """Each list of texts of a document: of a program its arguments."""
    if depth > _DEEPEST or not isinstance(document, dict | list):
        return
    inner = document.values() if isinstance(document, dict) else document
    if isinstance(document, list) and document and all(isinstance(one, str) for one in document):
        yield document
    for one in inner:
        yield from _lists(one, depth + 1)
