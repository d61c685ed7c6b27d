"""What administrators say for all gateways, in the gateway's own format. Pure."""

import json
from typing import Any

from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.config.fields import ConfigError

SECTIONS = ("provider", "egress", "limits")
# What a gateway on Docker has no files for.
_FILES = ("caFile",)


class GatewaySettingsError(Exception):
    """The document can't be followed; the message names the field and what to write."""


def gateway_settings(text: str) -> dict[str, Any]:
    """The document's sections. Raises GatewaySettingsError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise GatewaySettingsError("it is no JSON: mend it") from None
    if not isinstance(found, dict) or not set(found) <= set(SECTIONS):
        raise GatewaySettingsError(f"it has to be an object with some of {', '.join(SECTIONS)}, and nothing else")
    provider = found.get("provider")
    for name in _FILES:
        if isinstance(provider, dict) and name in provider:
            raise GatewaySettingsError(f"provider.{name}: a gateway on Docker has no files in this version: remove it")
    try:
        parse(json.dumps({"version": 1, "listen": {}, "sandboxes": [], **found}))
    except ConfigError as error:
        raise GatewaySettingsError(str(error)) from None
    return found
