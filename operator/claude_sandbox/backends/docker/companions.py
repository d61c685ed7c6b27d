"""Containers beside a sandbox's own, on its network and on one of their own: the relay and the gateway. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from claude_sandbox.backends.docker import drift
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object, running


@dataclass(frozen=True)
class Companion:
    """What there is under a companion's name: its container, its outer network, and the document of its image."""

    container: Object | None = None
    network: Object | None = None
    image: Object | None = None

    @property
    def identifier(self) -> str:
        """The container's; empty where there is none."""
        return str((self.container or {}).get("Id", ""))


def companion_differences(
    wanted: Object,
    wanted_outer: Object,
    live: Object,
    image: Object | None,
    name: str,
    networks: Mapping[str, Object | None],
    capabilities: EngineCapabilities,
) -> tuple[str, ...]:
    """The paths in which a live companion, its outer network or its place in both is not as desired.

    `networks`: by their names those that it should be on, as they are; the outer one is called `name`.
    """
    found = drift.container_differences(wanted, live, image, capabilities)
    expected = {one: str((document or {}).get("Id") or "-") for one, document in networks.items()}
    actual = drift.networks_of(live)
    state = live.get("State") or {}
    outer = networks[name]
    return (
        *(() if running(live) and not state.get("Paused") else ("State.Status",)),
        *found.fixed,
        *found.updatable,
        *(f"Networks.{one}" for one in sorted({*expected, *actual}) if expected.get(one) != actual.get(one)),
        *(f"outer {path}" for path in (() if outer is None else drift.network_differences(wanted_outer, outer))),
    )


def strangers(outer: Object | None, companion: Object | None) -> Iterator[tuple[str, str]]:
    """Who is on the outer network and is not the companion: identifiers and names."""
    members: Mapping[str, Object] = (outer or {}).get("Containers") or {}
    own = companion["Id"] if companion is not None else None
    yield from sorted((one, str(member.get("Name", one))) for one, member in members.items() if one != own)
