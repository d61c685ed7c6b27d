"""What a blueprint declares and an engine can't give a sandbox. Pure.

Nothing here opens anything: where the two can't be had, the sandbox has less than it asks for, and its status says so.
"""

from collections.abc import Iterator, Mapping

from claude_sandbox.api import quantity
from claude_sandbox.api.networks import ANTHROPIC_CIDRS
from claude_sandbox.api.spec import Resources, Workspace
from claude_sandbox.backends.docker.documents import sizes
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.holding import holder as holding
from claude_sandbox.backends.docker.names import Names
from claude_sandbox.blueprint.model import Blueprint

# The API server writes the default into every spec that says nothing, so that it can't be told from a wish for as much.
_UNASKED_WORKSPACE = quantity.bytes_of(Workspace().size)
_UNASKED_STORAGE = quantity.bytes_of(Resources().ephemeral_storage)


def unsupported_in(blueprint: Blueprint, volumes: Mapping[str, Object], called: Names) -> tuple[str, ...]:
    """Each as a clause that goes on from "the sandbox can be used, but". `volumes`: the live ones, by name."""
    kept = {"its workspace": volumes.get(called.workspace), "its home": volumes.get(called.home)}
    return (*_unsupported(blueprint), *sizes.told(blueprint, kept), *_without_effect(blueprint))


def _unsupported(blueprint: Blueprint) -> Iterator[str]:
    network = blueprint.network
    brokered = blueprint.gateway is not None
    # Written down as the default by earlier versions; a sandbox with a gateway has no need of it.
    if network.egress and not (brokered and tuple(block.cidr for block in network.egress) == ANTHROPIC_CIDRS):
        # An internal network has no way out at all, and one with a way out leads everywhere.
        yield "none of spec.network.egress.allowedCIDRs can be reached from its internal network"
    if network.dns:
        # With a gateway only who asks for it: names are resolved there.
        yield "no name can be resolved" + (" by itself, whatever spec.network.egress.dns says" if brokered else "")


def _without_effect(blueprint: Blueprint) -> Iterator[str]:
    if _storage(blueprint) != _UNASKED_STORAGE:
        # An engine has no such limit. What it is for is bounded otherwise: the root is read-only, logs have a size
        # of their own, and an EmptyDir is in memory.
        yield "spec.resources.ephemeralStorage has no effect"
    workspace = blueprint.workspace
    if workspace.volume is None and workspace.size != _UNASKED_WORKSPACE:
        size = holding.size_of(workspace.size, blueprint.limits.memory)
        if size != workspace.size:
            yield f"its workspace has {size} bytes, half of spec.resources.memory, since it is in memory"


def _storage(blueprint: Blueprint) -> int:
    """What was asked for, in bytes: a workspace without a volume comes on top of it."""
    workspace = blueprint.workspace
    return blueprint.limits.ephemeral_storage - (0 if workspace.volume is not None else workspace.size)
