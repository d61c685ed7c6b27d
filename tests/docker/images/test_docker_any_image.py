"""A sandbox whose image is anybody's, on real engines: Claude Code is the operator's, from one volume of the engine.

What a crash, a half-filled volume and somebody with the engine's socket can do to that volume is tried as well.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import docker
import pytest
from dockerkit import LATER, Sandbox, remove_tools, sandbox
from foreign_image import TOOLS, hostile_image, named

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.docker.images.tools import MARKER
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.recipes import CLAUDE_CODE

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


@pytest.fixture(scope="module")
def foreign(
    host: EngineDescription, sandbox_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, str]]]:
    """Images of others, as `spec.image`, on an engine that has the operator's."""
    engine.load_image(host, sandbox_image)
    images = {
        shell: hostile_image(tmp_path_factory.mktemp(shell), shell=shell == "shell") for shell in ("shell", "none")
    }
    for image in images.values():
        engine.load_image(host, image)
    yield {shell: named(image) for shell, image in images.items()}
    with contextlib.closing(docker.DockerClient(base_url=host.socket, version="auto")) as sdk:
        remove_tools(sdk)


def operators(one: Sandbox, image: ImageArchive) -> None:
    one.default = Image(image.reference, None, "Never")


def volume_name(one: Sandbox) -> str:
    return next(mount["Name"] for mount in one.inspected["Mounts"] if mount["Destination"] == TOOLS)


async def test_claude_code_is_the_operators_and_nothing_of_the_image_decides(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    async with sandbox(host, image=foreign["shell"]) as one:
        operators(one, sandbox_image)
        outcomes = await one.made()
        assert (await one.started()).status is ConditionStatus.TRUE
        assert one.sh("claude --version").startswith(CLAUDE_CODE)
        assert one.sh("ls /tmp /workspace; id -u") == "/tmp:\n\n/workspace:\n1000\n"
        assert one.sh(f"echo >>{TOOLS}/bin/claude").startswith("exit")
        assert one.sh("echo $HOME:$LD_PRELOAD$BASH_ENV$CLAUDE_CODE_MANAGED_SETTINGS_PATH") == "/home/claude:\n"
        compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        assert compliant[0] is ConditionStatus.TRUE, compliant
        assert "IMG-03" in {id for passed in compliance.passed for id in passed.controls}
        # A steady state writes nothing.
        assert not (await one.once()).wrote


async def test_the_second_sandbox_has_the_first_ones_volume(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    async with sandbox(host, image=foreign["shell"]) as one, sandbox(host, "bob", image=foreign["shell"]) as other:
        operators(one, sandbox_image)
        operators(other, sandbox_image)
        await one.made()
        await other.made()
        assert volume_name(one) == volume_name(other)


async def test_a_half_filled_volume_is_filled_anew(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    """As a crash between the filling and the marker leaves it, with something missing."""
    async with sandbox(host, image=foreign["shell"]) as one:
        operators(one, sandbox_image)
        await one.made()
        called = volume_name(one)
        one.sdk.containers.get(one.names.container).remove(force=True)
        spoil(one, called, f"rm {TOOLS}/{MARKER} {TOOLS}/bin/claude")
        await one.settled(LATER)
        assert one.sh("claude --version").startswith(CLAUDE_CODE)


async def test_a_volume_that_somebody_removed_is_filled_anew(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    """An engine makes an empty one in its place when the container is made again, without a word."""
    async with sandbox(host, image=foreign["shell"]) as one:
        operators(one, sandbox_image)
        await one.made()
        called = volume_name(one)
        one.sdk.containers.get(one.names.container).stop(timeout=0)
        spoil(one, called, f"rm {TOOLS}/{MARKER}; rm -r {TOOLS}/bin")
        await one.settled(LATER)
        assert one.sh("claude --version").startswith(CLAUDE_CODE)


async def test_what_no_sandbox_has_any_more_goes(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    async with sandbox(host, image=foreign["shell"]) as one:
        operators(one, sandbox_image)
        await one.made()
        called, clock = volume_name(one), [0.0]
        one.backend._tools._clock = lambda: clock[0]
        one.backend._tools._used.clear()
        clock[0] += 10 * 3600.0
        assert await one.backend._tools.tidy(1) == ()
        one.sdk.containers.get(one.names.container).remove(force=True)
        clock[0] += 1800.0
        assert await one.backend._tools.tidy(1) == ()
        clock[0] += 3600.0
        assert await one.backend._tools.tidy(1) == (called,)
        assert await one.engine.volume(called) is None


async def test_an_image_without_a_shell_is_told_with_the_remedy(
    host: EngineDescription, foreign: dict[str, dict[str, str]], sandbox_image: ImageArchive
) -> None:
    async with sandbox(host, image=foreign["none"]) as one:
        operators(one, sandbox_image)
        await one.once(LATER)
        while (state := await one.state()).reason is Reason.POD_PENDING:
            await asyncio.sleep(0.2)
            await one.once(LATER)
        assert state.reason is Reason.IMAGE_NOT_USABLE
        assert "has no shell" in state.message


def spoil(one: Sandbox, volume: str, script: str) -> None:
    """As root of the host may."""
    mount = {"Type": "volume", "Source": volume, "Target": TOOLS}
    made = one.sdk.api.create_container(
        one.image, ["-c", script], entrypoint=["/bin/sh"], user="0:0",
        host_config={"Mounts": [mount], "AutoRemove": False},
    )  # fmt: skip
    one.sdk.api.start(made["Id"])
    assert one.sdk.api.wait(made["Id"])["StatusCode"] == 0
    one.sdk.api.remove_container(made["Id"])
