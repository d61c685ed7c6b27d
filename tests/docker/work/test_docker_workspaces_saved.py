"""Workspaces as parts of a machine's backup: what an engine gives of its volumes, and takes again."""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import docker
import pytest

from claude_sandbox.backends.docker import names
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.install.containers import PLACE, any_image, holding
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.machine import workspaces

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

CLUSTER = "cluster-of-saved-workspaces"
WHO = {name: Identity("agents", name, f"uid-of-{name}", "namespace-uid") for name in ("alice", "bob")}
MADE = 1_600_000_000
FILES = {
    "./src": (tarfile.DIRTYPE, 0o750, b"", ""),
    "./src/main.py": (tarfile.REGTYPE, 0o640, b"print(1)\n" * 50_000, ""),
    "./run": (tarfile.REGTYPE, 0o4755, b"#!/bin/sh\n", ""),
    "./link": (tarfile.SYMTYPE, 0o777, b"", "/etc/passwd"),
    "./twin": (tarfile.LNKTYPE, 0o640, b"", "src/main.py"),
}


@pytest.fixture
def api(docker_engine: EngineDescription, tiny_image: ImageArchive) -> Iterator[docker.APIClient]:
    assert tiny_image.reference
    client = docker.APIClient(base_url=docker_engine.socket, timeout=60, version="auto")
    yield client
    for name in volumes(client):
        client.remove_volume(name)
    client.close()


def volumes(api: docker.APIClient) -> list[str]:
    found = api.volumes(filters={"label": names.selector(CLUSTER)})["Volumes"] or []
    return sorted(one["Name"] for one in found)


def volume(api: docker.APIClient, name: str, component: str = names.WORKSPACE) -> str:
    """One as the operator makes it, with files in it."""
    called = names.names_of(CLUSTER, WHO[name])
    made = called.workspace if component == names.WORKSPACE else called.key
    api.create_volume(made, labels=names.labels_of(CLUSTER, WHO[name], component))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (kind, mode, content, target) in FILES.items():
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.linkname, member.size = kind, mode, target, len(content)
            member.uid, member.gid, member.mtime = 1000, 1000, MADE
            tar.addfile(member, io.BytesIO(content))
    with holding(api, made, any_image(api), read_only=False) as container:
        api.put_archive(container, PLACE, packed.getvalue())
    return made


def content_of(api: docker.APIClient, name: str) -> dict[str, tuple[bytes, int, int, int, str, bytes]]:
    with holding(api, name, any_image(api), read_only=True) as container:
        packed = b"".join(api.get_archive(container, f"{PLACE}/.")[0])
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for one in tar:
            file = tar.extractfile(one) if one.isreg() else None
            kept = (one.type, one.mode, one.uid, int(one.mtime) if one.isreg() else 0, one.linkname)
            found[one.name.removeprefix("./")] = (*kept, file.read() if file is not None else b"")
    return found


def test_what_the_engine_has_lost_is_brought_back_as_it_was_and_what_it_has_is_left(
    api: docker.APIClient, tmp_path: Path
) -> None:
    lost, there = volume(api, "alice"), volume(api, "bob")
    key = volume(api, "alice", names.KEY)
    before, labels = content_of(api, lost), api.inspect_volume(lost)["Labels"]
    assert len(before) >= len(FILES)
    containers = len(api.containers(all=True))
    unsaid: list[str] = []
    saved, left_out = workspaces.save(api, CLUSTER, tmp_path, unsaid.append)
    assert (left_out, unsaid) == ((), [])
    # A key is in no backup.
    assert [one.name for one in saved] == sorted([lost, there])
    assert key not in [one.name for one in saved]
    archive = tmp_path / "backup.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for one in saved:
            tar.add(tmp_path / one.part, one.part)
    told = workspaces.told(json.loads(json.dumps({"workspaces": [asdict(one) for one in saved]})))
    assert told == saved

    api.remove_volume(lost)
    with holding(api, there, any_image(api), read_only=False) as container:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            member = tarfile.TarInfo("run")
            member.size = 6
            tar.addfile(member, io.BytesIO(b"newer\n"))
        api.put_archive(container, PLACE, packed.getvalue())
    said: list[str] = []
    assert workspaces.bring_back(api, archive, told, said.append) == ()
    assert content_of(api, lost) == before
    assert api.inspect_volume(lost)["Labels"] == labels
    assert content_of(api, there)["run"][-1] == b"newer\n"
    assert sorted(line.partition(" is ")[2] for line in said) == ["back.", "there, and is left as it is."]
    assert len(api.containers(all=True)) == containers


def test_one_that_can_not_be_filled_is_told_of_and_leaves_no_half_of_it(api: docker.APIClient, tmp_path: Path) -> None:
    name = volume(api, "alice")
    (saved,), _ = workspaces.save(api, CLUSTER, tmp_path, print)
    api.remove_volume(name)
    archive = tmp_path / "backup.tar.gz"
    (tmp_path / saved.part).write_bytes((tmp_path / saved.part).read_bytes()[:200_000])
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / saved.part, saved.part)
    said: list[str] = []
    assert workspaces.bring_back(api, archive, [saved], said.append) == (name,)
    assert "could not be brought back" in said[0]
    assert name not in volumes(api)
