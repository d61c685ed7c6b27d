"""What tests of the Docker backend share: an image with a stand-in for Claude Code, a key, and a sandbox's passes."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import docker
import pytest
from enginekit import BUSYBOX
from nodekit import report

from claude_sandbox.api import meta
from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.spec import Image as NamedImage
from claude_sandbox.backends.base import KeyState, Outcome, Past, WorkloadState
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.backends.docker.names import LABEL_COMPONENT, TOOLS, Names, names_of
from claude_sandbox.backends.docker.relay.relays import NO_PUBLISHING, Publishing
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.backends.probing.schedule import Probing
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Blueprint, Gateway, Identity, Image, Site
from claude_sandbox.blueprint.tools import DIRECTORY, MANIFEST
from claude_sandbox.gateway.services.declared import Unopened
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.images.recipes import recipe
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import ensure

CLUSTER = "5f0e5a4c-cluster"
IMAGE = "claudesandbox.dev/stand-in:1"
HELPER = Image(recipe("operator").reference, None, "Never")
"""What brings the keys."""
KEY = b"not-really-a-key-4711\n"
PRODUCTION: dict[str, Any] = {
    "profile": "Production",
    "budget": {"maxCostUSD": "20"},
    "lifecycle": {"ttl": "30d"},
    "backup": {"schedule": "30 2 * * *", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "backups"}},
}
"""What profile Production asks of a sandbox on Docker."""

FIRST = Past(provisioned=False, ran=False, settled=False)
LATER = Past(provisioned=True, ran=True, settled=True)

_APPLETS = (
    *("base64", "basename", "cat", "chmod", "dirname", "echo", "env", "grep", "head", "id", "kill", "ls", "mktemp"),
    *("mv", "nc", "ps", "rm", "sed", "sh", "sleep", "stat", "stty", "tar", "touch", "wc", "wget"),
)
BROKEN = "/tmp/claude-is-broken"
"""The file in a sandbox with which the stand-in can't run; where it holds a number, only after as many seconds."""
_CLAUDE = f"""#!/bin/sh
[ ! -e {BROKEN} ] || {{ sleep "$(cat {BROKEN})"; exit 1; }}
[ -f /etc/claude-code/managed-settings.json ]
"""
_BROUGHT = f"{DIRECTORY}/libexec"
_ENTRY = f"""#!{_BROUGHT}/busybox sh
[ "$1" != -- ] || shift
[ "$#" -gt 0 ] || set -- {_BROUGHT}/busybox sleep infinity
exec "$@"
"""
"""In the places of both the first process and the entry point."""
_UIDS = itertools.count(1)


@pytest.fixture(scope="session")
def stand_in_image(tmp_path_factory: pytest.TempPathFactory) -> ImageArchive:
    """A shell, the usual small programs, and a `claude` that is content where it finds its managed settings.

    Until it is broken. It has what is brought into the images of others, too.
    """
    return make_stand_in(tmp_path_factory.mktemp("stand-in"))


def make_stand_in(directory: Path, mark: str = "") -> ImageArchive:
    """The image; one of another mark has no layer in common with it."""
    programs = stand_in_programs(directory, mark)
    links = {f"/bin/{applet}": "busybox" for applet in _APPLETS}
    programs = {"/bin/busybox": programs[f"{_BROUGHT}/busybox"], "/bin/claude": programs[MANIFEST], **programs}
    start = ("/bin/busybox", "sleep", "infinity")
    return of_programs(programs, directory / "image.tar", IMAGE, builder.goarch(), start, links)


def stand_in_programs(directory: Path, mark: str = "") -> dict[str, Path]:
    """What stands in for what is brought into the images of others, by its place there."""
    claude = directory / "claude"
    claude.write_text(f"{_CLAUDE}# {mark}\n" if mark else _CLAUDE)
    program = ensure(BUSYBOX, report).file("bin/busybox")
    assert program is not None
    entry = directory / "entry"
    entry.write_text(_ENTRY)
    # What is brought into other images has a shell of its own.
    brought = directory / "brought"
    brought.write_text(claude.read_text().replace("#!/bin/sh", f"#!{_BROUGHT}/busybox sh"))
    return {
        f"{DIRECTORY}/bin/claude": brought,
        f"{_BROUGHT}/busybox": program,
        f"{_BROUGHT}/tini": entry,
        f"{_BROUGHT}/entrypoint": entry,
        MANIFEST: claude,
    }


@pytest.fixture(scope="session")
def host(docker_engine: EngineDescription, stand_in_image: ImageArchive) -> EngineDescription:
    """An engine of each release in turn, with the images."""
    furnish(docker_engine, stand_in_image)
    return docker_engine


