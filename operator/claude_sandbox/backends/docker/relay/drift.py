"""In what a live relay differs from the desired one, and who else is on its outer network. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object, running
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
    found = drift.container_differences(wanted.container, settled, image, capabilities)
    networks = {called.relay: str((outer or {}).get("Id") or "-"), called.network: inner or "-"}
    actual = drift.networks_of(live)
    state = live.get("State") or {}
    return (
        *(() if running(live) and not state.get("Paused") else ("State.Status",)),
        *found.fixed,
        *found.updatable,
        *(f"Networks.{name}" for name in sorted({*networks, *actual}) if networks.get(name) != actual.get(name)),
        *(f"outer {path}" for path in (() if outer is None else drift.network_differences(wanted.network, outer))),
    )


def strangers(outer: Object | None, relay: Object | None) -> Iterator[tuple[str, str]]:
    """Who is on the outer network and is not the relay: identifiers and names."""
    members: Mapping[str, Object] = (outer or {}).get("Containers") or {}
    own = relay["Id"] if relay is not None else None
    yield from sorted((one, str(member.get("Name", one))) for one, member in members.items() if one != own)


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
