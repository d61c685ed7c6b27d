"""What ConfigMaps of a sandbox's namespace tell Claude Code, judged, and put below what the operator pins. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from claude_sandbox.api.credentials.leaks import looks_like_credential
from claude_sandbox.api.fields.claude_code import ClaudeCode
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
    """What was understood: managed settings to go below the pins."""

    settings: Mapping[str, Any] = field(default_factory=dict)


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
    if len(json.dumps(_written(found))) > AT_MOST_TOGETHER:
        raise RefusedError(f"spec.claudeCode: is more than {AT_MOST_TOGETHER // 1024} KiB in all: make it shorter")
    return Instructions(found)


def instructed(blueprint: Blueprint, instructions: Instructions, *, held: bool = False) -> Blueprint:
    """The blueprint with them; what is pinned stays as it is. `held`: whether they are not all that was asked for."""
    settings = blueprint.settings
    content = _written({**instructions.settings, **json.loads(settings.pins)})
    return replace(blueprint, settings=replace(settings, content=content), held=held)


def _read(
    field_name: str, name: str, key: str, config_map: Callable[[str], Config], judge: Callable[[str], Any]
) -> Any:
    where = f"spec.claudeCode.{field_name}: key {key} of ConfigMap {name}"
    data = config_map(name)
    if key not in data:
        raise NotThereError(f"{where} is not there: add it, or name another key.")
    text = data[key]
    if len(text) > AT_MOST:
        raise RefusedError(f"{where} has more than {AT_MOST} characters: make it shorter")
    if looks_like_credential(text):
        raise RefusedError(f"{where} has what looks like a credential, which the agent could read: remove it")
    try:
        return judge(text)
    except RefusedError as error:
        raise RefusedError(f"{where} {error}") from None


def _written(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, separators=(",", ":"), sort_keys=True, allow_nan=False)
