"""The key's bytes, in whatever form, are nowhere but in the Secret and in the file that is the agent's.

Looked for: while the helper that brings it is at work, afterwards, after a rotation, and after a crash of the operator
in the middle of the delivery. In: everything the engine tells, image layers, the engine's directories as its disk has
them and as it sees them, its logs and the operator's, temporary directories, core dumps, command lines and
environments, and the API server's objects. In the end the key is planted in each kind of place, and found in each.
"""

import asyncio
import base64
import io
import json
import re
import resource
import signal
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import key_search
import pytest
from docker_fleet import OWN
from dockerkit import IMAGE
from engine_relay import CutError
from enginekit import own
from enginekit import ready as engine_with
from fault_place import Made, Moment, Place, fault_place, settled
from key_search import Search
from nodekit import report

from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.programs import toolchain

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns, pytest.mark.timeout(900)]

CONFIG_MAPS = Resource("", "v1", "configmaps", True, "ConfigMap")
# Of letters that every encoding writes in another way; long enough that nothing else has them by chance.
KEYS = tuple(f'sk-ant-"x\\y<&>/+=-{which}-4f1c9a7be2d0' for which in ("first", "second"))


@pytest.fixture(scope="module")
def own_host(
    engine_release: str, state_home: Path, stand_in_image: ImageArchive, tiny_image: ImageArchive
) -> Iterator[EngineDescription]:
    """An engine that no other test has, which says all it can in its log."""
    name = own(f"keys-{engine_release.replace('.', '-')}")
    try:
        # The key is brought by the operator's own image.
        images = (stand_in_image, build_image("operator", report))
        yield engine_with(name, engine_release, *images, settings={"debug": True})
    finally:
        engine.down(name, print)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the operator's temporary files go, and its core dumps: as large as they come."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.chdir(directory)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield directory
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture
async def place(
    control_plane: Cluster, own_host: EngineDescription, tmp_path: Path, temporary: Path
) -> AsyncIterator[Place]:
    async with fault_place(control_plane, own_host, tmp_path / "log") as made:
        yield made