def furnish(of: EngineDescription, stand_in: ImageArchive) -> None:
    """Bring the images onto an engine: of sandboxes, and of what brings them their keys."""
    engine.load_image(of, stand_in)
    engine.load_image(of, build_image("operator", report))


@dataclass
class Secrets:
    """The control plane's Secrets, as far as the backend sees them."""

    value: bytes = KEY
    generation: str = "1"
    problem: KeyState | None = None
    handed_out: list[Key] = field(default_factory=list)
    of_services: dict[str, bytes] = field(default_factory=dict)
    """By Secret and key, as `issues/token`."""
    of_git: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By Secret its keys, as they are in one that opted in."""

    async def state(self, identity: Identity, secret: str, key: str) -> KeyState:
        return self.problem or KeyState(generation=self.generation)

    async def read(self, identity: Identity, secret: str, key: str) -> Key:
        self.handed_out.append(Key(self.generation, bytearray(self.value)))
        return self.handed_out[-1]


@dataclass
class GatewaySecrets:
    """Those of services and repositories, likewise. A generation is another one with another value."""

    secrets: Secrets

    def generation(self, namespace: str, secret: str, use: str) -> str | None:
        found = [value for name, value in self.secrets.of_services.items() if name.startswith(f"{secret}/")]
        if use == meta.GIT_SECRET_TYPE:
            found = [b"".join(self.secrets.of_git[secret].values())] if secret in self.secrets.of_git else []
        return hashlib.sha256(found[0]).hexdigest()[:8] if found else None

    async def read(self, identity: Identity, gateway: Gateway) -> GatewayTexts:
        named = {
            one.name: f"{one.header.secret}/{one.header.key}" for one in gateway.services if one.header is not None
        }
        held, of_git = self.secrets.of_services, [one.secret for one in gateway.repositories]
        texts = {name: bytearray(held[secret]) for name, secret in named.items() if secret in held}
        return GatewayTexts(
            texts,
            dict.fromkeys(named.keys() - texts.keys(), Unopened.NO_SECRET),
            {
                name: {key: bytearray(value) for key, value in data.items()}
                for name, data in self.secrets.of_git.items()
                if name in of_git
            },
        )


@dataclass
class Clock:
    """Seconds as the pacing of repairs sees them."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sandbox:
    """One sandbox on one engine, with the passes that the reconcile loop would make."""

    backend: DockerBackend
    engine: Engine
    sdk: docker.DockerClient
    secrets: Secrets
    clock: Clock
    identity: Identity
    image: str
    spec: dict[str, Any] = field(default_factory=dict)
    # The sandboxes that the backend itself has asked another pass for.
    woken: list[tuple[str, str]] = field(default_factory=list)
    # What the operator gives sandboxes that name no image; None: what this one has, whatever it names.
    default: Image | None = field(default=None, kw_only=True)
    # What a test would have to wait long for otherwise.
    adjusted: Callable[[Blueprint], Blueprint] = field(default=lambda blueprint: blueprint, kw_only=True)

    @property
    def parsed(self) -> ClaudeSandboxSpec:
        mounted = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Mounted"}
        fields = {"credentials": mounted, "backend": {"type": "Docker"}}
        return ClaudeSandboxSpec.model_validate_json(json.dumps(fields | self.spec))

    @property
    def blueprint(self) -> Blueprint:
        own = self.default or build(self.identity, self.parsed, Site(Image(self.image, None, "Never"))).image
        return self.adjusted(build(self.identity, self.parsed, Site(own)))

    @property
    def names(self) -> Names:
        return names_of(CLUSTER, self.identity)

    async def once(self, past: Past = LATER) -> Outcome:
        """One pass."""
        blueprint = self.blueprint
        key = await self.backend.key(self.identity, blueprint.key.secret, blueprint.key.key)
        return await self.backend.ensure(blueprint, key, self.parsed, past)

    async def settled(self, past: Past = LATER) -> list[Outcome]:
        """Passes until there is nothing to do, as many as it takes; repairs that have to wait are not waited for."""
        outcomes = []
        for _ in range(12):
            outcomes.append(await self.once(past))
            last = outcomes[-1]
            if not (last.wrote or last.stale or last.failure or last.key_sent or last.paced):
                return outcomes
            if last.paced:
                self.clock.now += last.paced
            if last.foreign or last.unpublished:
                return outcomes
        raise AssertionError(f"does not come to rest: {outcomes[-3:]}")

    async def made(self) -> list[Outcome]:
        """From nothing to a running container."""
        outcomes = await self.settled(FIRST)
        assert self.running, outcomes
        return outcomes

    async def started(self) -> WorkloadState:
        """The state as soon as it is more than that it is on its way."""
        async with asyncio.timeout(60):
            while (state := await self.state()).reason is Reason.POD_PENDING:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        return state

    async def state(self) -> WorkloadState:
        return await self.backend.state(self.identity)

    @property
    def inspected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.sdk.api.inspect_container(self.names.container)
        return found

    @property
    def running(self) -> bool:
        try:
            return bool(self.inspected["State"]["Running"])
        except docker.errors.NotFound:
            return False

    @property
    def networks(self) -> set[str]:
        return set(self.inspected["NetworkSettings"]["Networks"])

    def sh(self, script: str) -> str:
        """What a script prints in the container, as the agent."""
        code, output = run_inside(self.sdk.api, self.names.container, "/bin/sh", "-c", script)
        return output if code == 0 else f"exit {code}: {output}"

    def key_in_place(self) -> bytes:
        return self.sh("cat /run/claude-sandbox/api-key/api-key").encode()

    def everything(self) -> str:
        """All that the engine tells of everything that it has, as text."""
        api = self.sdk.api
        found: list[Any] = [api.inspect_container(one["Id"]) for one in api.containers(all=True)]
        found += [api.volumes(), api.networks(), api.images(), api.info()]
        return json.dumps(found, default=str)


