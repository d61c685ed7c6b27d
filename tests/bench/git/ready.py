"""Create to Ready of a sandbox with a repository, beside a plain pod that clones the same directly; on a real node.

The pod is as a person writes it: an init container of the same image clones into an emptyDir, by the server's own
address and with the token in its URL, and a container of the same image waits. Both are made in turn, each gone before
the next. Node, server and all else share the machine: the difference holds from machine to machine, seconds don't.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gatewaykit import authority
from git_process import TOKEN, GitProcess, git_process
from provider_process import ADDRESS, provider_in
from tests.bench import load
from tests.bench.git.speed import made
from tests.bench.objects import is_ready
from tests.bench.process import Operator

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions
from claude_sandbox.blueprint.tools import BUSYBOX
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import load as credentials
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import NAMESPACES, PODS, SANDBOXES, SECRETS, Resource
from claude_sandbox.localcluster import cluster, ports
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.localcluster.node import load_image
from claude_sandbox.localcluster.node.names import Names

Report = Callable[[str], None]

PLAIN, OURS = "plain pod", "sandbox"
NAME, SPACE, HOST = "bench", "agents", "git.example.org"
_DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")
_RESOURCES = {"cpu": "1", "memory": "1Gi"}


@dataclass(frozen=True)
class Ready:
    """Of a repository of so many MiB: seconds from create to Ready, of each by what it is."""

    megabytes: int
    seconds: Mapping[str, tuple[float, ...]]

    @property
    def more(self) -> float:
        """Seconds that a sandbox takes longer, by the medians."""
        return median(self.seconds[OURS]) - median(self.seconds[PLAIN])


async def measure(directory: Path, megabytes: int, rounds: int, report: Report) -> Ready:
    """Bring everything up, and measure. As root. Raises LocalClusterError, OperatorEnded, Slow."""
    async with _place(directory, megabytes, report) as (api, image, git):
        found: dict[str, list[float]] = {PLAIN: [], OURS: []}
        # The namespace's gateway goes with its last sandbox, and would be made anew for each.
        await load.create(api, SANDBOXES, [_sandbox("stays", git)], rate=None, ready=is_ready)
        for number in range(rounds + 1):
            report(f"A plain pod and a sandbox with {megabytes} MiB to clone ({number} of {rounds}).")
            for what in (PLAIN, OURS) if number % 2 else (OURS, PLAIN):
                name = f"{what.partition(' ')[0]}-{number}"
                kind = PODS if what == PLAIN else SANDBOXES
                body = _pod(name, image, git, megabytes) if what == PLAIN else _sandbox(name, git, megabytes)
                run = await load.create(api, kind, [body], rate=None, ready=is_ready)
                # The first of each finds nothing where it is looked for twice.
                found[what] += run.latencies if number else ()
                await _gone(api, kind, name)
        return Ready(megabytes, {what: tuple(seconds) for what, seconds in found.items()})


@contextlib.asynccontextmanager
async def _place(directory: Path, megabytes: int, report: Report) -> AsyncIterator[tuple[Api, str, GitProcess]]:
    """A node with the images, a git server beside it that wants a token, and the operator."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(cluster.down, NAME, report)
        running = await asyncio.to_thread(cluster.up, NAME, node=True, fsync=False, report=report)
        images = [build_image(name, report) for name in ("sandbox", "operator")]
        for image in images:
            await asyncio.to_thread(load_image, running.layout, image)
        network, trust = Names.of(running.layout).network, authority(directory, ADDRESS, HOST)
        provider = stack.enter_context(provider_in(network, directory))
        git = stack.enter_context(git_process(network, ADDRESS, (trust.certificate, trust.key), directory))
        await made(git.files / f"team/{megabytes}.git", directory / "work", megabytes)
        egress = {"hosts": {HOST: [ADDRESS]}, "privateNetworks": [f"{ADDRESS}/32"], "caFile": str(trust.bundle)}
        settings = directory / "gateways.json"
        settings.write_text(json.dumps({"provider": {"baseURL": provider.url}, "egress": egress}))
        api = await stack.enter_async_context(Api(credentials(str(running.kubeconfig)), attempts=1, user_agent="bench"))
        await _prepare(api, git)
        (port,) = ports.allocate("bench-operator", ("operator",), ()).values()
        options = (f"--gateway-image={images[1].pinned}", f"--gateway-settings={settings}")
        options += ("--open-private-network=10.0.0.0/8",)
        log = directory / "operator.log"
        operator = Operator(running.kubeconfig, "default", port, log, images[0].pinned, options)
        stack.push_async_callback(operator.stop)
        await operator.start()
        yield api, images[0].pinned, git


