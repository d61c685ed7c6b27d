"""Evidence without the credentials that stand where everybody on a machine can read them. Pure.

That is where programs are started: their arguments and variables, in the kernel's words, in an engine's and in the API
server's. The rest of a document stays as it is. Who is investigated wrote much of it: what can't be understood stays
as it came, and time is in proportion to the text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from claude_sandbox.api.credentials.leaks import looks_like_credential
from claude_sandbox.api.credentials.measured import (
    command_line_holds_credential,
    shows_credential,
    variable_holds_credential,
)

REDACTED = "[redacted]"
MOST_SEEN = 256 << 10
"""Characters of command lines that are looked through: a second or two. Who is investigated says how many there are."""
UNSEEN = "[not looked through]"
_LINES = (("Path", "Args"), ("Entrypoint", "Cmd"), ("command", "args"), ("Test",))
"""Fields with the parts of a command line, of containers of engines and of pods; Test is a health check's."""
_MAPS = frozenset({"Labels", "labels", "annotations", "Attributes"})
"""Fields with texts by their names. Of an engine's event, Attributes are its container's labels."""
_DEEPEST = 40


def shown_command(words: Sequence[str]) -> list[str]:
    """The arguments; the program alone where there is a credential among them."""
    if not command_line_holds_credential(words):
        return list(words)
    return [REDACTED] if shows_credential(words[0]) else [words[0], REDACTED]


def shown_line(line: str) -> str:
    """A command line as one text, of which nobody can tell where an argument with blanks in it ends."""
    words = line.split()
    held = command_line_holds_credential((line,)) or command_line_holds_credential(words)
    return " ".join((*([] if shows_credential(words[0]) else words[:1]), REDACTED)) if held else line


def shown_document(document: Any, depth: int = 0) -> Any:
    """What an engine or the API server says of a container, a pod or a sandbox, as JSON has it."""
    if depth > _DEEPEST:
        return document
    if isinstance(document, list):
        return [shown_document(one, depth + 1) for one in document]
    if not isinstance(document, dict):
        return document
    found = {name: _shown(name, value, depth) for name, value in document.items()}
    for names in _LINES:
        found |= _lines(found, names)
    name, value = found.get("name"), found.get("value")
    if isinstance(name, str) and isinstance(value, str):
        found["value"] = _value(name, value)
    return found


def _shown(name: str, value: Any, depth: int) -> Any:
    if name in _MAPS and isinstance(value, dict):
        return _texts(value)
    if name == "LogConfig" and isinstance(value, dict) and isinstance(value.get("Config"), dict):
        # A log's driver logs in to where it writes.
        return {**value, "Config": _texts(value["Config"])}
    if name == "Env" and isinstance(value, list):
        return [_variable(one) if isinstance(one, str) else one for one in value]
    if name == "Command" and isinstance(value, str):
        return shown_line(value)
    return shown_document(value, depth + 1)


def _lines(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of the fields that have to be shown in another way."""
    parts = {name: _words(found.get(name)) for name in names}
    whole = [word for words in parts.values() for word in words]
    if not command_line_holds_credential(whole):
        return {}
    first = next(name for name, words in parts.items() if words)
    shown: dict[str, Any] = {}
    for name, words in parts.items():
        # A path is one word, and no list.
        kept = shown_command(whole)[:-1] if name == first else []
        if isinstance(found.get(name), list) and words:
            shown[name] = [*kept, REDACTED]
        elif words and not kept:
            shown[name] = REDACTED
    return shown


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list) else []


def _texts(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) if isinstance(value, str) else value for name, value in found.items()}


def _variable(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name}{equals}{_value(name, value)}"


def _value(name: str, value: str) -> str:
    return REDACTED if looks_like_credential(name) or variable_holds_credential(name, value) else value
