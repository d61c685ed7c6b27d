"""Fixtures for every test in here: a sandbox's image on the engines, and an ssh client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerkit import host, stand_in_image
from enginekit import client, own, ready
from nodekit import report
from portkit import relay_on
from sshkit import ssh_client

from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image

__all__ = ["host", "other_host", "relay_image", "ssh_client", "stand_in_image"]


@pytest.fixture(scope="session")
def relay_image(host: EngineDescription) -> Image:
    """What publishes ports, on the engine."""
    return relay_on(host)


@pytest.fixture(scope="session")
def other_host(host: EngineDescription, state_home: Path, stand_in_image: ImageArchive) -> Iterator[EngineDescription]:
    """A second engine, of another release than the first, with the image."""
    if host.release != engine.DEFAULT_RELEASE:
        pytest.skip("the same two engines as in the first round; where one is cut off, moves go both ways between them")
    release = next(one for one in engine.RELEASES if one != host.release)
    name = own(f"other-{release.replace('.', '-')}")
    try:
        yield ready(name, release, stand_in_image, build_image("operator", report))
    finally:
        engine.down(name, report)


@pytest.fixture(scope="session")
def image(host: EngineDescription) -> Iterator[dict[str, str]]:
    """The sandbox's real image, on the engine, as a spec names it."""
    built = build_image("sandbox", report)
    engine.load_image(host, built)
    repository, _, tag = built.reference.rpartition(":")
    yield {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    with client(host) as connected:
        connected.images.remove(built.reference)
