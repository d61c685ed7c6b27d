"""What an image archive promises to whoever loads it: every blob under its true digest, in both tellings."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.localcluster.images.archive import ImageArchive, from_docker_save, of_programs

REFERENCE = "example.test/thing:1.0"


def _members(archive: ImageArchive) -> dict[str, bytes]:
    with tarfile.open(archive.path) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in files.items() if file is not None}


def _check(archive: ImageArchive) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Follow every reference from index.json down, as a loader does; returns the image's config and the members."""
    members = _members(archive)
    index = json.loads(members["index.json"])

    def follow(descriptor: dict[str, Any]) -> bytes:
        algorithm, digest = descriptor["digest"].split(":")
        blob = members[f"blobs/{algorithm}/{digest}"]
        assert hashlib.sha256(blob).hexdigest() == digest
        assert len(blob) == descriptor["size"]
        return blob

    assert index["manifests"][0]["digest"] == archive.digest
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == REFERENCE
    manifest = json.loads(follow(index["manifests"][0]))
    config: dict[str, Any] = json.loads(follow(manifest["config"]))
    for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        blob = follow(descriptor)
        content = gzip.decompress(blob) if descriptor["mediaType"].endswith("gzip") else blob
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id
    [docker] = json.loads(members["manifest.json"])
    assert docker["RepoTags"] == [REFERENCE]
    assert [f"sha256:{Path(name).name}" for name in docker["Layers"]] == [
        layer["digest"] for layer in manifest["layers"]
    ]
    return config, members


def test_an_image_of_a_program_holds_it_and_runs_it_as_nobody_in_particular(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF and so on")
    archive = of_programs({"/bin/pause": program}, tmp_path / "pause.tar", REFERENCE, "amd64", ("/bin/pause",))
    config, members = _check(archive)
    assert config["config"]["Entrypoint"] == ["/bin/pause"]
    assert config["config"]["User"] == "65532:65532"
    layer = members[f"blobs/sha256/{config['rootfs']['diff_ids'][0].removeprefix('sha256:')}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as content:
        [directory, member] = content.getmembers()
        assert (directory.name, directory.isdir(), directory.mode, directory.uid) == ("bin", True, 0o755, 0)
        assert (member.name, member.mode, member.uid) == ("bin/pause", 0o755, 0)
    assert archive.pinned == f"example.test/thing@{archive.digest}"


def test_a_program_may_have_further_names(tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(b"program")
    archive = of_programs(
        {"/bin/busybox": program}, tmp_path / "b.tar", REFERENCE, "amd64", ("/bin/sh",), {"/bin/sh": "busybox"}
    )
    config, members = _check(archive)
    layer = members[f"blobs/sha256/{config['rootfs']['diff_ids'][0].removeprefix('sha256:')}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as content:
        assert content.extractfile("bin/sh").read() == b"program"  # type: ignore[union-attr]


def test_the_same_program_makes_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    digests = {
        of_programs({"/pause": program}, tmp_path / f"{n}.tar", REFERENCE, "amd64", ("/pause",)).digest for n in "ab"
    }
    assert len(digests) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_what_docker_saves_becomes_an_archive_with_a_digest(tmp_path: Path, compressed: bool) -> None:
    layers = [b"first layer" * 1000, b"second layer"]
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (*layers, layers[0])]
    saved = tmp_path / "saved.tar"
    with tarfile.open(saved, "w") as tar:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

        for name, layer in zip("ab", layers, strict=True):
            add(f"{name}/layer.tar", gzip.compress(layer) if compressed else layer)
        link = tarfile.TarInfo("c/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
        add("config.json", json.dumps({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode())
        names = [f"{name}/layer.tar" for name in "abc"]
        add("manifest.json", json.dumps([{"Config": "config.json", "Layers": names}]).encode())
    _check(from_docker_save(saved, tmp_path / "out.tar", REFERENCE))


def test_an_archive_that_can_not_be_finished_is_not_there_at_all(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    with tarfile.open(saved, "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        content = json.dumps([{"Config": "config.json", "Layers": ["gone/layer.tar"]}]).encode()
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(KeyError):
        from_docker_save(saved, tmp_path / "out.tar", REFERENCE)
    assert list(tmp_path.iterdir()) == [saved]
