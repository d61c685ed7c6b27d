"""Which Claude Code a sandbox has, and what it is told by who looks after it: instructions and settings, from
ConfigMaps."""

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.rules import UniqueBy, matching

_Name = Annotated[str, Field(min_length=1, max_length=253), names.CONFIG_MAP_NAME]
_Key = Annotated[str, Field(min_length=1, max_length=253), names.CONFIG_MAP_KEY]

_LONGEST = 63
_SYNTAX = "[0-9A-Za-z](?:[0-9A-Za-z._+-]*[0-9A-Za-z])?"
_VERSION = matching(
    _SYNTAX,
    "must be a release of Claude Code as the operator's administrator named it, for example 2.1.331",
)


def is_release(text: str) -> bool:
    """Whether a sandbox can ask for a release of this name."""
    return len(text) <= _LONGEST and re.fullmatch(_SYNTAX, text) is not None


class SettingsRef(Strict):
    """A key of a ConfigMap that opted in, with settings."""

    name: _Name
    """The ConfigMap's name. It has to be in the sandbox's own namespace."""
    key: _Key = "settings.json"
    """Which of the ConfigMap's keys holds them."""


class MemoryRef(Strict):
    """A key of a ConfigMap that opted in, with instructions."""

    name: _Name
    """The ConfigMap's name. It has to be in the sandbox's own namespace."""
    key: _Key = "CLAUDE.md"
    """Which of the ConfigMap's keys holds them."""


class McpServersRef(Strict):
    """A key of a ConfigMap that opted in, with MCP servers."""

    name: _Name
    """The ConfigMap's name. It has to be in the sandbox's own namespace."""
    key: _Key = "mcp.json"
    """Which of the ConfigMap's keys holds them."""


class FilesRef(Strict):
    """A ConfigMap that opted in, of which each key is a file."""

    name: _Name
    """The ConfigMap's name. It has to be in the sandbox's own namespace."""


class ClaudeCode(Strict):
    """Which Claude Code it is, and what it is told in the sandbox, from ConfigMaps of its namespace.

    A ConfigMap opts in by the label `claudesandbox.dev/claude-code: "true"`. What is told this way is read-only for
    the agent and comes before the settings and instructions of any repository; what the operator pins comes before it.
    """

    version: Annotated[str, Field(min_length=1, max_length=_LONGEST), _VERSION] | None = None
    """Which release of Claude Code: one that the operator's administrator offers (`--claude-code`). Default: the one
    that the operator gives sandboxes."""
    settings: SettingsRef | None = None
    """Settings as in a settings.json of Claude Code's, for example `permissions`, `hooks` and `model`. One that the
    operator pins, or that could weaken the sandbox, is refused."""
    memory: MemoryRef | None = None
    """Instructions, as in a CLAUDE.md."""
    mcp_servers: McpServersRef | None = None
    """MCP servers, as in a .mcp.json: `{"mcpServers": {NAME: …}}`. The sandbox uses these and no others; one that is a
    command runs in the sandbox, as the agent does."""
    agents: FilesRef | None = None
    """Agents: each key is a file NAME.md."""
    commands: FilesRef | None = None
    """Commands: each key is a file NAME.md."""
    skills: Annotated[list[FilesRef], Field(max_length=16), UniqueBy("name")] = []
    """Skills, each a ConfigMap with a key SKILL.md, called as the ConfigMap is."""

    @property
    def config_maps(self) -> Iterator[str]:
        """The names of all ConfigMaps, in the order of the fields, some more than once."""
        for one in (self.settings, self.memory, self.mcp_servers, self.agents, self.commands, *self.skills):
            if one is not None:
                yield one.name
