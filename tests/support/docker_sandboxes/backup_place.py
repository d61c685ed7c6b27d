"""One sandbox on an engine with files in its workspace, an operator that backs it up, and a Secret for that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, get_sandbox, is_ready, prepare
from dockerkit import IMAGE, counted
from enginekit import client
from serverkit import SERVERS

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import BACKUPS, SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.recipes import recipe

PATIENCE = 240.0
KEY, PASSWORD = "not-really-a-key-4711", "not-really-a-password-4711"


@dataclass
class Place:
    api: Api
    operator: Operator
    fleet: Fleet
    engine: docker.DockerClient
    directory: Path

    def run(self, script: str, sandbox: str = "alice") -> str:
        """A command of the agent's."""
        (agent,) = (one for one in self.containers("agent") if one.labels[meta.LABEL_SANDBOX] == sandbox)
        code, output = agent.exec_run(["sh", "-c", script], user="1000:1000")
        assert code == 0, output
        return str(output.decode())

    def containers(self, component: str) -> list[Any]:
        label = f"{meta.LABEL_COMPONENT}={component}"
        return list(self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True))

    async def back_up(self, name: str, **more: Any) -> None:
        spec = {"sandboxName": "alice", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "backups"}}
        body = {"apiVersion": BACKUPS.api_version, "kind": BACKUPS.kind, "metadata": {"name": name}}
        await self.api.create(BACKUPS, body | {"spec": spec | more}, OWN)

    async def backup(self, name: str) -> dict[str, Any]:
        """The status of one, as it is now."""
        return (await self.api.get(BACKUPS, name, OWN)).get("status") or {}

    async def is_(self, name: str, kind: str, *wanted: str) -> dict[str, Any]:
        """Wait for the status, or status and reason, of a sandbox's condition."""
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    status = (await get_sandbox(self.api, name) or {}).get("status") or {}
                    is_told = any(one["type"] == kind for one in status.get("conditions") or ())
                    if is_told and condition(status, kind)[: len(wanted)] == wanted:
                        return status
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {status}\n{self.operator.log.read_text()[-3000:]}") from None

    async def comes_to(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    status = (await self.api.get(BACKUPS, name, OWN)).get("status") or {}
                    if status.get("conditions") and wanted(status):
                        return status
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {status}\n{self.operator.log.read_text()[-3000:]}") from None


def is_stored(status: dict[str, Any]) -> bool:
    return condition(status, "Complete") == ("True", "Stored")


def has_reason(reason: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: condition(status, "Complete") == ("False", reason)


async def helper(place: Place) -> Any:
    """The one that is at work."""
    async with asyncio.timeout(PATIENCE):
        while not (found := [one for one in place.containers("backup") if one.status == "running"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found[0]


@contextlib.asynccontextmanager
async def backup_place(
    control_plane: Cluster, host: EngineDescription, tmp_path: Path, endpoint: str = ""
) -> AsyncIterator[Place]:
    """One sandbox, which is ready, with files in its workspace. `endpoint`: where the engine is reached."""
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    before = counted(host)
    directory = tmp_path / "backups"
    async with Api(credentials, user_agent="tests") as api:
        image = recipe("operator").reference
        options = (f"--sandbox-image={IMAGE}", f"--relay-image={image}", f"--backup-network={SERVERS}/32")
        operator = Operator(control_plane, tmp_path / "log", *options)
        operator.start()
        await operator.is_ready()
        fleet = Fleet(api)
        with client(host) as engine:
            found = Place(api, operator, fleet, engine, directory)
            try:
                await fleet.add(
                    "engine-1",
                    endpoint or host.socket,
                    allowedNamespaces={"names": [OWN]},
                    backupDirectory=str(directory),
                )
                await fleet.comes_to("engine-1", is_ready)
                await fleet.secret("alice", {"api-key": KEY}, meta.SECRET_TYPE)
                await fleet.secret("backups", {"password": PASSWORD}, meta.BACKUP_SECRET_TYPE)
                await create_sandbox(api, "alice", workspace={"size": "1Gi", "retention": "Delete"})
                await found.is_("alice", "Ready", "True")
                found.run("mkdir -m 700 src && echo hello > src/a && head -c 3000000 /dev/urandom > src/b")
                yield found
            finally:
                if not operator.alive:
                    # A test may have left it so.
                    operator.start()
                for one in (await api.list(BACKUPS, OWN)).items:
                    await api.delete(BACKUPS, one["metadata"]["name"], OWN)
                for one in (await api.list(SANDBOXES, OWN)).items:
                    with contextlib.suppress(ApiError):
                        await api.delete(SANDBOXES, one["metadata"]["name"], OWN)
                async with asyncio.timeout(PATIENCE):
                    while (await api.list(SANDBOXES, OWN)).items:  # noqa: ASYNC110 - only asking tells
                        await asyncio.sleep(0.05)
                await fleet.close()
                assert operator.stop() == 0, operator.log.read_text()
                print(operator.log.read_text())
    assert "Traceback" not in operator.log.read_text()
    assert counted(host) == before