@contextlib.asynccontextmanager
async def sandbox(
    of: EngineDescription,
    name: str = "alice",
    publishing: Publishing = NO_PUBLISHING,
    gateways: Mapping[str, Any] = MappingProxyType({}),
    probing: Probing | None = None,
    sizes_required: bool = False,
    permits: Callable[[NamedImage | None], bool] = lambda _: True,
    checkpoint_recipient: str | None = None,
    **spec: Any,
) -> AsyncIterator[Sandbox]:
    """A sandbox of a name and UID of its own; nothing of it is left on the engine."""
    sdk = docker.DockerClient(base_url=of.socket, timeout=60, version="auto")
    client = docker.APIClient(base_url=of.socket, timeout=60, version="auto")
    made = Engine(lambda: client)
    secrets, clock = Secrets(), Clock()
    identity = Identity("agents", name, f"00000000-0000-4000-8000-{next(_UIDS):012d}")
    image = str(sdk.images.get(IMAGE).id)
    woken: list[tuple[str, str]] = []
    backend = DockerBackend(
        made,
        CLUSTER,
        of.name,
        secrets,
        Pacer(clock),
        helper=HELPER,
        publishing=lambda: publishing,
        gateways=gateways,
        gateway_secrets=GatewaySecrets(secrets),
        wake=lambda namespace, name: woken.append((namespace, name)),
        probing=probing,
        sizes_required=lambda: sizes_required,
        permits=permits,
        checkpoint_recipient=checkpoint_recipient,
    )
    one = Sandbox(backend, made, sdk, secrets, clock, identity, image, dict(spec), woken)
    try:
        yield one
    finally:
        removal = await backend.remove(identity, retain=False)
        await backend.close()
        sdk.close()
        assert removal.done, removal


def counted(of: EngineDescription, *, tools: bool = False) -> dict[str, list[str]]:
    """The names of everything on an engine that is not its own.

    `tools`: what brings Claude Code into others' images, too. It belongs to no sandbox, and stays for the next test.
    """

    def others(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (one for one in found if tools or (one.get("Labels") or {}).get(LABEL_COMPONENT) != TOOLS)

    with contextlib.closing(docker.APIClient(base_url=of.socket, version="auto")) as api:
        return {
            "containers": sorted(str(one["Names"]) for one in others(api.containers(all=True))),
            "networks": sorted(one["Name"] for one in api.networks() if one["Name"] not in ("bridge", "host", "none")),
            "volumes": sorted(one["Name"] for one in others(api.volumes()["Volumes"] or ())),
        }


def remove_tools(sdk: docker.DockerClient) -> None:
    """Take away what brings Claude Code into others' images, so that the next sandbox has it made."""
    mine: dict[str, str | list[str] | bool] = {"label": f"{LABEL_COMPONENT}={TOOLS}"}
    for keeper in sdk.containers.list(all=True, filters=mine):
        keeper.remove(force=True)
    for volume in sdk.volumes.list(filters=mine):
        volume.remove()


def process_of(one: Sandbox, container: str = "") -> Path:
    """The directory of the first process of the sandbox's container, or of another, below the machine's /proc."""
    found = one.sdk.api.inspect_container(container or one.names.container)
    return Path("/proc", str(found["State"]["Pid"]))


def on_the_disk(of: EngineDescription, word: bytes) -> list[str]:
    """The files below the engine's data directory that hold a word, as whoever owns the disk would find it."""
    found = subprocess.run(
        ["grep", "--recursive", "--binary-files=text", "--files-with-matches", "--devices=skip", "--fixed-strings",
         word.decode(), str(of.data_root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.splitlines()
