"""What Claude Code is told in a sandbox by who looks after it: instructions and settings, from ConfigMaps."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.fields.strict import Strict

_Name = Annotated[str, Field(min_length=1, max_length=253), names.CONFIG_MAP_NAME]
_Key = Annotated[str, Field(min_length=1, max_length=253), names.CONFIG_MAP_KEY]


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


class ClaudeCode(Strict):
    """What Claude Code is told in the sandbox, from ConfigMaps of its namespace.

    A ConfigMap opts in by the label `claudesandbox.dev/claude-code: "true"`. What is told this way is read-only for
    the agent and comes before the settings and instructions of any repository; what the operator pins comes before it.
    """

    settings: SettingsRef | None = None
    """Settings as in a settings.json of Claude Code's, for example `permissions`, `hooks` and `model`. One that the
    operator pins, or that could weaken the sandbox, is refused."""
    memory: MemoryRef | None = None
    """Instructions, as in a CLAUDE.md."""

    @property
    def config_maps(self) -> Iterator[str]:
        """The names of all ConfigMaps, in the order of the fields, some more than once."""
        for one in (self.settings, self.memory):
            if one is not None:
                yield one.name
