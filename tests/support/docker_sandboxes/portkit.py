"""Sandboxes that say hello on a port, with the relay that publishes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import docker
from dockerkit import Sandbox, sandbox
from nodekit import report

from claude_sandbox.backends.docker.relay.relays import Publishing
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import build_image

PORT = 8080
HTTP = {"name": "http", "containerPort": PORT}
SERVES = ["/bin/sh", "-c", f"while :; do echo hello | nc -l -p {PORT}; done"]
"""The command of a sandbox that says hello on a port."""


def relay_on(of: EngineDescription) -> Image:
    """Bring the operator's image, which publishes ports, onto an engine."""
    archive = build_image("operator", report)
    engine.load_image(of, archive)
    with contextlib.closing(docker.APIClient(base_url=of.socket, version="auto")) as api:
        found = api.inspect_image(archive.reference)  # type: ignore[no-untyped-call]
        return Image(str(found["Id"]), None, "Never")


@contextlib.asynccontextmanager
async def serving(of: EngineDescription, relay: Image | None, *ports: Any, **more: Any) -> AsyncIterator[Sandbox]:
    """A sandbox that runs, says hello on a port, and declares these."""
    allowed = more.pop("addresses", ())
    network = {"egress": {"allowedCIDRs": []}, "ports": list(ports)}
    spec = {"command": SERVES, "workspace": {"type": "EmptyDir"}, "network": network, **more}
    async with sandbox(of, publishing=Publishing(relay, allowed), **spec) as one:
        await one.made()
        yield one


async def endpoints(one: Sandbox) -> dict[str, str]:
    """Where its ports are published, as its status would say."""
    await one.once()
    return dict((await one.state()).endpoints)


def answers(of: EngineDescription, address: str) -> str:
    """What a connection from the engine's own machine gets: empty where there is none."""
    return engine.run_in(of, dial(address), check=False).stdout


def dial(address: str) -> list[str]:
    """The command that prints what a connection to ADDRESS:PORT gets."""
    host, _, port = address.rpartition(":")
    script = f"exec 3<>/dev/tcp/{host.strip('[]')}/{port} && timeout 5 cat <&3"
    return ["timeout", "8", "bash", "-c", script]


async def asked(of: EngineDescription, address: str) -> str:
    """As `answers`, once it answers, or after some seconds."""
    return await heard(lambda: answers(of, address))


async def heard(ask: Callable[[], str]) -> str:
    """What asking brings, as soon as that is anything, or after some seconds: a relay takes a moment to listen."""
    for _ in range(40):
        if found := await asyncio.to_thread(ask):
            return found
        await asyncio.sleep(0.25)
    return ""
