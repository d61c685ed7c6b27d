"""What a plan is carried out with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from claude_sandbox.backends.apply import Pace
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.images.pulls import ImagePulls
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.backends.docker.written import WriteResults
from claude_sandbox.blueprint.model import Blueprint, Image

ReadKey = Callable[[], Awaitable[Key]]
"""Reads the key of the sandbox's Secret. Raises KeyUnavailableError."""


async def _nothing() -> None:
    return None


@dataclass
class ApplyContext:
    """What a plan is carried out with."""

    engine: Engine
    images: ImagePulls
    blueprint: Blueprint
    read_key: ReadKey
    """Of what the sandbox itself is to have: the key, or a placeholder."""
    read_credential: ReadKey
    """Of the key, for a sandbox's gateway."""
    read_others: Callable[[], Awaitable[GatewayTexts]]
    """Of what opens the sandbox's services and repositories, for its gateway. Raises KeyUnavailableError."""
    changed: Callable[[str], None]
    """Told of each container that something is delivered to, or that is started."""
    made: Callable[[str], None]
    """Told of the sandbox's container as soon as there is one: what happens to it from then on has to be heard."""
    results: WriteResults
    """Of this pass."""
    pace_key: Pace = lambda: 0.0
    """Of helper containers: whatever makes another one necessary, it is not made without end."""
    provide_tools: Callable[[], Awaitable[Object | None]] = _nothing
    """Has Claude Code on the engine, for an image that is anybody's: its volume's document, None where none is needed.
    """
    helper: Image | None = None
    """What brings the key: the operator's own image. None: none can be brought."""
    refusal: str = ""
    """Why the sandbox's image must not be run on the host; empty where it may be."""
    pace_relay: Pace = lambda: 0.0
    """Of the relay, which has nothing to do with how often the sandbox itself is replaced."""
    pace_gateway: Pace = lambda: 0.0
    """Likewise of the gateway."""
    pace_cloner: Pace = lambda: 0.0
    """Likewise of what clones the sandbox's repositories."""
    pace_holder: Pace = lambda: 0.0
    """Likewise of what holds the sandbox's EmptyDir."""
    told: Callable[[str, str], None] = lambda _container, _revision: None
    """Told of each gateway that follows a revision now."""
    published: Mapping[str, int] = field(default_factory=dict)
    """The host's ports that declared ones had before, by their names."""
    sizes_required: bool = False
    """Whether no volume may be made whose size the engine can't enforce."""
    pool: IPv4Network | None = address_pools.POOL
    """Where sandboxes' networks get their addresses; None: from the engine's own pools."""

    @property
    def waiter(self) -> tuple[str, str]:
        """Who waits for what takes long."""
        return self.blueprint.identity.namespace, self.blueprint.identity.name
