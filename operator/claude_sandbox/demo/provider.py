"""Where the demo's sandbox gets its answers from: the Claude API, or without a key a stand-in that the demo starts."""

from dataclasses import dataclass

ALLOWED = "allowed.example.com"
"""The name that the demo allows where there may be no Internet: of the stand-in, by what the gateway is told."""
DENIED = "denied.example.com"
PUBLIC = "pypi.org"
"""The name that it allows where there has to be the Internet anyway."""
PROGRAM = ("python3", "-I", "-m", "claude_sandbox.demo.stand_in")
"""The stand-in, in the operator's own image; its address and its port come after."""
NO_KEY = (
    "ANTHROPIC_API_KEY is not set: a stand-in for the Claude API answers, and has Claude Code do a task by a script."
)


@dataclass(frozen=True)
class StandIn:
    """What answers for the Claude API: at `base_url`, and found by its allowed name at that IPv4 `address`."""

    base_url: str
    address: str


@dataclass(frozen=True)
class Provider:
    """Which destination is allowed, as `curl` is given it; and what answers, None for the Claude API itself."""

    domain: str
    url: str
    stand_in: StandIn | None = None


CLAUDE_API = Provider(PUBLIC, f"https://{PUBLIC}/")
