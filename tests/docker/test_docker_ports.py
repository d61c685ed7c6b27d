"""Declared ports of a sandbox on a real engine, old and new: published by a relay, and by nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import docker
import pytest
from dockerkit import Sandbox, sandbox
from nodekit import report

from claude_sandbox.backends.docker.relays import Publishing
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription, run_in
from claude_sandbox.localcluster.images import build_image

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PORT = 8080
SERVES = ["/bin/sh", "-c", f"while :; do echo hello | nc -l -p {PORT}; done"]
HTTP = {"name": "http", "containerPort": PORT}


@pytest.fixture(scope="session")
def relay_image(host: EngineDescription) -> Image:
    """The operator's image on the engine."""
    archive = build_image("operator", report)
    engine.load_image(host, archive)
    with contextlib.closing(docker.APIClient(base_url=host.socket, version="auto")) as api:
        return Image(str(api.inspect_image(archive.reference)["Id"]), None, "Never")


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
    host, _, port = address.rpartition(":")
    script = f"exec 3<>/dev/tcp/{host}/{port} && timeout 5 cat <&3"
    return run_in(of, ["timeout", "8", "bash", "-c", script], check=False).stdout


async def asked(of: EngineDescription, address: str) -> str:
    """The same, once it answers, or after some seconds: a relay takes a moment to listen."""
    for _ in range(40):
        if found := await asyncio.to_thread(answers, of, address):
            return found
        await asyncio.sleep(0.25)
    return ""


async def test_a_declared_port_answers_on_the_hosts_loopback_address(
    host: EngineDescription, relay_image: Image
) -> None:
    async with serving(host, relay_image, HTTP, {"name": "none", "containerPort": 9090}) as one:
        found = await endpoints(one)
        assert set(found) == {"http", "none"}
        assert found["http"].startswith("127.0.0.1:")
        assert await asked(host, found["http"]) == "hello\n", one.sdk.containers.get(one.names.relay).logs()
        again = await one.once()
        assert not again.wrote
        assert not again.unpublished
