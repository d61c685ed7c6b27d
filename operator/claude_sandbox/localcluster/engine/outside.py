"""The way out of an engine's network, for one that is to have one: a link to the machine, which lets packets on."""

from collections.abc import Callable
from pathlib import Path

from claude_sandbox.localcluster import network
from claude_sandbox.localcluster.engine.places import EngineNames
from claude_sandbox.localcluster.node import settings
from claude_sandbox.localcluster.node.names import RUN
from claude_sandbox.localcluster.node.network import link
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs.os_packages import ensure


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
    # First: the programs for it may have to be fetched, and most engines need none.
    if not is_connected(names):
        return
    programs = ensure(NEEDED, say)
    link.close(names, programs)
    link.remove(names, programs)
    settings.restore(names.id)


def is_connected(names: EngineNames) -> bool:
    """Whether the machine has been changed for the sake of a link, even if that was interrupted."""
    return (RUN / "machine" / f"{names.id}.user").exists() or Path("/sys/class/net", names.link).exists()
