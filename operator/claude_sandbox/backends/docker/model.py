"""What a plan is made from, and what it is made of. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from claude_sandbox.api.spec import UpdateStrategyType
from claude_sandbox.backends.base import Cause
from claude_sandbox.backends.docker.companions import Companion
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.keys.placeholder import SUFFIX
from claude_sandbox.backends.docker.objects import Documents
from claude_sandbox.blueprint.model import Identity, Probe

CONTAINER, NETWORK, VOLUME = "Container", "Network", "Volume"
# A relay with its outer network: made and removed together.
RELAY = "Relay"
# A gateway likewise.
GATEWAY = "Gateway"
# What clones a sandbox's repositories before its own container is made.
CLONER = "Cloner"
# What holds an EmptyDir.
HOLDER = "Holder"
# In a step's paths: what is not as it should be are the settings that Claude Code reads in a container.
SETTINGS = "managed settings"


class Verb(Enum):
    """What is done to an object."""

    CREATE = "create"
    # Remove it, whatever is on it, and create it as it should be: networks and volumes can't be changed.
    REPLACE = "replace"
    REMOVE = "remove"
    UPDATE = "update the limits of"
    RENAME = "rename"
    CONNECT = "connect"
    DISCONNECT = "disconnect"
    UNPAUSE = "unpause"
    RESTART = "restart"
    # Settings and key first, then the container itself.
    START = "start"
    DELIVER = "deliver the key to"


@dataclass(frozen=True)
class Step:
    """One thing to do. `live` is what it was decided upon; `other` is the second party of a connection, by name."""

    verb: Verb
    cause: Cause
    kind: str
    name: str
    live: Object | None = None
    other: str = ""
    paths: tuple[str, ...] = ()
    # Repeated without bound it would be harmful: a workload that ends or drifts again at once.
    paced: bool = False
    # Of a repair: why it was needed, where the verb alone does not tell; one of `Healed`'s reasons.
    reason: str = ""
    # Of a removal: without a grace period.
    at_once: bool = False
    # Of the creation of a sandbox's container: what became of its repositories before.
    cloned: str = ""

    @property
    def brings_key(self) -> bool:
        """Whether it takes a helper container, and is not paced by itself."""
        return self.kind not in (GATEWAY, CLONER, HOLDER) and self.verb in (Verb.START, Verb.RESTART, Verb.DELIVER)


@dataclass(frozen=True)
class Desired:
    """What a sandbox should have, and whether its container may run."""

    identity: Identity
    cluster: str
    capabilities: EngineCapabilities
    documents: Documents
    settings: str
    suspended: bool
    # Whether the key that a container needs is there, and which generation it is; None for not known.
    may_start: bool
    key_generation: str | None
    # Whether the sandbox has a placeholder instead of the key.
    brokered: bool = field(default=False, kw_only=True)
    # Whether the key may certainly not be used any more: then nothing may run that has it.
    withdrawn: bool = field(default=False, kw_only=True)
    # Whether the gateway is to have no key until there is another one; what runs goes on and waits.
    keyless: bool = field(default=False, kw_only=True)
    # Whether no container may be made, started or replaced, though one that runs goes on.
    held: bool = field(default=False, kw_only=True)
    # Whether what runs gives way to its new image, whatever `update` says.
    exchanged: bool = field(default=False, kw_only=True)
    update: UpdateStrategyType
    liveness: Probe

    @property
    def word(self) -> str | None:
        """What tells which key, or which placeholder, is in the sandbox; None where that is not known."""
        return self.key_generation and f"{self.key_generation}{SUFFIX if self.brokered else ''}"

    @property
    def may_make(self) -> bool:
        """Whether a container may be made or started."""
        return self.may_start and not self.held

    @property
    def ended(self) -> bool:
        """Whether nothing of it is to run."""
        return self.suspended or self.withdrawn


@dataclass(frozen=True)
class Delivered:
    """What was delivered to a running container.

    `key_generation`: the operator's own word for the key that is in it, where what was read there is that very word;
    it is never what was read. `has_key`: whether any was delivered since its start. `settings` as they were read.
    `placeholder`: whether what was read says that it is no key. `other`: whether it is known not to be what is wanted.
    """

    key_generation: str | None = None
    settings: str | None = None
    has_key: bool = False
    placeholder: bool = False
    other: bool = False

    def is_current(self, generation: str | None) -> bool:
        """Whether the key of this generation is in it; where that is not known, whether any is."""
        return self.is_keyed and generation in (None, self.key_generation)

    @property
    def is_keyed(self) -> bool:
        """Whether any key was delivered."""
        return self.has_key or self.key_generation is not None


@dataclass(frozen=True)
class Observed:
    """The live objects under the sandbox's names, whoever made them, and those that have its labels."""

    container: Object | None = None
    # The document of the container's image; None where that is gone.
    image: Object | None = None
    # None for a container that does not run.
    delivered: Delivered | None = None
    network: Object | None = None
    volumes: Mapping[str, Object] = field(default_factory=dict)
    # The numbers of the sandbox's workspaces that there are, be they its present one or not.
    workspaces: frozenset[int] = frozenset()
    # Summaries of helper containers: of an earlier pass that did not end.
    helpers: tuple[Object, ...] = ()
    # The container and the outer network under the relay's name, whoever made them, and the relay's image. Only looked
    # for where the sandbox should have a relay, or may have something of one.
    relay: Object | None = None
    outer: Object | None = None
    relay_image: Object | None = None
    # Likewise of the gateway; and which revision it follows, as far as that is known.
    gateway: Companion = field(default_factory=Companion)
    gateway_revision: str | None = None
    # How many containers but the gateway have the volume of its accounts.
    accounts_elsewhere: int = 0
    # What clones before there is a container, with its image; what it said last of all repositories; and whether it has
    # the key, or placeholder, that is asked for. Only looked for where it is needed, or may have been left.
    cloner: Companion = field(default_factory=Companion)
    cloner_said: tuple[str, ...] | None = None
    cloner_keyed: bool = False
    # What holds an EmptyDir, with its image. Only looked for where one is wanted, or may have been left.
    holder: Companion = field(default_factory=Companion)
    # Summaries of what stands beside the sandbox, under other names.
    other_companions: tuple[Object, ...] = ()
    # Names of other containers that carry the sandbox's labels.
    strays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Stages, each of which needs the one before it; the steps of a stage don't need each other."""

    stages: tuple[tuple[Step, ...], ...] = ()
    # Objects in the way that are not ours, as "Kind name".
    foreign: tuple[str, ...] = ()
    # In what the running container is not the desired one, and only a new one could be.
    drifted: tuple[str, ...] = ()
    spec_changed: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage)
