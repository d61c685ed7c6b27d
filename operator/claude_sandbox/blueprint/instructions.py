"""What ConfigMaps of a sandbox's namespace tell Claude Code, judged, and put below what the operator pins. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from claude_sandbox.api.credentials.leaks import looks_like_credential
from claude_sandbox.api.fields.work.claude_code import ClaudeCode
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.claudecode import given
from claude_sandbox.claudecode.given import RefusedError

AT_MOST = 32 * 1024
"""Characters of each: more would only fill the model's context. Claude Code gives up the whole of its managed settings,
pins and all, where they have more than a few MB (seen)."""
AT_MOST_TOGETHER = 80 * 1024
"""Bytes of all as the pod's annotation has them, which are kept in memory for each pod."""

Config = Mapping[str, str]
"""The data of a ConfigMap."""


@dataclass(frozen=True)
class Instructions:
    """What was understood: managed settings to go below the pins, and files beside them, by their paths."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class NotThereError(LookupError):
    """A ConfigMap is not there, or has no such key. The message says which, and what to do."""


def understood(asked: ClaudeCode, config_map: Callable[[str], Config]) -> Instructions:
    """What the ConfigMaps say. `config_map` gives the data of one, and may raise NotThereError.

    Raises RefusedError, and NotThereError for a key.
    """
    found: dict[str, Any] = {}
    settings, memory = asked.settings, asked.memory
    if settings is not None:
        found |= _read("settings", settings.name, settings.key, config_map, given.settings)
    if memory is not None:
        found[given.MEMORY] = _read("memory", memory.name, memory.key, config_map, given.memory)
    files = _files(asked, config_map)
    if len(files) > given.MOST_FILES:
        raise RefusedError(f"spec.claudeCode: names more than {given.MOST_FILES} files in all: leave some out")
    if sum(len(json.dumps(text)) for text in (_written(found), *files.values())) > AT_MOST_TOGETHER:
        raise RefusedError(f"spec.claudeCode: is more than {AT_MOST_TOGETHER // 1024} KiB in all: make it shorter")
    return Instructions(found, files)


def instructed(blueprint: Blueprint, instructions: Instructions, *, held: bool = False) -> Blueprint:
    """The blueprint with them; what is pinned stays as it is. `held`: whether they are not all that was asked for."""
    settings = blueprint.settings
    content = _written({**instructions.settings, **json.loads(settings.pins)})
    files = tuple(sorted({**instructions.files, **dict(settings.files)}.items()))
    return replace(blueprint, settings=replace(settings, content=content, files=files), held=held or blueprint.held)


def _files(asked: ClaudeCode, config_map: Callable[[str], Config]) -> dict[str, str]:
    found: dict[str, str] = {}
    if (servers := asked.mcp_servers) is not None:
        text = _read("mcpServers", servers.name, servers.key, config_map, given.servers)
        found[given.SERVERS_FILE] = text
    for kind, pages in (("agents", asked.agents), ("commands", asked.commands)):
        if pages is not None:
            found |= _all_of(kind, pages.name, config_map, partial(given.pages, kind))
    for index, one in enumerate(asked.skills):
        if sum(map(len, found.values())) > AT_MOST_TOGETHER:
            break
        found |= _all_of(f"skills[{index}]", one.name, config_map, partial(given.skill, one.name))
    return found


def _all_of(
    field_name: str, name: str, config_map: Callable[[str], Config], judge: Callable[[Config], dict[str, str]]
) -> dict[str, str]:
    where, data = f"spec.claudeCode.{field_name}: ConfigMap {name}", config_map(name)
    if sum(map(len, data.values())) > AT_MOST_TOGETHER:
        raise RefusedError(f"{where} is more than {AT_MOST_TOGETHER // 1024} KiB in all: make it shorter")
    for key, text in data.items():
        _bounded(f"{where}, key {key}", text)
    try:
        return judge(data)
    except RefusedError as error:
        raise RefusedError(f"{where} {error}") from None


def _bounded(where: str, text: str) -> None:
    if len(text) > AT_MOST:
        raise RefusedError(f"{where} has more than {AT_MOST} characters: make it shorter")
    if looks_like_credential(text):
        raise RefusedError(f"{where} has what looks like a credential, which the agent could read: remove it")


def _read(
    field_name: str, name: str, key: str, config_map: Callable[[str], Config], judge: Callable[[str], Any]
) -> Any:
    where = f"spec.claudeCode.{field_name}: key {key} of ConfigMap {name}"
    data = config_map(name)
    if key not in data:
        raise NotThereError(f"{where} is not there: add it, or name another key.")
    text = data[key]
    _bounded(where, text)
    try:
        return judge(text)
    except RefusedError as error:
        raise RefusedError(f"{where} {error}") from None


def _written(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, separators=(",", ":"), sort_keys=True, allow_nan=False)
