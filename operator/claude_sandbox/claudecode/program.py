"""What a program of Claude Code can be told: read from its own bytes, so that a new release is looked at anew.

The program is JavaScript, bundled as text into a native executable (Bun). In the text are its register of
environment variables, the schema of its settings, and the names that it uses without registering them.
"""

import re
from collections.abc import Iterator

_NAME = rb"[A-Za-z_][A-Za-z0-9_]{2,80}"
# An entry of the register, `NAME:()=>a`. What modules export looks alike, and is among what is found.
_REGISTERED = re.compile(rb"[{,]([A-Z_][A-Z0-9_]{2,80}):\(\)=>")
_USED = re.compile(rb"env\.(" + _NAME + rb")")
_QUOTED = re.compile(rb"[\"'`]([A-Z_][A-Z0-9_]{2,80})[\"'`]")
# What the native part asks the C library for stands between zero bytes, like much else: only what these begin.
_NATIVE = re.compile(
    rb"\0((?:BUN|NODE|LD|GIT|SSL|OPENSSL|CURL|CARES|NSS|MALLOC|MIMALLOC|GODEBUG|NPM_CONFIG)_[A-Z0-9_]{2,60})(?=\0)"
)
_VERSION = re.compile(rb"// Version: (\d+\.\d+\.\d+)\n")
_SETTING = re.compile(r"([A-Za-z_$][\w$]*):\(\)=>")
# Longer than the schema of any release so far (85 kB in 2.1.331), in bytes.
_SCHEMA_AT_MOST = 1_000_000


def version(program: bytes) -> str:
    """The program's own version. Raises ValueError where it holds none."""
    found = _VERSION.search(program)
    if found is None:
        raise ValueError("the program does not say its version")
    return found[1].decode()


def variables(program: bytes) -> frozenset[str]:
    """All names that the program may read as an environment variable, and many that are none: it can't be told.

    Takes eight seconds for the 400 MB of a release.

    Raises ValueError where its register is not found, since then the program is built in a way that is not known.
    """
    registered = set(_REGISTERED.findall(program))
    if b"ANTHROPIC_BASE_URL" not in registered:
        raise ValueError("the program's register of environment variables was not found")
    found = registered.union(*(pattern.findall(program) for pattern in (_USED, _QUOTED, _NATIVE)))
    return frozenset(name.decode() for name in found)


def settings(program: bytes) -> frozenset[str]:
    """The names of all settings in the program's schema of settings.json.

    Raises ValueError where the schema is not found or does not end.
    """
    helper = program.find(b"apiKeyHelper:()=>")
    start = program.rfind(b"{$schema:()=>", 0, max(helper, 0))
    if start < 0:
        raise ValueError("the program's schema of settings was not found")
    text = program[start : start + _SCHEMA_AT_MOST].decode(errors="replace")
    try:
        return frozenset(_keys(text)) - {"$schema"}
    except IndexError as error:
        raise ValueError("the program's schema of settings does not end") from error


def _keys(text: str) -> Iterator[str]:
    """The keys of the object that `text` begins with, not those of objects in it."""
    depth = position = 0
    while position < len(text):
        character = text[position]
        if character in "\"'`":
            position = _after_text(text, position)
            continue
        if character == "/" and text[position - 1] in "(,=:[!&|?":
            position = _after_pattern(text, position)
            continue
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return
        elif depth == 1 and text[position - 1] in "{,":
            if found := _SETTING.match(text, position):
                yield found[1]
                position = found.end() - len("()=>")
                continue
        elif (
            depth == 2
            and text[position - 2 : position] in ("{{", "&{", ".{")
            and (found := _SETTING.match(text, position))
        ):
            # A setting that only some builds have: `...condition&&{name:()=>…}`.
            yield found[1]
        position += 1
    raise ValueError("the program's schema of settings does not end")


def _after_text(text: str, start: int) -> int:
    """Behind a quoted text that begins at `start`. Templates in templates do not occur in the schema."""
    position = start + 1
    while text[position] != text[start]:
        position += 2 if text[position] == "\\" else 1
    return position + 1


def _after_pattern(text: str, start: int) -> int:
    """Behind a regular expression that begins at `start`."""
    position, in_class = start + 1, False
    while text[position] != "/" or in_class:
        if text[position] == "\\":
            position += 1
        elif text[position] in "[]":
            in_class = text[position] == "["
        position += 1
    return position + 1