async def _prepare(api: Api, git: GitProcess) -> None:
    for kind in definitions.KINDS:
        await api.apply(_DEFINITIONS, definitions.definition(kind))
    await api.create(NAMESPACES, {"metadata": {"name": SPACE}})
    for name, kind, data in (
        ("key", meta.SECRET_TYPE, {"api-key": "none"}),
        ("git", meta.GIT_SECRET_TYPE, {"host": f"{HOST}:{git.port}", "token": TOKEN}),
    ):
        await api.create(SECRETS, {"metadata": {"name": name}, "type": kind, "stringData": data}, SPACE)
    async with asyncio.timeout(60):
        while True:
            try:
                await api.list(SANDBOXES, SPACE)
                return
            except ApiError:
                await asyncio.sleep(0.1)


async def _gone(api: Api, kind: Resource, name: str) -> None:
    await api.delete(kind, name, SPACE)
    pod = name if kind is PODS else f"sandbox-{name}"
    async with asyncio.timeout(120):
        while any(one["metadata"]["name"] == pod for one in (await api.list(PODS, SPACE)).items):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def _sandbox(name: str, git: GitProcess, megabytes: int | None = None) -> dict[str, Any]:
    """With a repository of so many MiB, or without one."""
    url = f"https://{HOST}:{git.port}/team/{megabytes}"
    project = {"path": "project", "url": url, "credentialsSecretRef": {"name": "git"}}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.KIND,
        "metadata": {"namespace": SPACE, "name": name},
        "spec": {
            "credentials": {"apiKeySecretRef": {"name": "key"}},
            "resources": _RESOURCES,
            "terminationGracePeriodSeconds": 1,
            "workspace": {"type": "EmptyDir", "size": "2Gi"},
            "repositories": [project] if megabytes is not None else [],
        },
    }


def _pod(name: str, image: str, git: GitProcess, megabytes: int) -> dict[str, Any]:
    url = f"https://x-access-token:{TOKEN}@{ADDRESS}:{git.port}/team/{megabytes}"
    mount = {"name": "workspace", "mountPath": "/workspace"}
    common = {"image": image, "resources": {"limits": _RESOURCES}, "volumeMounts": [mount]}
    command = ["git", "-c", "http.sslVerify=false", "clone", "-q", url, "/workspace/project"]
    return {
        "metadata": {"namespace": SPACE, "name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 1000},
            "initContainers": [{"name": "clone", "command": command, **common}],
            "containers": [{"name": "agent", "command": [BUSYBOX, "sleep", "infinity"], **common}],
            "volumes": [{"name": "workspace", "emptyDir": {}}],
        },
    }


def page(found: Ready, machine: str) -> str:
    """For people."""
    head = ["| create to Ready with | plain pod, s | sandbox, s | more, s |", "|---|---|---|---|"]
    plain, ours = (_spread(found.seconds[what]) for what in (PLAIN, OURS))
    return "\n".join([machine, "", *head, f"| {found.megabytes} MiB | {plain} | {ours} | {found.more:.2f} |"])


def document(found: Ready, machine: str) -> dict[str, Any]:
    """The same as JSON."""
    return {"machine": machine, "megabytes": found.megabytes, "seconds": dict(found.seconds), "more": found.more}


def _spread(seconds: tuple[float, ...]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
