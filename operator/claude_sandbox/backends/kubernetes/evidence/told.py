"""What ConfigMaps tell Claude Code in one sandbox, read once."""

from collections.abc import Mapping

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.backends.kubernetes.evidence.pod_context import read_one
from claude_sandbox.blueprint.instructions import Config, NotThereError, instructed, understood
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.claudecode.given import RefusedError
from claude_sandbox.compliance.evidence.readings import Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import CONFIG_MAPS


async def with_instructions(api: Api, blueprint: Blueprint, spec: ClaudeSandboxSpec) -> Blueprint | str:
    """The blueprint with what they say; or why that can't be known."""
    found: dict[str, Config] = {}
    for name in sorted(set(spec.claude_code.config_maps)):
        live = await read_one(api, CONFIG_MAPS, name, blueprint.identity.namespace)
        if isinstance(live, Unread):
            return f"ConfigMap {name} could not be read: {live.reason}"
        found[name] = _data(live.value)
    try:
        return instructed(blueprint, understood(spec.claude_code, lambda name: found[name]))
    except (NotThereError, RefusedError) as error:
        return f"what it is told is not known: {error}"


def _data(live: Mapping[str, object] | None) -> Config:
    data = (live or {}).get("data")
    return data if isinstance(data, dict) else {}
