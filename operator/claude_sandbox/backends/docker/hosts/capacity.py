"""How much room a Docker host has for sandboxes. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from claude_sandbox.api.docker_hosts.spec import Capacity
from claude_sandbox.api.quantity import bytes_of, millicores
from claude_sandbox.api.spec import ClaudeSandboxSpec, WorkspaceType
from claude_sandbox.backends.docker.gateway.gateways import MEMORY as GATEWAY_MEMORY
from claude_sandbox.backends.docker.holding.holder import MEMORY as HOLDER_MEMORY
from claude_sandbox.backends.docker.holding.holder import size_of
from claude_sandbox.backends.docker.relay.relays import MEMORY as RELAY_MEMORY
from claude_sandbox.compliance.containers.document import Document
from claude_sandbox.compliance.evidence.readings import Object


@dataclass(frozen=True)
class Requests:
    """What one sandbox may use at most: CPU in thousandths of a core, memory in bytes."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class Allocated:
    """What several sandboxes may use together."""

    sandboxes: int = 0
    cpu: int = 0
    memory: int = 0

    @classmethod
    def by(cls, requests: Iterable[Requests]) -> "Allocated":
        """By these."""
        found = list(requests)
        return cls(len(found), sum(one.cpu for one in found), sum(one.memory for one in found))

    def plus(self, other: "Allocated") -> "Allocated":
        """With what others take."""
        return Allocated(self.sandboxes + other.sandboxes, self.cpu + other.cpu, self.memory + other.memory)

    def minus(self, requests: Requests) -> "Allocated":
        """Without one of them."""
        return Allocated(self.sandboxes - 1, self.cpu - requests.cpu, self.memory - requests.memory)


@dataclass(frozen=True)
class Allocatable:
    """An amount of room, in the same units; None is without a limit. Less than nothing where a limit was lowered."""

    sandboxes: int | None
    cpu: int | None
    memory: int | None

    def less(self, requests: Iterable[Requests]) -> "Allocatable":
        """What is left of it with these sandboxes in it."""
        return self.without(Allocated.by(requests))

    def without(self, taken: Allocated) -> "Allocatable":
        """What is left of it when that much is taken."""
        return Allocatable(
            None if self.sandboxes is None else self.sandboxes - taken.sandboxes,
            None if self.cpu is None else self.cpu - taken.cpu,
            None if self.memory is None else self.memory - taken.memory,
        )


def requests_of(spec: ClaudeSandboxSpec) -> Requests:
    """What a sandbox with this spec may use; of memory, also what publishes its ports, its gateway, and an EmptyDir.

    What is in that counts towards no limit any more when the container that wrote it has ended.
    """
    beside = (RELAY_MEMORY if spec.network.ports else 0) + (GATEWAY_MEMORY if spec.credentials.brokered else 0)
    memory = bytes_of(spec.resources.memory)
    if spec.workspace.type is WorkspaceType.EMPTY_DIR:
        beside += HOLDER_MEMORY + size_of(bytes_of(spec.workspace.size), memory)
    return Requests(millicores(spec.resources.cpu), memory + beside)


def beside_of(spec: ClaudeSandboxSpec) -> Requests:
    """The same of a sandbox beside which another image is tried: that has the same limits, and what it writes counts
    towards them."""
    own = requests_of(spec)
    return Requests(own.cpu + millicores(spec.resources.cpu), own.memory + bytes_of(spec.resources.memory))


def capacity_of(wanted: Capacity, info: Object) -> Allocatable:
    """What sandboxes may take together: as the administrator says, else as follows from the engine's `info`."""
    total = Document(info).number("MemTotal") or 0
    return Allocatable(
        wanted.sandboxes,
        None if wanted.cpu is None else millicores(wanted.cpu),
        # A tenth is left to the engine, the kernel and what else the host runs.
        total // 10 * 9 if wanted.memory is None else bytes_of(wanted.memory),
    )


def cores_of(info: Object) -> int:
    """The host's CPU, in thousandths of a core: the engine refuses a container that is to have more."""
    return (Document(info).number("NCPU") or 0) * 1000
