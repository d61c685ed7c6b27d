"""In what a live gateway differs from the desired one, and who else is on its outer network. Pure."""

from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.companions import companion_differences
from claude_sandbox.backends.docker.documents import health
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.gateway.gateways import Gateway
from claude_sandbox.backends.docker.names import Names
from claude_sandbox.blueprint import agent


def differences(
    wanted: Gateway,
    called: Names,
    live: Object,
    image: Object | None,
    outer: Object | None,
    inner: str,
    capabilities: EngineCapabilities,
) -> tuple[str, ...]:
    """The paths in which a live gateway, its outer network or its place in both is not as desired.

    `inner`: the identifier of the sandbox's own network; empty where there is none, or is about to be another.
    """
    networks = {called.gateway: outer, called.network: {"Id": inner}}
    found = companion_differences(wanted.container, wanted.network, live, image, called.gateway, networks, capabilities)
    endpoints = (live.get("NetworkSettings") or {}).get("Networks") or {}
    aliases = (endpoints.get(called.network) or {}).get("Aliases") or ()
    named = () if called.network not in drift.networks_of(live) or agent.GATEWAY_HOST in aliases else ("Aliases",)
    failing = ("State.Health",) if health.status(live) == "unhealthy" else ()
    return (*found, *named, *failing)
