"""Where the demo's sandbox gets its answers from: the Claude API, or without a key a stand-in that the demo starts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALLOWED = "allowed.example.com"
"""The name that the demo allows where there may be no Internet: of the stand-in, by what the gateway is told."""
DENIED = "denied.example.com"
PUBLIC = "pypi.org"
"""The name that it allows where there has to be the Internet anyway."""
PROGRAM = ("python3", "-I", "-m", "claude_sandbox.demo.stand_in")
"""The stand-in, in the operator's own image; its address and its port come after."""


@dataclass(frozen=True)
class Provider:
    """Which destination is allowed, as `curl` is given it, and what the operator's gateways are told.

    `stand_in`: whether the answers are not the Claude API's.
    """

    stand_in: bool
    domain: str
    url: str
    settings: Mapping[str, Any] = field(default_factory=dict)


CLAUDE_API = Provider(False, PUBLIC, f"https://{PUBLIC}/")


def settings(url: str, address: str) -> dict[str, Any]:
    """Of gateways whose provider is a stand-in at `url`, and which find it by its allowed name at that IPv4 address."""
    return {
        "provider": {"baseURL": url},
        "egress": {"privateNetworks": [f"{address}/32"], "hosts": {ALLOWED: [address]}},
    }


def document(provider: Provider) -> str:
    """For the operator's `--gateway-settings`."""
    return json.dumps(provider.settings, indent=2)
