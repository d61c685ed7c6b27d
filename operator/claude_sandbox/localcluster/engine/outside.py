"""The way out of an engine's network, for one that is to have one: a link to the machine, which lets packets on."""

from collections.abc import Callable
from pathlib import Path

from claude_sandbox.localcluster import description, network
from claude_sandbox.localcluster.engine import record
from claude_sandbox.localcluster.engine.places import EngineNames, Places
from claude_sandbox.localcluster.node import link, settings
from claude_sandbox.localcluster.node.names import RUN
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import ensure


def choose_slot(places: Places) -> int:
    """Addresses that no cluster and no other engine has. Raises LocalClusterError where none are left."""
    clusters = {one.slot for one in description.all_descriptions()}
    engines = {one.slot for one in record.recorded() if one.slot is not None}
    return network.choose_slot(str(places.root), frozenset(clusters | engines), network.machine_routes())


def connect(names: EngineNames, slot: int, say: Callable[[str], None]) -> None:
    """Make the link, or mend it. Raises LocalClusterError where the machine doesn't allow it."""
    addresses = network.Addresses(slot)
    settings.prepare(names.id)
    link.make(
        names,
        link.Addresses(addresses.gateway_ip, addresses.node_ip, addresses.link_cidr, addresses.pod_cidr),
        ensure(NEEDED, say),
    )


def disconnect(names: EngineNames, say: Callable[[str], None]) -> None:
    """Remove the link and what it changed on the machine; nothing happens where there never was one."""
    if not is_connected(names):
        return
    programs = ensure(NEEDED, say)
    link.close(names, programs)
    link.remove(names, programs)
    settings.restore(names.id)


def is_connected(names: EngineNames) -> bool:
    """Whether the machine has been changed for the sake of a link, even if that was interrupted."""
    return (RUN / "machine" / f"{names.id}.user").exists() or Path("/sys/class/net", names.link).exists()
