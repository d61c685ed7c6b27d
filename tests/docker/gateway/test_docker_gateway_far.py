"""A sandbox with a gateway on a host that the operator reaches by ssh, and on one that it reaches by TLS.

The gateway's key and placeholders go the operator's way to the engine; what the agent asks for does not.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from docker.errors import APIError
from docker_fleet import condition
from dockerkit import furnish, on_the_disk
from enginekit import own
from far_host import KEY, NEW_KEY, PATIENCE, Far, Way, by_ssh, by_tls, far_host, ready
from fault_place import ASK
from nodekit import report
from provider_process import ADDRESS
from slow_provider import slow_provider_on
from sshkit import SshServer, ssh_server

from claude_sandbox.api import meta
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription, Tcp
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns, pytest.mark.timeout(600)]


@pytest.fixture
def server(host: EngineDescription, tmp_path: Path, ssh_client: None) -> Iterator[SshServer]:
    directory = tmp_path / "ssh"
    directory.mkdir()
    with ssh_server(directory, host.names.sockets) as made:
        yield made


@pytest.fixture
async def far_by_ssh(
    control_plane: Cluster, host: EngineDescription, server: SshServer, tmp_path: Path
) -> AsyncIterator[Far]:
    async with far_with_provider(control_plane, host, by_ssh(server), tmp_path) as made:
        yield made


@pytest.fixture
def listening(engine_release: str, state_home: Path, stand_in_image: ImageArchive) -> Iterator[EngineDescription]:
    """An engine that has a port for mutual TLS, with the images."""
    name = own(f"gateway-tls-{engine_release.replace('.', '-')}")
    try:
        made = engine.up(name, engine_release, tcp=Tcp.TLS, say=report)
        furnish(made, stand_in_image)
        yield made
    finally:
        engine.down(name, report)


@pytest.fixture
async def far_by_tls(control_plane: Cluster, listening: EngineDescription, tmp_path: Path) -> AsyncIterator[Far]:
    async with far_with_provider(control_plane, listening, by_tls(listening), tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def far_with_provider(cluster: Cluster, host: EngineDescription, way: Way, directory: Path) -> AsyncIterator[Far]:
    with slow_provider_on(host, directory) as url:
        settings = directory / "gateways.json"
        egress = {"privateNetworks": [f"{ADDRESS}/32"]}
        settings.write_text(json.dumps({"provider": {"baseURL": url}, "egress": egress}))
        async with far_host(cluster, host, way, directory / "log", f"--gateway-settings={settings}") as made:
            yield made


@pytest.mark.slow
async def test_by_ssh_a_sandbox_works_by_its_gateway_and_the_gateway_heals(far_by_ssh: Far) -> None:
    await works_and_heals(far_by_ssh)


async def test_by_tls_a_sandbox_works_by_its_gateway_and_the_gateway_heals(far_by_tls: Far) -> None:
    await works_and_heals(far_by_tls)


async def works_and_heals(far: Far) -> None:
    await far.join()
    agent = await brokered(far)
    await answered_with(far, agent, KEY)
    await far.renew_key("alice")
    await answered_with(far, agent, NEW_KEY)
    first = gateway_of(far)
    far.near.api.kill(first)
    healed = (await far.comes_to("alice", lambda one: ready(one) and bool(one.get("heals", {}).get("count"))))["status"]
    assert healed["workload"]["uid"] == agent, healed
    await answered_with(far, agent, NEW_KEY)
    assert gateway_of(far) != first
    for key in (KEY, NEW_KEY):
        assert on_the_disk(far.host, key.encode()) == []


async def test_a_gateway_works_on_while_the_operator_has_no_way_to_it(far_by_ssh: Far, server: SshServer) -> None:
    far = far_by_ssh
    await far.join()
    agent = await brokered(far)
    server.stop()
    await far.comes_to("alice", lambda status: condition(status, "Ready")[0] == "Unknown")
    await answered_with(far, agent, KEY)
    # Nobody can make it again meanwhile, and nothing gets out another way.
    far.near.api.kill(gateway_of(far))
    assert sha256(KEY.encode()).hexdigest() not in asked(far, agent)
    await far.renew_key("alice")
    server.start()
    found = (await far.comes_to("alice", ready))["status"]
    assert found["workload"]["uid"] == agent
    await answered_with(far, agent, NEW_KEY)


async def brokered(far: Far) -> str:
    """A sandbox with a gateway that is Ready and passes every required control; its container."""
    await far.create("alice", credentials={"delivery": "Brokered"})
    found = (await far.comes_to("alice", ready))["status"]
    assert condition(found, "Compliant")[0] == "True", found["compliance"]
    return str(found["workload"]["uid"])


def gateway_of(far: Far) -> str:
    """The container, by its labels."""
    wanted = {"label": [f"{meta.LABEL_COMPONENT}=gateway", f"{meta.LABEL_SANDBOX}=alice"]}
    (found,) = far.near.api.containers(filters=wanted)
    return str(found["Id"])


def asked(far: Far, agent: str) -> str:
    """What the agent's request is answered with."""
    return run_inside(far.near.api, agent, "/bin/sh", "-c", ASK)[1]


async def answered_with(far: Far, agent: str, key: str) -> None:
    """Wait until a request of the agent's, which has no key, comes to the provider with this one."""
    wanted, answer = sha256(key.encode()).hexdigest(), ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while wanted not in answer:
                with contextlib.suppress(APIError):
                    answer = await asyncio.to_thread(asked, far, agent)
    assert wanted in answer, answer
