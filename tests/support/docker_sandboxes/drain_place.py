"""Two engines of different releases as the DockerHosts `first` and `second`, and sandboxes that move between them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import docker
from docker_fleet import OWN, Fleet, condition, create_sandbox, get_sandbox, is_ready

from claude_sandbox.api import meta
from claude_sandbox.backends.docker import names
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, SANDBOXES, SECRETS
from claude_sandbox.localcluster.engine import EngineDescription

FIRST, SECOND = "first", "second"
PATIENCE = 90.0
MAY_MOVE: dict[str, Any] = {"updateStrategy": {"type": "Recreate"}}
# Ends only by force, ten seconds after it was told to.
STUBBORN: dict[str, Any] = {"command": ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}


class Pair:
    """The API server and two engines, from a user's and an administrator's side."""

    def __init__(self, api: Api, first: EngineDescription, second: EngineDescription) -> None:
        self.api = api
        self.fleet = Fleet(api)
        self.engines = {FIRST: first, SECOND: second}
        self.sdk = {
            name: docker.DockerClient(base_url=one.socket, timeout=60, version="auto")
            for name, one in self.engines.items()
        }
        self.endpoints = {name: one.socket for name, one in self.engines.items()}
        self.began = time.time()

    async def join(self, *hosts: str, **spec: Any) -> None:
        """Make engines known, for the tests' namespace."""
        for host in hosts:
            images = {"allowed": [{"repository": "claudesandbox.dev"}]}
            spec = {"allowedNamespaces": {"names": [OWN]}, "images": images, **spec}
            await self.fleet.add(host, self.endpoints[host], **spec)

    async def joined(self, *hosts: str, **spec: Any) -> None:
        """The same, and wait until an operator has found them."""
        await self.join(*hosts, **spec)
        for host in hosts:
            await self.fleet.comes_to(host, is_ready)

    async def key(self, name: str, kind: str) -> None:
        """A Secret of this type."""
        secret = {"metadata": {"name": name}, "type": kind, "stringData": {"api-key": "not-really-a-key"}}
        await self.api.create(SECRETS, secret, OWN)

    async def create(self, name: str, secret: str | None = meta.SECRET_TYPE, **spec: Any) -> Obj:
        """A sandbox without files that would be kept, and its key in a Secret of this type."""
        if secret is not None:
            await self.key(name, secret)
        workspace, resources = {"type": "EmptyDir", "size": "16Mi"}, {"cpu": "500m", "memory": "256Mi"}
        return await create_sandbox(self.api, name, **{"workspace": workspace, "resources": resources, **spec})

    async def get(self, name: str) -> Obj | None:
        return await get_sandbox(self.api, name)

    async def comes_to(self, name: str, wanted: Callable[[Obj], bool], patience: float = PATIENCE) -> Obj:
        """Wait until the sandbox is as wanted."""
        found: Obj | None = None
        try:
            async with asyncio.timeout(patience):
                while True:
                    found = await self.get(name)
                    if found is not None and (found.get("status") or {}).get("conditions") and wanted(found):
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            hosts = [one.get("status", {}).get("conditions") for one in (await self.api.list(DOCKER_HOSTS)).items]
            raise AssertionError(f"{name} stays as it is: {found}\n{hosts}") from None

    def containers(self, host: str, name: str | None = None) -> list[Any]:
        """The running containers of sandboxes on a host."""
        wanted = [names.LABEL_COMPONENT + "=" + names.AGENT, *([f"{meta.LABEL_SANDBOX}={name}"] if name else [])]
        return list(self.sdk[host].containers.list(filters={"label": wanted}))

    def left(self, host: str, name: str) -> list[str]:
        """Everything that a host has of a sandbox, running or not."""
        wanted: dict[str, str | list[str] | bool] = {"label": f"{meta.LABEL_SANDBOX}={name}"}
        sdk = self.sdk[host]
        found: Iterable[Any] = (
            *sdk.containers.list(all=True, filters=wanted),
            *sdk.networks.list(filters=wanted),
            *sdk.volumes.list(filters=wanted),
        )
        return [one.name for one in found]

    def lives(self, name: str) -> list[tuple[str, str, int]]:
        """When containers of a sandbox were started and ended, from the engines: (what, host, when in ns), in order."""
        found = [
            (one["Action"], host, one["timeNano"])
            for host in self.engines
            for one in self._events(host, name)
            if one["Action"] in ("start", "die")
        ]
        return sorted(found, key=lambda one: one[2])

    def _events(self, host: str, name: str) -> Iterator[dict[str, Any]]:
        wanted = [f"{meta.LABEL_SANDBOX}={name}", f"{names.LABEL_COMPONENT}={names.AGENT}"]
        filters = {"label": wanted, "type": "container"}
        yield from self.sdk[host].events(
            since=int(self.began), until=int(time.time()) + 1, decode=True, filters=filters
        )

    def never_two(self, name: str) -> None:
        """At no time did two containers of the sandbox run."""
        running = 0
        for what, _host, _when in self.lives(name):
            running += 1 if what == "start" else -1
            assert running <= 1, self.lives(name)

    async def close(self) -> None:
        """Remove all sandboxes, which takes an operator, and then the hosts."""
        for sandbox in (await self.api.list(SANDBOXES, OWN)).items:
            with contextlib.suppress(ApiError):
                await self.api.delete(SANDBOXES, sandbox["metadata"]["name"], OWN)
        async with asyncio.timeout(PATIENCE):
            while (await self.api.list(SANDBOXES, OWN)).items:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
        await self.fleet.close()
        for sdk in self.sdk.values():
            sdk.close()


def placed_on(found: Obj) -> str:
    return str(found["status"]["placement"]["host"])


def ready(found: Obj) -> bool:
    return condition(found["status"], "Ready")[0] == "True"


def ready_on(host: str) -> Callable[[Obj], bool]:
    """Ready, and there."""
    return lambda found: (
        ready(found) and placed_on(found) == host == (found["status"].get("workload") or {}).get("host")
    )


def moving(found: Obj) -> bool:
    return condition(found["status"], "Ready") == ("False", "Moving")


def drained(status: Obj) -> tuple[str, str]:
    return condition(status, "Drained")
