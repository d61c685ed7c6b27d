"""An engine, an operator and a registry that both see, with a policy that asks for signatures. Nothing is left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import docker
from cryptography.hazmat.primitives.asymmetric import ec
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, get_sandbox, is_ready, prepare
from dockerkit import BROKEN, IMAGE, counted
from enginekit import BUSYBOX
from image_registry import ImageRegistry, forwarded
from nodekit import report
from signing import pem_of, sign

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.images.recipes import recipe
from claude_sandbox.localcluster.node.namespaces import enter_network
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

OURS, THEIRS = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
WORKS, CRASHES = "exec sleep infinity", "exit 1"
UNHEALTHY = f": >{BROKEN}; exec sleep infinity"
"""What stands in for Claude Code says at once that it can't run."""
HANGS = f"echo 3600 >{BROKEN}; exec sleep infinity"
"""... and says nothing at all."""
PATIENCE = 240.0
BESIDE = {
    "strategy": "Auto",
    "maxAge": "0m",
    "canary": "Command",
    "healthGate": {"readyWithin": "90s", "stableFor": "3s"},
}
AT_ONCE = BESIDE | {"canary": "None"}
_APPLETS = ("sh", "sleep", "grep", "cat", "id", "mkdir", "ls", "nc", "ip", "ps", "find", "mount", "env")


class ImagePlace:
    """An engine, an operator, and a registry that both see at the same address."""

    def __init__(
        self, api: Api, host: EngineDescription, registry: ImageRegistry, operator: Operator, at: Path
    ) -> None:
        self.api, self.host, self.registry, self.operator, self._directory = api, host, registry, operator, at
        self.fleet = Fleet(api)
        self.sdk = docker.DockerClient(base_url=host.socket, timeout=60, version="auto")

    async def push(
        self,
        name: str,
        work: str,
        mark: str,
        key: ec.EllipticCurvePrivateKey | None = OURS,
        volumes: tuple[str, ...] = (),
    ) -> str:
        """Have the tag NAME:1 stand for an image whose program does this; its digest. `volumes`: what it declares."""
        directory = self._directory / f"{name}-{mark}"
        directory.mkdir()
        program = directory / "work"
        program.write_text(f"#!/bin/sh\n# {mark}\n{work}\n")
        busybox = ensure(BUSYBOX, report).file("bin/busybox")
        assert busybox is not None
        programs = {"/bin/busybox": busybox, "/bin/work": program}
        links = {f"/bin/{one}": "busybox" for one in _APPLETS}
        target = directory / "image.tar"
        entry = ("/bin/work",)
        await asyncio.to_thread(
            of_programs, programs, target, f"{name}:1", builder.goarch(), entry, links, volumes=volumes
        )
        digest = await asyncio.to_thread(self.registry.put_archive, name, "1", target)
        if key is not None:
            sign(self.registry, name, digest, key)
        return digest

    async def create(self, name: str, **spec: Any) -> Obj:
        await self.fleet.secret(name, {"api-key": "no-key-at-all"}, meta.SECRET_TYPE)
        image = {"repository": f"{self.registry.host}/{name}", "tag": "1"}
        own = {"workspace": {"type": "EmptyDir", "size": "16Mi"}, "command": ["/bin/work"], **spec}
        return await create_sandbox(self.api, name, image=image, **own)

    async def edit(self, name: str, **spec: Any) -> None:
        await self.api.patch(r.SANDBOXES, name, OWN, {"spec": spec})

    async def comes_to(self, name: str, wanted: Callable[[Obj], bool]) -> Obj:
        """Wait until the sandbox is as wanted."""
        found: Obj | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = await get_sandbox(self.api, name)
                    if found is not None and (found.get("status") or {}).get("conditions") and wanted(found):
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{name} stays as it is: {found}\n{self.operator.log.read_text()}") from None

    async def runs(self, name: str, digest: str) -> Obj:
        """Wait until the sandbox is Ready with a container of this digest."""
        return await self.comes_to(name, lambda found: self.is_of(name, found, digest))

    def is_of(self, name: str, found: Obj, digest: str) -> bool:
        """Whether the sandbox is Ready with a container of this digest."""
        workload = found["status"].get("workload")
        if condition(found["status"], "Ready")[0] != "True" or not workload:
            return False
        wanted = f"{self.registry.host}/{name}:1@{digest}"
        with contextlib.suppress(docker.errors.NotFound):
            return bool(self.sdk.containers.get(workload["uid"]).attrs["Config"]["Image"] == wanted)
        return False

    def canaries(self) -> list[Any]:
        """The containers in which newer images are tried."""
        label: dict[str, str | list[str] | bool] = {"label": f"{meta.LABEL_COMPONENT}=canary"}
        return list(self.sdk.containers.list(all=True, filters=label, ignore_removed=True))

    async def tried(self, digest: str = "") -> Any:
        """Wait until one of them runs, of this digest."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for one in self.canaries():
                    if one.status == "running" and one.attrs["Config"]["Image"].endswith(digest):
                        return one
                await asyncio.sleep(0.1)

    def pulled(self) -> set[str]:
        """The digests of the registry's images that the engine has."""
        digests = (one for image in self.sdk.images.list() for one in image.attrs.get("RepoDigests") or ())
        return {one.partition("@")[2] for one in digests if one.startswith(self.registry.host)}

    async def join(self, endpoint: str = "") -> None:
        """Make the engine known, for the tests' namespace and the registry's images."""
        images = {"allowed": [{"repository": self.registry.host}]}
        namespaces = {"names": [OWN]}
        await self.fleet.add("engine-1", endpoint or self.host.socket, allowedNamespaces=namespaces, images=images)
        await self.fleet.comes_to("engine-1", is_ready)

    async def emptied(self) -> None:
        """Delete the sandboxes, and wait until they are gone."""
        for sandbox in (await self.api.list(r.SANDBOXES, OWN)).items:
            with contextlib.suppress(ApiError):
                await self.api.delete(r.SANDBOXES, sandbox["metadata"]["name"], OWN)
        async with asyncio.timeout(PATIENCE):
            while (await self.api.list(r.SANDBOXES, OWN)).items:  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)

    def forget_images(self) -> None:
        """Remove what the engine pulled."""
        for digest in self.pulled():
            for image in self.sdk.images.list():
                if image.id and any(digest in one for one in image.attrs.get("RepoDigests") or ()):
                    self.sdk.images.remove(image.id, force=True)


