"""What a sandbox's own settings for Claude Code may say: they are put below the pins, in the same managed settings.

A setting is taken where it can give nobody the key or the conversation: by the reasons in `waived.py`. So one that the
next release brings is refused until somebody has decided about it. What of a value Claude Code does not understand it
ignores, and heeds the rest (seen with each of the settings); but it ignores the whole file, pins and all, where that is
too large or no JSON (seen). So what is given here is bounded, and written anew from what was understood.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from claude_sandbox.claudecode import pinned, waived

MEMORY = "claudeMd"
"""The managed setting with instructions."""
SERVERS_FILE = "managed-mcp.json"
"""The file beside the managed settings with MCP servers: they need not be in `allowedMcpServers`, and while there is
such a file, nobody else's servers are used (seen)."""
GIT_FILE = "gitconfig"
"""The file beside them that is git's configuration for the whole system, which Claude Code doesn't read."""
MAVEN_FILE = "maven-settings.xml"
"""The file beside them with Maven's global settings, which it doesn't read either."""
DIRECTORY = ".claude"
"""Where beside the managed settings agents, commands and skills are: they come before a repository's (seen)."""
MOST_FILES = 64


def may_be_beside(path: str) -> bool:
    """Whether a file at this path beside the managed settings can say nothing that they do."""
    kinds = tuple(f"{DIRECTORY}/{kind}/" for kind in ("agents", "commands", "skills"))
    return path in (SERVERS_FILE, GIT_FILE, MAVEN_FILE) or path.startswith(kinds)


ALLOWED = frozenset(
    name
    for reason in (waived.NARROWS, waived.RUNS_IF_MANAGED, waived.MAY_DO, waived.MANNER)
    for name in waived.SETTINGS[reason].split()
)
"""Settings that may be given."""

_ELSEWHERE = {
    "env": "write variables into spec.env",
    MEMORY: "write instructions into what spec.claudeCode.memory names",
    "managedMcpServers": "write them into what spec.claudeCode.mcpServers names",
    "mcpServers": "write them into what spec.claudeCode.mcpServers names",
}
_SERVER = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_BY_HTTP, _BY_COMMAND = {"type", "url", "headers"}, {"type", "command", "args", "env"}
_VARIABLE = "${"
_SKILL = "SKILL.md"
_SKILL_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_DEEPEST = 32
"""Objects and lists in each other, far more than any setting has."""


class RefusedError(ValueError):
    """What was given can't be used; the message says why and what to do, and repeats no value."""


def settings(text: str) -> dict[str, Any]:
    """The settings in a settings.json. Raises RefusedError."""
    found = _object(text)
    found.pop("$schema", None)
    pins = pinned.managed_settings("")
    for name in sorted(found):
        if name in _ELSEWHERE:
            raise RefusedError(f"has the setting {name}: {_ELSEWHERE[name]}, and remove it")
        if name in pins:
            raise RefusedError(f"has the setting {name}, which is the operator's to say: remove it")
        if name not in ALLOWED:
            what = name if re.fullmatch(r"\w{1,64}", name, re.ASCII) else "that has another name than settings have"
            raise RefusedError(f"has a setting that is not among those that may be given ({what}): remove it")
    return found


def memory(text: str) -> str:
    """The instructions in a CLAUDE.md. Raises RefusedError."""
    if not text.strip():
        raise RefusedError("is empty: write instructions, or remove spec.claudeCode.memory")
    return text


def servers(text: str) -> str:
    """The MCP servers in a .mcp.json, as such a file with nothing else in it. Raises RefusedError."""
    found = _object(text)
    if set(found) != {"mcpServers"} or not isinstance(found["mcpServers"], dict):
        raise RefusedError('must be an object with the one field "mcpServers", which has an object for each server')
    for name, server in found["mcpServers"].items():
        if not _SERVER.fullmatch(name):
            raise RefusedError("has a server whose name is not of 1 to 64 letters, digits, '-' and '_': rename it")
        if problem := _wrong(server):
            raise RefusedError(f"has the server {name}, {problem}")
    return json.dumps(found, separators=(",", ":"), sort_keys=True)


def pages(kind: str, data: Mapping[str, str]) -> dict[str, str]:
    """The files of agents or commands, by their paths. Raises RefusedError."""
    for name in data:
        if not _FILE.fullmatch(name) or not name.endswith(".md"):
            raise RefusedError(f"has a key that is no file NAME.md, of which {kind} are: rename it, or remove it")
    return {f"{DIRECTORY}/{kind}/{name}": text for name, text in data.items()}


def skill(name: str, data: Mapping[str, str]) -> dict[str, str]:
    """The files of one skill, by their paths. Raises RefusedError."""
    if not _SKILL_NAME.fullmatch(name):
        raise RefusedError("is called as no skill can be: name it with lower-case letters, digits and '-'")
    if _SKILL not in data:
        raise RefusedError(f"has no key {_SKILL}: add it")
    if not all(map(_FILE.fullmatch, data)):
        raise RefusedError("has a key that is no file's name for a skill: begin it with a letter or a digit")
    return {f"{DIRECTORY}/skills/{name}/{file}": text for file, text in data.items()}


def _wrong(server: object) -> str:
    """What is wrong with a server, and the remedy; empty where nothing is."""
    if not isinstance(server, dict):
        return "which is no object"
    by_command = "command" in server
    if server.keys() - (_BY_COMMAND if by_command else _BY_HTTP):
        return "with fields that are not used: only type, url and headers are, or command, args and env; remove them"
    if _VARIABLE in json.dumps(server):
        return "with a variable in it, and none is put in: write the value itself"
    if by_command:
        right = isinstance(server["command"], str) and server.get("type", "stdio") == "stdio"
        return "" if right else "whose command is no text, or whose type is not stdio: write a program's path"
    if server.get("type") not in ("http", "sse"):
        return "whose type is not http or sse: write one of these, or a command"
    right = str(server.get("url", "")).startswith(("http://", "https://"))
    return "" if right else "whose url is none: write http://… or https://…"


def _object(text: str) -> dict[str, Any]:
    """As JSON that can be written again just so. Raises RefusedError."""
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        raise RefusedError("is no JSON: look at it with `python3 -m json.tool`") from None
    if not isinstance(found, dict):
        raise RefusedError("is no object of JSON: write {…}")
    if _depth(found) > _DEEPEST:
        raise RefusedError(f"has more than {_DEEPEST} objects and lists in each other: make it flatter")
    return found


def _depth(value: object) -> int:
    deepest, left = 0, [(value, 0)]
    while left:
        one, depth = left.pop()
        deepest = max(deepest, depth)
        inside = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        left += [(item, depth + 1) for item in inside]
    return deepest
