"""`claude-sandbox incident kept` on a real engine: what was kept aside is seen, fetched and removed, and no more."""

import asyncio
import contextlib
import io
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from docker_fleet import OWN, prepare
from dockerkit import CLUSTER, sandbox

from claude_sandbox.api import meta
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.engine.archives import archive_of
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]

NAME = f"{OWN}/kept"
BODY = {
    "apiVersion": meta.API_VERSION,
    "kind": meta.KIND,
    "metadata": {"name": "kept"},
    "spec": {
        "backend": {"type": "Docker"},
        "credentials": {"apiKeySecretRef": {"name": "key"}},
        "workspace": {"instance": 2},
    },
}


def identity(instance: int) -> Identity:
    return Identity(OWN, "kept", "00000000-0000-4000-8000-000000004711", "namespace-uid", workspace=instance)


@pytest.fixture
def sdk(docker_engine: EngineDescription) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=docker_engine.socket, timeout=60, version="auto")
    before = _on(client)
    yield client
    # What others have there stays: Claude Code for images that have none.
    for one in sorted(_on(client).difference(before)):
        (client.containers if one[0] == "container" else client.volumes).get(one[1]).remove(force=True)
    client.close()


def _on(client: docker.DockerClient) -> set[tuple[str, str]]:
    """Containers and volumes by their names; containers are removed first."""
    containers = {("container", one.name) for one in client.containers.list(all=True)}
    return containers | {("volume", one.name) for one in client.volumes.list()}


@pytest.fixture
async def api(control_plane: Cluster) -> AsyncIterator[Api]:
    """The API server with the sandbox."""
    credentials = load(str(control_plane.kubeconfig))
    await prepare(credentials)
    async with Api(credentials) as found:
        await found.create(SANDBOXES, BODY, OWN)
        yield found
        with contextlib.suppress(ApiError):
            await found.delete(SANDBOXES, "kept", OWN)


def volume(sdk: docker.DockerClient, instance: int, image: str, cluster: str = "one") -> Container:
    """A workspace as the operator makes it, with a file in it; the container that has it mounted."""
    of = identity(instance)
    name = names.names_of(cluster, of).workspace
    sdk.volumes.create(name, labels=names.labels_of(cluster, of, names.WORKSPACE))
    user = sdk.containers.create(image, volumes={name: {"bind": "/workspace"}}, name=f"user-{cluster}-{instance}")
    user.put_archive("/workspace", archive_of([(tarfile.TarInfo("file"), f"of {instance}\n".encode())]))
    return user


async def test_what_was_kept_aside_is_seen_fetched_and_removed_and_no_more(
    control_plane: Cluster,
    api: Api,
    docker_engine: EngineDescription,
    sdk: docker.DockerClient,
    tiny_image: ImageArchive,
    tmp_path: Path,
) -> None:
    async def kept(*arguments: str) -> tuple[int, str]:
        program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "kept", *arguments)
        where = (f"--kubeconfig={control_plane.kubeconfig}", f"--host={docker_engine.socket}")
        done = await asyncio.to_thread(
            subprocess.run, [*program, *where], capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    before = {one.name for one in sdk.containers.list(all=True)}
    first, second = (volume(sdk, number, tiny_image.reference) for number in (1, 2))
    # What still has it mounted keeps it.
    code, told = await kept("remove", NAME, "--number=1")
    assert (code, "in use by user-one-1" in told) == (1, True), told
    first.remove()
    code, table = await kept("list", NAME)
    assert code == 0, table
    one, two = table.splitlines()[1:]
    assert (one.split()[:2], "kept aside, in use by nothing" in one) == (["1", "workspace"], True), table
    assert (two.split()[:2], "the sandbox's own, in use by user-one-2" in two) == (["2", "workspace"], True), table

    archive = tmp_path / "aside.tar"
    code, told = await kept("collect", NAME, "--number=1", f"--output={archive}")
    assert code == 0, told
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        files = {Path(member.name).name: tar.extractfile(member) for member in tar if member.isreg()}
        assert {name: file.read() for name, file in files.items() if file is not None} == {"file": b"of 1\n"}
    # A file with a hole would fill the disk of whoever looks into it.
    code, told = await kept("collect", NAME, "--number=1", f"--output={tmp_path / 'large.tar'}", "--max-size=1Ki")
    assert (code, "more than 1024 bytes" in told, "--max-size" in told) == (1, True, True), told
    assert not (tmp_path / "large.tar").exists()
    # The sandbox's own is no business of this.
    own = f"--output={tmp_path / 'own.tar'}"
    for arguments in (("collect", NAME, "--number=2", own), ("remove", NAME, "--number=2")):
        code, told = await kept(*arguments)
        assert (code, "own, and not kept aside" in told) == (1, True), told
    assert not (tmp_path / "own.tar").exists()
    assert {one.name for one in sdk.containers.list(all=True)} == before | {second.name}

    code, told = await kept("remove", NAME, "--number=1")
    assert code == 0, told
    code, table = await kept("list", NAME)
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["2"], table

    # Of a sandbox that is gone what was retained is found by its name; another cluster's of the name is not taken.
    await api.delete(SANDBOXES, "kept", OWN)
    second.remove()
    volume(sdk, 1, tiny_image.reference, "another").remove()
    code, told = await kept("remove", NAME, "--number=2")
    assert (code, "of 2 clusters" in told) == (1, True), told
    sdk.volumes.get(names.names_of("another", identity(1)).workspace).remove()
    code, told = await kept("remove", NAME, "--number=2")
    assert code == 0, told
    assert (await kept("list", NAME))[1] == "There is none.\n"


async def test_the_highest_number_that_there_was_is_told_whichever_the_sandbox_has(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        # One of the sandbox's names that is no number, and another sandbox's of the same engine, are none.
        other = names.names_of(CLUSTER, replace(one.identity, name="bob")).first
        made = [one.sdk.volumes.create(f"{first}-{end}") for first, end in ((one.names.first, "x"), (other, "9"))]
        assert (await one.made())[-1].workspaces == 1
        made.append(one.sdk.volumes.create(f"{one.names.first}-7"))
        # It would be given what was set aside for the seventh.
        refused = await one.once()
        assert refused.failure is not None
        assert f"volume {one.names.first}-7" in refused.failure.message
        assert refused.workspaces == 7
        one.identity = replace(one.identity, workspace=1)
        again = await one.once()
        assert (again.failure, again.workspaces) == (None, 7)
        for volume in made:
            volume.remove()
