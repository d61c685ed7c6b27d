"""Sandboxes on a Docker host that is reached by ssh: a real API server, operator, ssh server, and engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, is_ready, prepare
from dockerkit import HELPER, IMAGE, counted, on_the_disk
from sshkit import SshServer, ssh_server

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.usefixtures("ssh_client")]

# How old the engine is makes no difference to what ssh does.
one_release = pytest.mark.parametrize("engine_release", ["29"], indirect=True)

KEY, NEW_KEY = "not-really-a-key-4242", "not-really-a-key-4343"
PATIENCE = 90.0


class Far:
    """An engine that is the DockerHost `far` by ssh, and an operator that has no other way to it."""

    def __init__(self, api: Api, fleet: Fleet, host: EngineDescription, server: SshServer, operator: Operator) -> None:
        self.api, self.fleet, self.host, self.server, self.operator = api, fleet, host, server, operator
        self.near = docker.DockerClient(base_url=host.socket, timeout=60, version="auto")

    async def join(self) -> Obj:
        credentials = self.server.credentials
        data = {"ssh-privatekey": credentials.private_key.decode(), "known_hosts": credentials.known_hosts.decode()}
        await self.fleet.secret("far", data)
        reference, allowed = {"name": "far"}, {"names": [OWN]}
        await self.fleet.add("far", self.server.endpoint, credentialsSecretRef=reference, allowedNamespaces=allowed)
        return await self.fleet.comes_to("far", is_ready)

    async def create(self, name: str) -> None:
        await self.fleet.secret(name, {"api-key": KEY}, meta.SECRET_TYPE)
        backend, workspace = {"type": "Docker", "hostRef": {"name": "far"}}, {"type": "EmptyDir", "size": "16Mi"}
        await create_sandbox(self.api, name, backend=backend, workspace=workspace)

    async def comes_to(self, name: str, wanted: Callable[[Obj], bool]) -> Obj:
        found: Obj = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await self.api.get(SANDBOXES, name, OWN)
                    if (found.get("status") or {}).get("conditions") and wanted(found["status"]):
                        return found
                    await asyncio.sleep(0.05)
        raise AssertionError(f"{name} stays as it is: {found}\n{self.operator.log.read_text()}")

    async def key_becomes(self, container: Any, key: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while container.exec_run(["cat", "/run/claude-sandbox/api-key/api-key"]).output.decode() != key:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def empty(self) -> None:
        """Delete all sandboxes, and wait until they are gone."""
        for sandbox in (await self.api.list(SANDBOXES, OWN)).items:
            with contextlib.suppress(ApiError):
                await self.api.delete(SANDBOXES, sandbox["metadata"]["name"], OWN)
        async with asyncio.timeout(PATIENCE):
            while (await self.api.list(SANDBOXES, OWN)).items:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)


@pytest.fixture
async def far(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[Far]:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    directory = tmp_path / "ssh"
    directory.mkdir()
    operator = Operator(
        control_plane, tmp_path / "log", f"--sandbox-image={IMAGE}", f"--relay-image={HELPER.reference}"
    )
    before = counted(host)
    with ssh_server(directory, host.names.sockets) as server:
        operator.start()
        await operator.is_ready()
        async with Api(credentials, user_agent="tests") as api:
            fleet = Fleet(api)
            made = Far(api, fleet, host, server, operator)
            try:
                yield made
            finally:
                await made.empty()
                await fleet.close()
                assert operator.stop() == 0, operator.log.read_text()
                made.near.close()
        text = operator.log.read_text()
        print(text)
        assert "Traceback" not in text
        for secret in (KEY, NEW_KEY, server.credentials.private_key.splitlines()[1].decode()):
            assert secret not in text
        assert clients(server) == []
    assert counted(host) == before


def clients(server: SshServer) -> list[str]:
    """The ssh clients that are logged in to the server, or about to be, whoever started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append(process.joinpath("cmdline").read_text().replace("\0", " "))
    return [arguments for arguments in found if f"Port={server.port} " in arguments and "dial-stdio" in arguments]


def ready(status: Obj) -> bool:
    return condition(status, "Ready")[0] == "True"


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

    await far.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": NEW_KEY}})
    await far.key_becomes(container, NEW_KEY)
    for key in (KEY, NEW_KEY):
        assert on_the_disk(far.host, key.encode()) == []

    # What happens there is heard of: the engine's events come by ssh too.
    container.kill()
    again = (await far.comes_to("alice", lambda one: ready(one) and one.get("heals", {}).get("count")))["status"]
    await far.key_becomes(far.near.containers.get(again["workload"]["uid"]), NEW_KEY)


@one_release
async def test_a_host_whose_ssh_server_is_gone_is_waited_for_and_found_again(far: Far) -> None:
    await far.join()
    await far.create("bob")
    found = (await far.comes_to("bob", ready))["status"]
    container = far.near.containers.get(found["workload"]["uid"])
    assert clients(far.server)
    far.server.stop()
    silent = await far.fleet.comes_to("far", lambda status: condition(status, "Ready")[0] == "Unknown", 75)
    assert condition(silent, "Ready")[1] == "EngineUnreachable"
    lost = (await far.comes_to("bob", lambda status: condition(status, "Ready")[0] == "Unknown"))["status"]
    assert lost["workload"]["uid"] == found["workload"]["uid"]
    container.reload()
    assert container.status == "running"

    # Meanwhile the key changed. It arrives as soon as there is a way again.
    await far.api.patch(SECRETS, "bob", OWN, {"stringData": {"api-key": NEW_KEY}})
    far.server.start()
    await far.fleet.comes_to("far", is_ready)
    back = (await far.comes_to("bob", ready))["status"]
    assert back["workload"]["uid"] == found["workload"]["uid"]
    await far.key_becomes(container, NEW_KEY)


@one_release
async def test_a_host_that_shows_another_key_stalls_until_somebody_says_that_it_is_right(far: Far) -> None:
    await far.join()
    far.server.stop()
    (far.server.directory / "host").unlink()
    far.server.new_key("host")
    far.server.start()
    status = await far.fleet.comes_to("far", lambda status: condition(status, "Stalled")[0] == "True", 75)
    assert condition(status, "Ready") == ("False", "EngineUntrusted")
    assert "known_hosts in the Secret" in status["conditions"][0]["message"]
    known = far.server.credentials.known_hosts.decode()
    await far.api.patch(SECRETS, "far", OWN, {"stringData": {"known_hosts": known}})
    # A Secret is looked at again within half a minute.
    await far.fleet.comes_to("far", is_ready, 60)
