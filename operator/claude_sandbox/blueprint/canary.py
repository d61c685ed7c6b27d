"""A sandbox's workload without all that is the sandbox's own, to try another image beside it. Pure.

It is as hardened and as limited as the workload, with the same managed settings, and has neither its key nor its
workspace, home, repositories, ports or gateway, nor any network: what an image makes of that says whether Claude Code
can run in it, and nobody is reached. It ends by itself, so that what is forgotten costs nothing for long.
"""

from dataclasses import replace

from claude_sandbox.blueprint.model import Blueprint, Image, NetworkRules
from claude_sandbox.blueprint.tools import BUSYBOX

SLACK = 600
"""Seconds for which it goes on beyond what it is needed for: an operator may be made anew meanwhile."""


def canary_of(blueprint: Blueprint, image: Image, seconds: float, *, command: bool) -> Blueprint:
    """The workload. `command`: it runs what the sandbox does, and else waits. `seconds`: how long it is needed."""
    lasts = str(int(seconds) + SLACK)
    box = (BUSYBOX,) if blueprint.tools is not None else ()
    bounded, waits = (*box, "timeout", "-s", "KILL", lasts), (*box, "sleep", lasts)
    if blueprint.tools is not None:
        # The first is the operator's entry point, which runs what is behind it.
        first, then = blueprint.command, (*bounded, *blueprint.args) if command and blueprint.args else waits
    elif command and blueprint.command:
        first, then = (*bounded, *blueprint.command), blueprint.args
    else:
        first, then = (), (*bounded, *blueprint.args) if command and blueprint.args else waits
    return replace(
        blueprint,
        image=image,
        command=first,
        args=then,
        workspace=replace(blueprint.workspace, volume=None),
        network=NetworkRules((), (), dns=False, ports=()),
        readiness=blueprint.liveness,
        gateway=None,
        kept_home=None,
        git=None,
        held=False,
        exchanged=False,
    )
