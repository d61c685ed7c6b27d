"""What a blueprint declares and an engine can't give a sandbox. Pure.

Nothing here opens anything: where the two can't be had, the sandbox has less than it asks for, and its status says so.
"""

from collections.abc import Iterator

from claude_sandbox.blueprint.model import Blueprint


def gaps(blueprint: Blueprint) -> tuple[str, ...]:
    """Each as a clause that goes on from "the sandbox can be used, but"."""
    return tuple(_gaps(blueprint))


def _gaps(blueprint: Blueprint) -> Iterator[str]:
    network = blueprint.network
    if network.egress:
        # An internal network has no way out at all, and one with a way out leads everywhere.
        yield "none of spec.network.egress.allowedCIDRs can be reached from its internal network"
    if network.dns:
        yield "no name can be resolved"
    if blueprint.workspace.volume is not None:
        yield "the size of its workspace is not enforced"
