"""Sandboxes on a Docker host that is reached by ssh: a real API server, operator, ssh server, and engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from docker_fleet import OWN, condition, is_ready
from dockerkit import on_the_disk
from far_host import KEY, NEW_KEY, PATIENCE, Far, by_ssh, far_host, ready
from sshkit import SshServer, ssh_server

from claude_sandbox.kubernetes_api.resources import SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.usefixtures("ssh_client")]

# How old the engine is makes no difference to what ssh does.
one_release = pytest.mark.parametrize("engine_release", ["29"], indirect=True)


@pytest.fixture
def server(host: EngineDescription, tmp_path: Path) -> Iterator[SshServer]:
    directory = tmp_path / "ssh"
    directory.mkdir()
    with ssh_server(directory, host.names.sockets) as made:
        yield made


@pytest.fixture
async def far(control_plane: Cluster, host: EngineDescription, server: SshServer, tmp_path: Path) -> AsyncIterator[Far]:
    async with far_host(control_plane, host, by_ssh(server), tmp_path / "log") as made:
        yield made
    # A client whose connection was given up in the middle of a call ends a moment after its operator.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while clients(server):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert clients(server) == []


def clients(server: SshServer) -> list[str]:
    """The ssh clients that are logged in to the server, or about to be, whoever started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append(process.joinpath("cmdline").read_text().replace("\0", " "))
    return [arguments for arguments in found if f"Port={server.port} " in arguments and "dial-stdio" in arguments]


@pytest.mark.by_turns
async def test_a_sandbox_on_a_host_by_ssh_is_as_one_on_this_machine(far: Far) -> None:
    status = await far.join()
    assert status["engine"]["id"] == far.near.info()["ID"]
    assert "HOST-01" in str(status["compliance"]["passed"])
    await far.create("alice")
    found = (await far.comes_to("alice", ready))["status"]
    assert found["placement"]["host"] == "far"
    assert condition(found, "Compliant")[0] == "True", found["compliance"]
    container = far.near.containers.get(found["workload"]["uid"])
    await far.key_becomes(container, KEY)

    await far.renew_key("alice")
    await far.key_becomes(container, NEW_KEY)
    for key in (KEY, NEW_KEY):
        assert on_the_disk(far.host, key.encode()) == []

    # What happens there is heard of: the engine's events come by ssh too.
    container.kill()
    again = (await far.comes_to("alice", lambda one: ready(one) and one.get("heals", {}).get("count")))["status"]
    await far.key_becomes(far.near.containers.get(again["workload"]["uid"]), NEW_KEY)


@one_release
@pytest.mark.slow
async def test_a_host_whose_ssh_server_is_gone_is_waited_for_and_found_again(far: Far, server: SshServer) -> None:
    await far.join()
    await far.create("bob")
    found = (await far.comes_to("bob", ready))["status"]
    container = far.near.containers.get(found["workload"]["uid"])
    assert clients(server)
    server.stop()
    silent = await far.fleet.comes_to("far", lambda status: condition(status, "Ready")[0] == "Unknown", 75)
    assert condition(silent, "Ready")[1] == "EngineUnreachable"
    lost = (await far.comes_to("bob", lambda status: condition(status, "Ready")[0] == "Unknown"))["status"]
    assert lost["workload"]["uid"] == found["workload"]["uid"]
    container.reload()
    assert container.status == "running"

    # Meanwhile the key changed. It arrives as soon as there is a way again.
    await far.renew_key("bob")
    server.start()
    await far.fleet.comes_to("far", is_ready)
    back = (await far.comes_to("bob", ready))["status"]
    assert back["workload"]["uid"] == found["workload"]["uid"]
    await far.key_becomes(container, NEW_KEY)


@one_release
async def test_a_host_that_shows_another_key_stalls_until_somebody_says_that_it_is_right(
    far: Far, server: SshServer
) -> None:
    await far.join()
    server.stop()
    (server.directory / "host").unlink()
    server.new_key("host")
    server.start()
    status = await far.fleet.comes_to("far", lambda status: condition(status, "Stalled")[0] == "True", 75)
    assert condition(status, "Ready") == ("False", "EngineUntrusted")
    assert "known_hosts in the Secret" in status["conditions"][0]["message"]
    known = server.credentials.known_hosts.decode()
    await far.api.patch(SECRETS, "far", OWN, {"stringData": {"known_hosts": known}})
    # A Secret is looked at again within half a minute.
    await far.fleet.comes_to("far", is_ready, 60)
