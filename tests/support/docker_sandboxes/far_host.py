"""An engine that the operator, a process, reaches from far away: as the DockerHost `far`, by ssh or by TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, is_ready, prepare
from dockerkit import HELPER, IMAGE, counted
from sshkit import SshServer

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

KEY, NEW_KEY = "not-really-a-key-4242", "not-really-a-key-4343"
PATIENCE = 90.0


@dataclass(frozen=True)
class Way:
    """How the engine is reached: where, and what the Secret of the DockerHost has for it."""

    endpoint: str
    secret: dict[str, str] = field(repr=False)

    @property
    def private(self) -> str:
        """A line of the private key, which nothing may tell."""
        key = self.secret.get("ssh-privatekey") or self.secret["tls.key"]
        return key.splitlines()[1]


def by_ssh(server: SshServer) -> Way:
    credentials = server.credentials
    data = {"ssh-privatekey": credentials.private_key.decode(), "known_hosts": credentials.known_hosts.decode()}
    return Way(server.endpoint, data)


def by_tls(of: EngineDescription) -> Way:
    """Of an engine that listens so (`Tcp.TLS`)."""
    assert of.endpoint is not None
    files = {"ca.crt": of.ca, "tls.crt": of.client.certificate, "tls.key": of.client.key}
    return Way(of.endpoint, {name: file.read_text() for name, file in files.items()})


class Far:
    """An operator that has no other way to the engine, and the test, which has."""

    def __init__(self, api: Api, fleet: Fleet, host: EngineDescription, way: Way, operator: Operator) -> None:
        self.api, self.fleet, self.host, self.way, self.operator = api, fleet, host, way, operator
        self.near = docker.DockerClient(base_url=host.socket, timeout=60, version="auto")

    async def join(self) -> Obj:
        await self.fleet.secret("far", self.way.secret)
        reference, allowed = {"name": "far"}, {"names": [OWN]}
        await self.fleet.add("far", self.way.endpoint, credentialsSecretRef=reference, allowedNamespaces=allowed)
        return await self.fleet.comes_to("far", is_ready)

    async def create(self, name: str, **spec: Any) -> None:
        await self.fleet.secret(name, {"api-key": KEY}, meta.SECRET_TYPE)
        backend, workspace = {"type": "Docker", "hostRef": {"name": "far"}}, {"type": "EmptyDir", "size": "16Mi"}
        await create_sandbox(self.api, name, backend=backend, workspace=workspace, **spec)

    async def renew_key(self, name: str) -> None:
        await self.api.patch(SECRETS, name, OWN, {"stringData": {"api-key": NEW_KEY}})

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


@contextlib.asynccontextmanager
async def far_host(cluster: Cluster, host: EngineDescription, way: Way, log: Path, *options: str) -> AsyncIterator[Far]:
    """All of it; afterwards nothing is left on the engine, and the log tells no secret. `options`: the operator's."""
    credentials = from_kubeconfig(str(cluster.kubeconfig))
    await prepare(credentials)
    operator = Operator(cluster, log, f"--sandbox-image={IMAGE}", f"--relay-image={HELPER.reference}", *options)
    before = counted(host)
    operator.start()
    await operator.is_ready()
    async with Api(credentials, user_agent="tests") as api:
        fleet = Fleet(api)
        made = Far(api, fleet, host, way, operator)
        try:
            yield made
        finally:
            try:
                await made.empty()
                await fleet.close()
            finally:
                # One that stays would have the address of the next.
                ended = operator.stop()
                made.near.close()
            assert ended == 0, operator.log.read_text()
    text = operator.log.read_text()
    print(text)
    assert "Traceback" not in text
    for secret in (KEY, NEW_KEY, way.private):
        assert secret not in text
    assert counted(host) == before


def ready(status: Obj) -> bool:
    return condition(status, "Ready")[0] == "True"
