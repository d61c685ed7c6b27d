"""Real Docker Engines for tests, old and new, and an image so small that a container of it starts at once."""

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from nodekit import report

from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_programs
from claude_sandbox.localcluster.node.parts import NEEDED
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

# Its file tells that the package's busybox, and not another one that needs libraries, is there.
BUSYBOX = Needed(("busybox-static",), (), ("usr/share/doc/busybox-static/copyright",))
_APPLETS = (
    "cat", "chmod", "chown", "dd", "df", "echo", "env", "grep", "head", "httpd", "id", "ip", "kill", "ls", "mkdir",
    "mount", "mv", "nc", "ping", "ps", "rm", "sh", "sleep", "stat", "sync", "tee", "test", "timeout", "touch", "tr",
    "true", "unshare", "wc", "wget", "whoami", "yes",
)  # fmt: skip


@pytest.fixture(scope="session")
def may_have_engines() -> None:
    if os.geteuid() != 0:
        pytest.skip("a Docker Engine can only be started by root")


@pytest.fixture(scope="session", params=engine.RELEASES)
def engine_release(request: pytest.FixtureRequest, may_have_engines: None) -> str:
    release: str = request.param
    return release


def shared_by_engines(argument: str, values: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrize a test that takes long: each engine has its share of the values, by turns. What is left is slow."""
    cases = [
        pytest.param(release, value, id=f"{release}-{name}", marks=() if mine == turn else pytest.mark.slow)
        for mine, release in enumerate(engine.RELEASES)
        for turn, (name, value) in zip(itertools.cycle(range(len(engine.RELEASES))), values.items(), strict=False)
    ]
    return pytest.mark.parametrize(("engine_release", argument), cases, indirect=["engine_release"])


@pytest.fixture(scope="session")
def docker_engine(engine_release: str, state_home: Path, tiny_image: ImageArchive) -> Iterator[EngineDescription]:
    """An engine of each release in turn, with the tiny image; a test leaves nothing in it that another would mind."""
    name = own(f"tests-{engine_release.replace('.', '-')}")
    try:
        yield ready(name, engine_release, tiny_image)
    finally:
        engine.down(name, report)


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> ImageArchive:
    """A shell and the usual small programs, 2 MB; waits where it is not told what to do."""
    return make_tiny_image(tmp_path_factory.mktemp("tiny") / "tiny.tar")


def make_tiny_image(target: Path) -> ImageArchive:
    program = ensure(BUSYBOX, report).file("bin/busybox")
    assert program is not None
    links = {f"/bin/{applet}": "busybox" for applet in _APPLETS}
    entrypoint = ("/bin/busybox", "sleep", "infinity")
    return of_programs(
        {"/bin/busybox": program}, target, "claudesandbox.dev/tiny:1", builder.goarch(), entrypoint, links
    )


def own(kind: str) -> str:
    """A name that no other run of the tests has at the same time."""
    return f"{kind}-{os.getpid()}"


def ready(name: str, release: str, *images: ImageArchive, **options: Any) -> EngineDescription:
    """An engine that is up and has the images."""
    made = engine.up(name, release, say=report, **options)
    for image in images:
        engine.load_image(made, image)
    return made


REMAPPED = 200_000
"""Which user of the machine root is in the containers of an engine that remaps them; the others follow."""

# In the engine's own view of the machine alone, whose /etc stays as it is.
_REMAP = f"""
mkdir /run/etc /run/etc/upper /run/etc/work
cd /run/etc/upper
cat /etc/passwd - >passwd <<<'remapped:x:4711:4711::/:/bin/false'
cat /etc/group - >group <<<'remapped:x:4711:'
tee subuid subgid >/dev/null <<<'remapped:{REMAPPED}:65536'
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work own /etc
"""


def remapping(name: str, release: str, **settings: Any) -> EngineDescription:
    """An engine with userns-remap: root in its containers is nobody on the machine."""
    plain = engine.up(name, release, say=report)
    run_inside(plain, _REMAP)
    # Every directory above has to let the remapped root pass; a test's own does not.
    return engine.up(
        name, say=report, settings={"userns-remap": "remapped", "data-root": "/var/lib/docker", **settings}
    )


def run_inside(of: EngineDescription, script: str) -> None:
    """Run a shell script in the engine's own view of the machine."""
    subprocess.run(["nsenter", f"--mount={of.mntns}", "--", "bash", "-eu"], input=script, text=True, check=True)


@contextlib.contextmanager
def client(of: EngineDescription) -> Iterator[docker.DockerClient]:
    connected = docker.DockerClient(base_url=of.socket, timeout=60)
    with contextlib.closing(connected):
        yield connected


def isolated_network(of: EngineDescription) -> Mapping[str, str]:
    """The options of a bridge network on which the engine's machine has no address, as each release calls it."""
    if of.release == "20.10":
        return {"com.docker.network.bridge.inhibit_ipv4": "true"}
    return {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}


def hardened(connected: docker.DockerClient, image: str, **options: Any) -> Container:
    """Start a container as locked down as a sandbox; `options` come on top, or instead."""
    settings: dict[str, Any] = {
        "detach": True,
        "entrypoint": ["sleep", "infinity"],
        "user": "1000:1000",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": "size=16m,nosuid,nodev,noexec"},
        "mem_limit": "128m",
        "memswap_limit": "128m",
        "nano_cpus": 500_000_000,
        "pids_limit": 64,
        "init": True,
        "cgroupns": "private",
    }
    made: Container = connected.containers.run(image, **{**settings, **options})
    return made


def packet_filter() -> str:
    """The machine's own rules, as nft lists them."""
    programs = ensure(NEEDED, report)
    return subprocess.run(
        [programs.path("nft"), "list", "ruleset"],
        env={**os.environ, **programs.environment()}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
