"""One engine as a DockerHost, and the operator as a process between it and the API server; nothing is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, event_notes, get_sandbox, is_ready, prepare
from dockerkit import IMAGE, counted

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.recipes import recipe
from claude_sandbox.trail.keys import PUBLIC, public_key
from claude_sandbox.trail.verification import Remembered, verify

KEY = "not-really-a-key-0815"
PATIENCE = 60.0


class Place:
    """The API server, one engine as the DockerHost `engine-1`, and an operator between them."""

    def __init__(self, api: Api, fleet: Fleet, host: EngineDescription, operator: Operator, cluster: Cluster) -> None:
        self.api, self.fleet, self.host, self.operator, self.cluster = api, fleet, host, operator, cluster
        self.sdk = docker.DockerClient(base_url=host.socket, timeout=60, version="auto")

    async def join(self) -> None:
        """Make the engine known, for the tests' namespace."""
        await self.fleet.add("engine-1", self.host.socket, allowedNamespaces={"names": [OWN]})
        await self.fleet.comes_to("engine-1", is_ready)

    async def create(self, name: str, **spec: Any) -> Obj:
        await self.fleet.secret(name, {"api-key": KEY}, meta.SECRET_TYPE)
        return await create_sandbox(self.api, name, **{"workspace": {"type": "EmptyDir", "size": "16Mi"}, **spec})

    async def get(self, name: str) -> Obj | None:
        return await get_sandbox(self.api, name)

    async def comes_to(self, name: str, wanted: Callable[[Obj], bool]) -> Obj:
        """Wait until the sandbox is as wanted."""
        found: Obj | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await self.get(name)
                    if found is not None and (found.get("status") or {}).get("conditions") and wanted(found):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {found}\n{self.operator.log.read_text()}") from None

    async def goes(self, name: str) -> None:
        """Wait until the sandbox is gone."""
        async with asyncio.timeout(PATIENCE):
            while await self.get(name) is not None:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)

    async def tells(self, name: str, reason: str, note: str) -> None:
        """Wait until there is an Event about the sandbox whose note begins like this."""
        notes = await event_notes(self.api, name, reason, note)
        assert any(one.startswith(note) for one in notes), notes

    def container(self, found: Obj) -> Any:
        return self.sdk.containers.get(found["status"]["workload"]["uid"])


def ready(found: Obj) -> bool:
    return condition(found["status"], "Ready")[0] == "True"


def message(found: Obj) -> str:
    return str(next(one["message"] for one in found["status"]["conditions"] if one["type"] == "Ready"))


def why(found: Obj) -> str:
    return condition(found["status"], "Ready")[1]


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Any) -> AsyncIterator[Place]:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    images = (f"--sandbox-image={IMAGE}", f"--relay-image={recipe('operator').reference}")
    trail = tmp_path / "trail"
    operator = Operator(control_plane, tmp_path / "log", *images, f"--trail-directory={trail}", "--trail-export=stdout")
    operator.start()
    await operator.is_ready()
    before = counted(host)
    async with Api(credentials, user_agent="tests") as api:
        fleet = Fleet(api)
        made = Place(api, fleet, host, operator, control_plane)
        try:
            yield made
        finally:
            for sandbox in (await api.list(SANDBOXES, OWN)).items:
                with contextlib.suppress(ApiError):
                    await api.delete(SANDBOXES, sandbox["metadata"]["name"], OWN)
            for sandbox in (await api.list(SANDBOXES, OWN)).items:
                await made.goes(sandbox["metadata"]["name"])
            await fleet.close()
            assert operator.stop() == 0, operator.log.read_text()
            made.sdk.close()
            print(operator.log.read_text())
    assert "Traceback" not in operator.log.read_text()
    assert KEY not in operator.log.read_text()
    assert counted(host) == before
    assert_genuine(trail, operator.log)


def assert_genuine(trail: Path, log: Path) -> None:
    """The audit trail is whole, the log has a copy of it, and neither holds the key."""
    trusted = [public_key((trail / PUBLIC).read_text())]
    copied = Remembered()
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        copied.take(line, number, trusted)
    verdict = verify(trail, trusted, copied)
    assert verdict.ok, verdict.findings
    assert verdict.remembered > 4
    assert not any(KEY.encode() in path.read_bytes() for path in trail.iterdir())
