"""Where it is measured: a real control plane, a real engine behind a socket that counts, and the operator."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import docker
from tests.bench.on_docker.counting import Counting, counting
from tests.bench.on_docker.events import Events
from tests.bench.process import Operator

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, NAMESPACES, SANDBOXES, SECRETS, Resource
from claude_sandbox.localcluster import cluster, engine, ports
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.images.recipes import recipe
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

Report = Callable[[str], None]

NAME = "bench"
AGENTS, OPERATOR = "agents", "operator"
SECRET = "anthropic-api-key"
IMAGE = "claudesandbox.dev/bench:1"

_DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
_BUSYBOX = Needed(("busybox-static",), (), ("usr/share/doc/busybox-static/copyright",))
# As much as a host that is asked for nothing but sandboxes would give; the containers here use next to nothing.
_CAPACITY = {"sandboxes": 1000, "memory": "4Ti"}


@dataclass(frozen=True)
class Place:
    """Everything is up, and the host is known. `engine` and `counted` are behind the socket, `events` is not."""

    api: Api
    made: EngineDescription
    engine: Engine
    counted: Counting
    events: Events
    operator: Operator
    kubeconfig: Path

    @property
    def pids(self) -> dict[str, int]:
        """The processes whose CPU is told."""
        found = {name: engine.pid(self.made, name) for name in engine.COMPONENTS}
        return {"operator": self.operator.pid} | {name: pid for name, pid in found.items() if pid is not None}


@contextlib.asynccontextmanager
async def place(directory: Path, release: str, report: Report, *options: str) -> AsyncIterator[Place]:
    """Bring everything up; all of it is gone afterwards. `options`: of the operator. Raises LocalClusterError."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(cluster.down, NAME, report)
        running = await asyncio.to_thread(cluster.up, NAME, fsync=False, report=report)
        stack.callback(engine.down, NAME, report)
        made = await asyncio.to_thread(engine.up, NAME, release, say=report)
        await asyncio.to_thread(_load_image, made, directory, report)
        socket = directory / "engine.sock"
        counted = await stack.enter_async_context(counting(made.socket_path, socket))
        events = await stack.enter_async_context(Events(made.socket))
        api = await stack.enter_async_context(Api(load(str(running.kubeconfig)), attempts=1, user_agent="bench"))
        await _prepare(api)
        (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
        own = ("--docker", f"--relay-image={recipe('operator').reference}", *options)
        operator = Operator(running.kubeconfig, OPERATOR, port, directory / "operator.log", IMAGE, own)
        stack.push_async_callback(operator.stop)
        report("Starting the operator.")
        await operator.start()
        client = await asyncio.to_thread(docker.APIClient, f"unix://{socket}", version="auto", timeout=120)
        asked = Engine(lambda: client)
        stack.callback(asked.close)
        found = Place(api, made, asked, counted, events, operator, running.kubeconfig)
        await _join(found, f"unix://{socket}")
        yield found


def _load_image(made: EngineDescription, directory: Path, report: Report) -> None:
    """A shell, and a Claude Code that is always content: what is measured is not what it does."""
    claude = directory / "claude"
    claude.write_text("#!/bin/sh\n")
    program = ensure(_BUSYBOX, report).file("bin/busybox")
    assert program is not None
    links = {f"/bin/{applet}": "busybox" for applet in ("cat", "chmod", "grep", "mv", "rm", "sh", "sleep")}
    programs = {"/bin/busybox": program, "/bin/claude": claude}
    start = ("/bin/busybox", "sleep", "infinity")
    engine.load_image(made, of_programs(programs, directory / "image.tar", IMAGE, builder.goarch(), start, links))
    engine.load_image(made, build_image("operator", report))


async def _prepare(api: Api) -> None:
    for kind in definitions.KINDS:
        await api.apply(_DEFINITIONS, definitions.definition(kind))
    for name in (AGENTS, OPERATOR):
        await api.create(NAMESPACES, {"metadata": {"name": name}})
    secret = {"metadata": {"name": SECRET}, "type": meta.SECRET_TYPE, "stringData": {"api-key": "none"}}
    await api.create(SECRETS, secret, AGENTS)
    async with asyncio.timeout(60):
        for resource in (SANDBOXES, DOCKER_HOSTS):
            while not await _is_served(api, resource):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)


async def _is_served(api: Api, resource: Resource) -> bool:
    try:
        await api.list(resource)
    except ApiError:
        return False
    return True


async def _join(found: Place, endpoint: str) -> None:
    spec = {"endpoint": endpoint, "allowedNamespaces": {"names": [AGENTS]}, "capacity": _CAPACITY}
    kind = {"apiVersion": DOCKER_HOSTS.api_version, "kind": DOCKER_HOSTS.kind}
    await found.api.create(DOCKER_HOSTS, {**kind, "metadata": {"name": "engine-1"}, "spec": spec})
    async with asyncio.timeout(60):
        while True:
            status = (await found.api.get(DOCKER_HOSTS, "engine-1")).get("status") or {}
            each = status.get("conditions") or ()
            if any(one["type"] == "Ready" and one["status"] == "True" for one in each):
                return
            await asyncio.sleep(0.1)
