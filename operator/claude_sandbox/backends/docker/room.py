"""How much room a Docker host has for sandboxes. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from claude_sandbox.api.host_spec import Capacity
from claude_sandbox.api.quantity import bytes_of, millicores
from claude_sandbox.api.spec import Resources
from claude_sandbox.compliance.docker.document import Document
from claude_sandbox.compliance.evidence import Object

# The engine's own address pools hold 31 networks (libnetwork's ipamutils: 15 of 172.16.0.0/12, 16 of 192.168.0.0/16).
# Each sandbox has a network of its own, and the default bridge takes one.
_NETWORKS = 31
_BRIDGE = 1


@dataclass(frozen=True)
class Demand:
    """What one sandbox may use at most: CPU in thousandths of a core, memory in bytes."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class Room:
    """An amount of room, in the same units; None is without a limit. Less than nothing where a limit was lowered."""

    sandboxes: int | None
    cpu: int | None
    memory: int | None

    def less(self, demands: Iterable[Demand]) -> "Room":
        """What is left of it with these sandboxes in it."""
        taken = list(demands)
        return Room(
            None if self.sandboxes is None else self.sandboxes - len(taken),
            None if self.cpu is None else self.cpu - sum(demand.cpu for demand in taken),
            None if self.memory is None else self.memory - sum(demand.memory for demand in taken),
        )


def demand_of(resources: Resources) -> Demand:
    """What a sandbox with these limits may use."""
    return Demand(millicores(resources.cpu), bytes_of(resources.memory))


def capacity_of(wanted: Capacity, info: Object) -> Room:
    """What sandboxes may take together: as the administrator says, else as follows from the engine's `info`."""
    engine = Document(info)
    total = engine.number("MemTotal") or 0
    return Room(
        _networks(engine) - _BRIDGE if wanted.sandboxes is None else wanted.sandboxes,
        None if wanted.cpu is None else millicores(wanted.cpu),
        total // 10 * 9 if wanted.memory is None else bytes_of(wanted.memory),
    )


def cores_of(info: Object) -> int:
    """The host's CPU, in thousandths of a core: the engine refuses a container that is to have more."""
    return (Document(info).number("NCPU") or 0) * 1000


def _networks(engine: Document) -> int:
    """How many networks the engine's address pools have room for."""
    pools = engine.objects("DefaultAddressPools", omissible=True) or ()
    counted = sum(_in_pool(pool) for pool in pools)
    return counted or _NETWORKS


def _in_pool(pool: Object) -> int:
    try:
        base, size = ip_network(str(pool.get("Base"))), int(pool.get("Size") or 0)
    except (ValueError, TypeError):
        return 0
    return 2 ** (size - base.prefixlen) if isinstance(base, IPv4Network) and size >= base.prefixlen else 0
