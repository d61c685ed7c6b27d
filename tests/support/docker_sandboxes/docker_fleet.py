"""An operator process that looks after Docker hosts, and DockerHosts in a real API server."""

import asyncio
import contextlib
import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from loopback import free_address

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, EVENTS, NAMESPACES, SANDBOXES, SECRETS, Resource
from claude_sandbox.localcluster.cluster import Cluster

CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
OWN = "docker-hosts-operator"
ADDRESS = f"{free_address(8080)}:8080"
TO_START = 300.0
"""Seconds that a process has to begin its work, on a machine where much else begins at the same time."""
PATIENCE = 90.0
"""Seconds; generous, because the machine may be busy. Nothing waits as long as this when all is well."""


async def create_sandbox(api: Api, name: str, **spec: Any) -> Obj:
    """One on Docker, whose key is in the Secret of its name; it holds it itself unless the spec says otherwise."""
    credentials = {"apiKeySecretRef": {"name": name}, "delivery": "Mounted"} | spec.pop("credentials", {})
    body = {
        "apiVersion": SANDBOXES.api_version,
        "kind": SANDBOXES.kind,
        "metadata": {"name": name},
        "spec": {"backend": {"type": "Docker"}, "credentials": credentials, **spec},
    }
    return await api.create(SANDBOXES, body, OWN)


async def get_sandbox(api: Api, name: str) -> Obj | None:
    """None where there is none."""
    try:
        return await api.get(SANDBOXES, name, OWN)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise


async def event_notes(api: Api, name: str, reason: str, part: str = "", uid: str = "") -> list[str]:
    """The notes of the Events of this reason about the objects of a name, once one has this part.

    Events are written after what they are about: who has seen the status has not seen them yet."""
    notes: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                events = [one for space in ("default", OWN) for one in (await api.list(EVENTS, space)).items]
                about = [one for one in events if (one["regarding"]["name"], one["reason"]) == (name, reason)]
                notes = [one["note"] for one in about if not uid or one["regarding"]["uid"] == uid]
                if any(part in note for note in notes):
                    return notes
                await asyncio.sleep(0.1)
    raise AssertionError(f"no Event {reason} about {name} says {part!r}, but: {notes}")


async def prepare(credentials: Credentials) -> None:
    """Install what the operator looks after, and make its own namespace."""
    async with Api(credentials) as api:
        for kind in definitions.KINDS:
            await api.apply(CRDS, definitions.definition(kind))
        await api.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN}})
        for resource in ("dockerhosts", "claudesandboxes"):
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        await api.list(Resource(meta.GROUP, meta.VERSION, resource, False, ""))
                        break
                    except ApiError:
                        await asyncio.sleep(0.1)


class Operator:
    """`claude-sandbox run --docker`, as a process of its own."""

    def __init__(self, cluster: Cluster, log: Path, *options: str) -> None:
        self.log = log
        self._address = ADDRESS
        self._command = [
            *(sys.executable, "-m", "claude_sandbox.cli.main", "run", "--docker", "--no-leader-election"),
            f"--kubeconfig={cluster.kubeconfig}",
            f"--lease-namespace={OWN}",
            # Of sandboxes only those here, so that others' are left alone.
            f"--namespace={OWN}",
            f"--sandbox-image=example.org/sandbox@sha256:{'a' * 64}",
            f"--bind={ADDRESS}",
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def beside(self, log: Path) -> "Operator":
        """Another one, with the same options, at an address of its own."""
        found = copy.copy(self)
        found.log, found._process, found._address = log, None, f"{free_address(8080)}:8080"
        found._command = [*self._command, f"--bind={found._address}"]
        return found

    async def restart(self, *options: str) -> None:
        """End it, and begin anew with these options as well."""
        assert self.stop() == 0, self.log.read_text()
        self._command += options
        self.start()
        await self.is_ready()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        """As a crash does; returns at once."""
        assert self._process is not None
        self._process.kill()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(PATIENCE)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def is_ready(self) -> None:
        """Return when it is; where that does not come it is killed, since whoever waited does not get to stop it."""
        try:
            await self._ready()
        except BaseException:
            if self.alive:
                self.stop(signal.SIGKILL)
            raise

    async def _ready(self) -> None:
        async with asyncio.timeout(TO_START), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://{self._address}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                assert self.alive, self.log.read_text()
                await asyncio.sleep(0.05)


class Fleet:
    """DockerHosts in the API server, which go when the test ends."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._made: set[str] = set()

    async def add(self, name: str, endpoint: str, **spec: Any) -> Obj:
        self._made.add(name)
        body = {
            "apiVersion": DOCKER_HOSTS.api_version,
            "kind": DOCKER_HOSTS.kind,
            "metadata": {"name": name},
            "spec": {"endpoint": endpoint, **spec},
        }
        return await self.api.create(DOCKER_HOSTS, body)

    async def change(self, name: str, **spec: Any) -> Obj:
        return await self.api.patch(DOCKER_HOSTS, name, None, {"spec": spec})

    async def secret(self, name: str, data: dict[str, str], kind: str = meta.HOST_SECRET_TYPE) -> None:
        await self.api.create(SECRETS, {"metadata": {"name": name}, "type": kind, "stringData": data}, OWN)

    async def comes_to(self, name: str, wanted: Callable[[Obj], bool], patience: float = PATIENCE) -> Obj:
        """Wait until the host's status is as wanted."""
        status: Obj = {}
        try:
            async with asyncio.timeout(patience):
                while True:
                    status = (await self.api.get(DOCKER_HOSTS, name)).get("status") or {}
                    if status.get("conditions") and wanted(status):
                        return status
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {status}") from None

    async def close(self) -> None:
        for host in (await self.api.list(DOCKER_HOSTS)).items:
            if host["metadata"]["name"] in self._made:
                await self.api.delete(DOCKER_HOSTS, host["metadata"]["name"])
        for secret in (await self.api.list(SECRETS, OWN)).items:
            await self.api.delete(SECRETS, secret["metadata"]["name"], OWN)


def condition(status: Obj, kind: str) -> tuple[str, str]:
    """Status and reason."""
    (found,) = (one for one in status["conditions"] if one["type"] == kind)
    return found["status"], found["reason"]


def is_ready(status: Obj) -> bool:
    return condition(status, "Ready")[0] == "True"


async def unchanged(api: Api, name: str, seconds: float) -> None:
    """Nothing is written about the host for so long."""
    before = (await api.get(DOCKER_HOSTS, name))["metadata"]["resourceVersion"]
    await asyncio.sleep(seconds)
    assert (await api.get(DOCKER_HOSTS, name))["metadata"]["resourceVersion"] == before
