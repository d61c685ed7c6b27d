"""Two engines and a server of backups that both reach, and sandboxes that leave a compromised host by themselves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from docker_fleet import OWN, Operator, condition, is_ready, prepare
from dockerkit import HELPER, IMAGE, counted
from drain_place import FIRST, Pair
from serverkit import SERVERS, Server, s3_server, sftp_server

from claude_sandbox.api import meta
from claude_sandbox.backends.docker import names
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import BACKUPS, SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

PATIENCE = 240.0
COMPROMISED = {"state": "HostCompromised"}
WORKSPACE = {"type": "PersistentVolumeClaim", "size": "64Mi", "retention": "Retain"}


class LeavingPlace(Pair):
    """Two engines, and a server of backups that both reach."""

    def __init__(self, api: Api, first: EngineDescription, second: EngineDescription, server: Server) -> None:
        super().__init__(api, first, second)
        self.server = server

    async def sandbox(self, name: str, **more: Any) -> Obj:
        backup = {
            "schedule": "30 2 29 2 *",
            "target": self.server.target("bucket"),
            "passwordSecretRef": {"name": "bucket"},
            "whenHostCompromised": "RestoreElsewhere",
        }
        return await self.create(name, workspace=WORKSPACE, backup=backup, **more)

    async def back_up(self, sandbox: str, name: str) -> Obj:
        """A backup that was verified."""
        spec = {"sandboxName": sandbox, "target": self.server.target("bucket"), "passwordSecretRef": {"name": "bucket"}}
        body = {"apiVersion": BACKUPS.api_version, "kind": BACKUPS.kind, "metadata": {"name": name}, "spec": spec}
        await self.api.create(BACKUPS, body, OWN)
        status: Obj = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while not status.get("conditions") or condition(status, "Complete")[0] != "True":
                    await asyncio.sleep(0.1)
                    status = (await self.api.get(BACKUPS, name, OWN)).get("status") or {}
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {status}") from None
        assert condition(status, "BackupVerified")[0] == "True"
        return status

    def run(self, host: str, name: str, script: str) -> str:
        """A command of the agent's."""
        (agent,) = self.containers(host, name)
        code, output = agent.exec_run(["sh", "-c", script], user="1000:1000")
        assert code == 0, output
        return str(output.decode())

    async def close(self) -> None:
        for one in (await self.api.list(BACKUPS, OWN)).items:
            await self.api.delete(BACKUPS, one["metadata"]["name"], OWN)
        # Nothing is taken away on a host that is compromised.
        await self.fleet.change(FIRST, incident=None)
        await self.fleet.comes_to(FIRST, is_ready)
        for sandbox in (await self.api.list(SANDBOXES, OWN)).items:
            await self.api.delete(SANDBOXES, sandbox["metadata"]["name"], OWN)
        own: dict[str, str | list[str] | bool] = {"label": f"{names.LABEL_NAMESPACE}={OWN}"}
        async with asyncio.timeout(PATIENCE):
            while any(sdk.containers.list(all=True, filters=own, ignore_removed=True) for sdk in self.sdk.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for sdk in self.sdk.values():
            # What is kept, and what was left.
            for volume in sdk.volumes.list(filters=own):
                volume.remove()
        await super().close()


@contextlib.asynccontextmanager
async def leaving_operator(cluster: Cluster, log: Path, *more: str) -> AsyncIterator[Operator]:
    """`more`: further options of it."""
    await prepare(from_kubeconfig(str(cluster.kubeconfig)))
    options = (f"--sandbox-image={IMAGE}", f"--relay-image={HELPER.reference}", f"--backup-network={SERVERS}/32")
    made = Operator(cluster, log, *options, "--probe-interval=0", *more)
    made.start()
    await made.is_ready()
    yield made
    if made.alive:
        assert made.stop() == 0, made.log.read_text()
    print(made.log.read_text())
    assert "Traceback" not in made.log.read_text()


@contextlib.asynccontextmanager
async def leaving_place(
    cluster: Cluster, host: EngineDescription, other_host: EngineDescription, directory: Path, kind: str = "S3"
) -> AsyncIterator[LeavingPlace]:
    """With the first host, which an operator that runs has found. `kind`: of the server."""
    before = [counted(one) for one in (host, other_host)]
    serving = s3_server if kind == "S3" else sftp_server
    with serving(directory, SERVERS, host.netns, other_host.netns) as server:
        async with Api(from_kubeconfig(str(cluster.kubeconfig)), user_agent="tests") as api:
            made = LeavingPlace(api, host, other_host, server)
            try:
                await made.joined(FIRST)
                credentials = {name: value.decode() for name, value in server.credentials.items()}
                secret = credentials | {"password": "not-really-a-password"}
                await made.fleet.secret("bucket", secret, meta.BACKUP_SECRET_TYPE)
                yield made
            finally:
                await made.close()
    assert [counted(one) for one in (host, other_host)] == before


def why(found: Obj) -> tuple[str, str]:
    return condition(found["status"], "Ready")


def message(found: Obj) -> str:
    (ready,) = (one for one in found["status"]["conditions"] if one["type"] == "Ready")
    return str(ready["message"])
