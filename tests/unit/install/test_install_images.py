"""What is known of images that an engine was given, should the program be killed at any moment."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest
from docker import APIClient
from docker.errors import ImageNotFound

from claude_sandbox.backends.docker.engine.client import Client
from claude_sandbox.backends.docker.engine.connection.connect import Connection
from claude_sandbox.demo.docker import flow, record
from claude_sandbox.demo.docker.record import Made
from claude_sandbox.install import containers
from claude_sandbox.localcluster.images import ImageArchive

MANIFEST, CONFIGURATION, BUILT = "sha256:" + "a" * 64, "c" * 64, "sha256:" + "b" * 64


class Engine:
    """It knows images by their configurations; and is the last that the program does, at a moment of the test's."""

    def __init__(self, killed: str) -> None:
        self.killed = killed
        self.images_there: set[str] = set()

    def images(self, **_: Any) -> list[dict[str, str]]:
        return [{"Id": one} for one in self.images_there]

    def inspect_image(self, name: str) -> None:
        if name not in self.images_there:
            raise ImageNotFound("no such image")

    def load_image(self, _file: Any) -> list[dict[str, str]]:
        self.images_there.add(f"sha256:{CONFIGURATION}")
        if self.killed == "given":
            raise KeyboardInterrupt
        return []


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageArchive:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    content = json.dumps([{"Config": f"blobs/sha256/{CONFIGURATION}"}]).encode()
    entry = tarfile.TarInfo("manifest.json")
    entry.size = len(content)
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return ImageArchive(tmp_path / "image.tar", "claudesandbox.dev/operator:1", MANIFEST)


@pytest.mark.parametrize("killed", ["given", "built for the second"])
def test_the_demo_knows_of_what_it_gave_when_it_was_killed(
    archive: ImageArchive, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    engine, builds = Engine(killed), list[str]()

    def build(kind: str, _say: Any) -> ImageArchive:
        if builds and killed == "built for the second":
            raise KeyboardInterrupt
        builds.append(kind)
        engine.images_there.add(BUILT)
        return archive

    monkeypatch.setattr(containers, "build_image", build)
    made = Made("unix:///x.sock", "cluster", 23456, ("sha256:before",))
    record.save(made)
    with pytest.raises(KeyboardInterrupt):
        flow._images(Connection(cast(Client, engine), {}), made, None, print)
    found = record.load()
    assert found is not None
    assert {"sha256:before", BUILT, f"sha256:{CONFIGURATION}"} <= set(found.images)


def test_what_was_there_before_is_not_the_demos(archive: ImageArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("")
    engine.images_there.add(f"sha256:{CONFIGURATION}")
    monkeypatch.setattr(containers, "build_image", lambda *_: archive)
    claimed: list[tuple[str, ...]] = []
    brought = containers.bring(cast(APIClient, engine), ("operator",), print, claimed.append)
    assert (brought.added, {one for those in claimed for one in those}) == ((), set())
