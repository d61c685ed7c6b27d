"""Which Docker Engine the demo uses: this machine's own where one answers, else one that it brings along."""

import os
from pathlib import Path

from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.backends.docker.engine.connection.connect import connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.demo.docker.record import Made
from claude_sandbox.install.containers import connected
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster import engine as local
from claude_sandbox.localcluster.engine.places import Places

OWN = "demo"
SOCKET = Path("/var/run/docker.sock")
_INSTALL = (
    "Install Docker Engine (Debian, Ubuntu: apt-get install docker.io; others: https://docs.docker.com/engine/install)"
    " and see that this user may use it: docker info."
)


def choose(before: Made | None, say: Say) -> str:
    """The endpoint of an engine that answers; the demo stays on the one that it began on. Raises SetupError.

    Raises LocalClusterError where an engine of the demo's own can't be had.
    """
    named = os.environ.get("DOCKER_HOST") or None
    present = _present(before, say)
    if present is not None:
        if named not in (None, present):
            raise SetupError(
                f"The demo is on the Docker Engine at {present} already, and DOCKER_HOST names {named}.",
                "Remove it first (make demo-down), or unset DOCKER_HOST.",
            )
        return present
    if named is not None:
        return _named(named)
    if SOCKET.exists() and (usable := _of_this_machine(say)) is not None:
        return usable
    if os.geteuid() != 0:
        raise SetupError(
            "No Docker Engine answers on this machine.",
            f"{_INSTALL} Or set DOCKER_HOST, or run this as root: then the demo brings an engine of its own along.",
        )
    say("No Docker Engine answers on this machine, so the demo brings one along: built from source, which takes some")
    say("minutes the first time. It is not installed: it is in namespaces of its own, and goes with the demo")
    say(f"(make demo-down, or claude-sandbox engine down --name {OWN}).")
    return _own(say)


def is_own(endpoint: str) -> bool:
    """Whether it is the engine that the demo brought along."""
    return endpoint == _own_endpoint()


def down(say: Say) -> bool:
    """Remove the engine that the demo brought along, with all that is on it; whether there was one."""
    return local.down(OWN, say)


def _present(before: Made | None, say: Say) -> str | None:
    if Places.of(OWN).root.exists():
        say("Using the Docker Engine that the demo brought along.")
        return _own(say)
    if before is None or is_own(before.endpoint):
        return None
    say(f"Using the Docker Engine at {before.endpoint}, as before.")
    return before.endpoint


def _own(say: Say) -> str:
    return local.up(OWN, say=say).socket


def _own_endpoint() -> str:
    return local.EngineDescription(OWN, local.DEFAULT_RELEASE).socket


def _named(endpoint: str) -> str:
    if not endpoint.startswith("unix://"):
        raise SetupError(
            f"DOCKER_HOST names an engine that is not on this machine: {endpoint}",
            "The demo is for one machine: unset DOCKER_HOST. For others see docs/operations.md, Docker hosts.",
        )
    with connected(endpoint):
        return endpoint


def _of_this_machine(say: Say) -> str | None:
    """The engine at the usual place; None where nobody answers there. Raises SetupError where it can't be used."""
    endpoint = f"unix://{SOCKET}"
    try:
        engine = connect(parse(endpoint))
    except ConnectError as error:
        if error.reason is ConnectErrorReason.UNREACHABLE:
            say(f"{SOCKET} is there, but {error.message}.")
            return None
        remedy = (
            "Add this user to the group docker, or run this as root."
            if error.reason is ConnectErrorReason.DENIED
            else ""
        )
        raise SetupError(
            f"The Docker Engine at {endpoint} can't be used: {error.message}.", remedy or _INSTALL
        ) from None
    with engine:
        say(f"Using this machine's Docker Engine {engine.version.get('Version', '')} at {endpoint}.")
    return endpoint
