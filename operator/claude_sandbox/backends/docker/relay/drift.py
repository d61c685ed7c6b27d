"""In what a live relay differs from the desired one. Pure."""

from collections.abc import Mapping
from typing import Any

from claude_sandbox.backends.docker.companions import companion_differences
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.names import Names
from claude_sandbox.backends.docker.relay.relays import Relay, bindings


def differences(
    wanted: Relay,
    called: Names,
    live: Object,
    image: Object | None,
    outer: Object | None,
    inner: str,
    capabilities: EngineCapabilities,
) -> tuple[str, ...]:
    """The paths in which a live relay, its outer network or its place in both is not as desired.

    `inner`: the identifier of the sandbox's own network; empty where there is none, or is about to be another.
    """
    settled = {**live, "HostConfig": {**(live.get("HostConfig") or {}), "PortBindings": _settled(wanted, live)}}
    networks = {called.relay: outer, called.network: {"Id": inner}}
    return companion_differences(wanted.container, wanted.network, settled, image, called.relay, networks, capabilities)


def _settled(wanted: Relay, live: Object) -> dict[str, Any]:
    """A live relay's bindings without the host's ports that any would do for."""
    actual = (live.get("HostConfig") or {}).get("PortBindings") or {}
    desired = bindings(wanted.ports, {})
    return {
        port: desired[port] if port in desired and _is_one(desired[port][0], places) else places
        for port, places in actual.items()
    }


def _is_one(desired: Mapping[str, str], places: object) -> bool:
    """Whether the places are the one that is desired, its port perhaps chosen."""
    if not isinstance(places, list) or len(places) != 1:
        return False
    place = places[0]
    return bool(place.get("HostIp") == desired["HostIp"] and desired["HostPort"] in ("", place.get("HostPort")))