class World:
    """Everything in which a key could be."""

    def __init__(self, place: Place, temporary: Path) -> None:
        self.place, self.host, self.temporary = place, place.host, temporary
        self.search = Search(*KEYS)
        # There before any key was. What an identifier stands for can't change: it is a digest of the content, layers
        # and all (OCI image specification, ImageID), and the operator's image takes long to read.
        self._without = {str(image["Id"]) for image in place.sdk.api.images()}

    def found(self) -> list[str]:
        """Where a key is found that it should not be in; asked of everything there is now."""
        found = []
        for where, document in key_search.told(self.host, self.place.sdk):
            found += self.search.in_document(where, document)
        for where, content in (*key_search.layers(self.place.sdk, self._without), *key_search.processes(self.host)):
            found += self.search.in_bytes(where, content)
        found += self.search.in_bytes("the operator's log", self.place.operator.log.read_bytes())
        # As whoever takes the disk away finds it; then as the engine itself sees it, with what is in memory.
        found += self.search.in_files(self.host.places.root, self.temporary, self.place.cluster.layout.logs)
        inside = self.search.in_files(
            *(self.host.places.root, Path("/run"), Path("/var/lib"), Path("/var/log"), self.temporary),
            within=enter(self.host.names),
        )
        found += [one for one in inside if not self._is_the_file(one)]
        return found + self._in_objects()

    def _is_the_file(self, found: str) -> bool:
        """Whether it is the very volume in memory that the agent has its key from."""
        volumes, mounted = self.host.data_root / "volumes", self.host.data_root / "overlay2"
        # Engine 20.10 mounts a container's volumes once more, for itself, while it answers the read of an archive
        # (moby's daemon/archive.go, containerArchivePath). What would be on the disk there, the search from outside
        # of the engine's mounts finds.
        return (found.startswith(str(volumes)) and found.endswith("-api-key/_data/api-key: found")) or (
            found.startswith(str(mounted)) and found.endswith("/merged/run/claude-sandbox/api-key/api-key: found")
        )

    def _in_objects(self) -> list[str]:
        kubectl = [toolchain.kubectl(print), f"--kubeconfig={self.place.cluster.kubeconfig}"]
        asked = subprocess.run(
            [*kubectl, "api-resources", "--verbs=list", "-o", "name"], capture_output=True, check=True
        )
        kinds = [kind for kind in asked.stdout.decode().split() if kind != "secrets"]
        objects = subprocess.run(
            [*kubectl, "get", ",".join(kinds), "-A", "-o", "json", "--show-managed-fields"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        assert b'"ClaudeSandbox"' in objects
        return self.search.in_document("the API server's objects", json.loads(objects))


async def test_the_key_is_nowhere_else(place: Place, temporary: Path) -> None:
    world = World(place, temporary)
    # While the helper has the key, and the agent is about to be started.
    release = threading.Event()
    made = place.prepare("keyed")
    moment = Moment(lambda call: call.path.endswith("/start") and len(_starts(made)) == 2, lambda: release.wait(25))
    await place.create("keyed", moment, key=KEYS[0])
    assert await asyncio.to_thread(moment.came.wait, 60)
    helpers = [name for name in made.left["containers"] if name.endswith("-key")]
    assert len(helpers) == 1
    assert await asyncio.to_thread(world.found) == []
    release.set()
    assert not (why := await place.comes_to(made, Made.amiss)), why
    assert not (why := await place.is_told(made, settled)), why
    assert await asyncio.to_thread(world.found) == []

    # A rotation leaves nothing of the old one, not in the agent's own file system either.
    await place.renew_key(made, KEYS[1])
    assert not (why := await place.comes_to(made, Made.amiss)), why
    assert await asyncio.to_thread(world.found) == []
    left = Search(KEYS[0]).in_files(place.host.data_root, Path("/run"), within=enter(place.host.names))
    assert left == []

    # The operator crashes while the helper waits for what it had to bring.
    crash = place.prepare("crashed")
    hold = threading.Event()

    def cut() -> None:
        hold.wait(25)
        raise CutError

    moment = Moment(lambda call: call.path.endswith("/start") and len(_starts(crash)) == 2, cut)
    await place.create("crashed", moment, key=KEYS[0])
    assert await asyncio.to_thread(moment.came.wait, 60)
    place.operator.stop(signal.SIGABRT)
    place.relay.cut()
    hold.set()
    assert await asyncio.to_thread(world.found) == []
    assert not _dumps(temporary)
    place.operator.start()
    await place.operator.is_ready()
    assert not (why := await place.comes_to(crash, Made.amiss)), why
    assert await asyncio.to_thread(world.found) == []
    await _is_found_where_it_is_planted(world)


async def _is_found_where_it_is_planted(world: World) -> None:
    """A search that finds nothing is worth something only where it finds what is there: in each place, in some form."""
    sdk, host, place = world.place.sdk, world.host, world.place
    key, shown = KEYS[0], key_search.forms(KEYS[0])
    encoded = {shift: base64.b64encode(bytes(shift) + key.encode()).decode() for shift in range(3)}
    image = sdk.images.get(IMAGE)
    planted = sdk.containers.run(
        image.id, ["-c", "echo $PLANT; sleep 600"], entrypoint="/bin/sh", detach=True, name="planted",
        environment={"PLANT": key}, labels={"plant": encoded[1]},
    )  # fmt: skip
    _inside(host, "cat > /run/docker/planted", encoded[2])
    # In a layer, and in what is said of how an image came to be.
    maker = sdk.containers.create(image.id, ["true"], name="maker")
    maker.put_archive("/bin", _archive("planted", key.encode().hex().encode()))
    layered = maker.commit("planted", "layer")
    told = planted.commit("planted", "history", message=encoded[0])
    volume = sdk.volumes.create("planted")
    on_disk = host.data_root / "volumes" / "planted" / "_data" / "file"
    on_disk.write_bytes(shown["url"])
    (host.places.logs / "planted.log").write_bytes(shown["json-go"])
    (world.temporary / "planted").write_bytes(shown["json-twice"])
    with world.place.operator.log.open("ab") as log:
        log.write(shown["repr"])
    configmap = {"metadata": {"name": "planted", "annotations": {"plant": encoded[0]}}, "data": {"plant": key}}
    await place.api.create(CONFIG_MAPS, configmap, OWN)
    try:
        found = "\n".join(await asyncio.to_thread(world.found))
    finally:
        for container in (planted, maker):
            container.remove(force=True)
        for made in (layered, told):
            sdk.images.remove(made.id, force=True)
        volume.remove()
        for file in (host.places.logs / "planted.log", world.temporary / "planted"):
            file.unlink()
        _inside(host, "rm /run/docker/planted")
        await place.api.delete(CONFIG_MAPS, "planted", OWN)
        place.operator.log.write_bytes(place.operator.log.read_bytes().removesuffix(shown["repr"]))
    for where in (
        "inspect of ['/planted']: raw",
        "inspect of ['/planted']: base64+1",
        "logs of ['/planted']: raw",
        "image ['planted:history']: base64+0",
        "image ['planted:layer']",
        "events: base64+1",
        "/proc/",
        "the operator's log: repr",
        f"{on_disk}: found",
        f"{host.places.logs / 'planted.log'}: found",
        f"{world.temporary / 'planted'}: found",
        "/run/docker/planted: found",
        "the API server's objects: raw",
        "the API server's objects: base64+0",
    ):
        assert where in found, where
    # Of a saved image, whichever way its layers are packed, and on the disk.
    assert re.search(r"image \['planted:layer'\] \S+.*: hex", found)


def _inside(host: EngineDescription, script: str, stdin: str = "") -> None:
    subprocess.run([*enter(host.names), "sh", "-c", script], input=stdin.encode(), check=True)


def _archive(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def _starts(made: Made) -> list[Any]:
    return [call for call in made.calls if call.path.endswith("/start")]


def _dumps(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith("core")]