@contextlib.asynccontextmanager
async def image_place(
    control_plane: Cluster, host: EngineDescription, tmp_path: Path, *options: str, endpoint: str = ""
) -> AsyncIterator[ImagePlace]:
    """`options`: further ones of the operator's. `endpoint`: where it reaches the engine."""
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    images = (f"--sandbox-image={IMAGE}", f"--relay-image={recipe('operator').reference}")
    operator = Operator(control_plane, tmp_path / "log", *images, "--image-check-interval=1", *options)
    before = counted(host)
    async with ImageRegistry(tmp_path / "registry") as registry, Api(credentials, user_agent="tests") as api:
        policy = {
            "permitted": [{"repository": registry.host, "publicKeys": [pem_of(OURS)]}],
            "registries": [{"host": registry.host, "plainHttp": True}],
        }
        body = {"apiVersion": meta.API_VERSION, "kind": meta.IMAGE_POLICY_KIND, "metadata": {"name": "docker"}}
        await api.apply(r.IMAGE_POLICIES, body | {"spec": policy})
        operator.start()
        await operator.is_ready()
        made = ImagePlace(api, host, registry, operator, tmp_path)
        with forwarded(registry, enter_network(host.names)):
            try:
                await made.join(endpoint)
                yield made
            finally:
                if not operator.alive:
                    # A test that failed may have left it so.
                    operator.start()
                try:
                    await made.emptied()
                finally:
                    await api.delete(r.IMAGE_POLICIES, "docker")
                    await made.fleet.close()
                    assert operator.stop() == 0, operator.log.read_text()
                    made.forget_images()
                    made.sdk.close()
                    print(operator.log.read_text())
    assert "Traceback" not in operator.log.read_text()
    assert counted(host) == before


def rolled_to(digest: str) -> Callable[[Obj], bool]:
    """Whether the status says what became of a digest."""
    return lambda found: (found["status"]["image"].get("last") or {}).get("to") == digest
