"""Image archives that containerd, every Docker Engine and kind can load, and whose digest is known.

An archive holds the image as an OCI layout (index.json) and names the same blobs in the way of
`docker save` (manifest.json). The layout's manifest is made here, so its digest is known before anything
loads it, which is what lets a pod name an image by digest that no registry has ever served.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ImageArchive:
    """An image in a file. `reference` is `repository:tag`, `digest` the manifest's (`sha256:…`)."""

    path: Path
    reference: str
    digest: str

    @property
    def pinned(self) -> str:
        """The image by digest: what a pod should name."""
        return f"{self.reference.rpartition(':')[0]}@{self.digest}"


@dataclass(frozen=True)
class _Blob:
    digest: str
    size: int
    media_type: str

    @property
    def member(self) -> str:
        return f"blobs/sha256/{self.digest}"

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": f"sha256:{self.digest}", "size": self.size}


def from_docker_save(saved: Path, target: Path, reference: str) -> ImageArchive:
    """Rewrite what `docker save` wrote to `saved`; `target` appears whole or not at all."""
    with tarfile.open(saved) as source, _archive(target) as archive:
        entry = json.loads(_read(source, "manifest.json"))[0]
        layers = [_copy_layer(source, name, archive) for name in entry["Layers"]]
        return _finish(archive, target, reference, _read(source, entry["Config"]), layers)


def of_programs(
    programs: Mapping[str, Path],
    target: Path,
    reference: str,
    architecture: str,
    entrypoint: tuple[str, ...],
    links: Mapping[str, str] | None = None,
    volumes: Sequence[str] = (),
    config: Mapping[str, object] | None = None,
) -> ImageArchive:
    """An image of nothing but static programs (by absolute path in the image), for user 65532.

    `links` are further names of programs: absolute paths in the image, and where each leads. `volumes` are the paths
    that it declares as VOLUME, directories that everybody may write to; `config` is what else it says of how it runs,
    in the words of the OCI image specification.
    """
    layer = _beside(target, "layer")
    with tarfile.open(layer, "w") as content:
        # What an archive does not say of a directory an engine that is not root's makes up, so that nobody may enter.
        above = {path for name in (*programs, *(links or {})) for path in PurePosixPath(name).parents}
        for directory in sorted(map(str, above - {PurePosixPath("/")})):
            info = tarfile.TarInfo(directory.lstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            content.addfile(info)
        for volume in volumes:
            info = tarfile.TarInfo(volume.lstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o1777
            content.addfile(info)
        for name, program in programs.items():
            info = tarfile.TarInfo(name.lstrip("/"))
            info.size = program.stat().st_size
            info.mode = 0o755
            with program.open("rb") as file:
                content.addfile(info, file)
        for name, destination in (links or {}).items():
            info = tarfile.TarInfo(name.lstrip("/"))
            info.type, info.linkname = tarfile.SYMTYPE, destination
            content.addfile(info)
    configuration = {
        "Entrypoint": list(entrypoint),
        "User": "65532:65532",
        **({"Volumes": {path: {} for path in volumes}} if volumes else {}),
        **(config or {}),
    }
    try:
        return of_layer(layer, target, reference, architecture, configuration)
    finally:
        layer.unlink()


def of_layer(
    layer: Path, target: Path, reference: str, architecture: str, config: Mapping[str, object]
) -> ImageArchive:
    """An image of one layer, the root file system in a tar archive; `config` is as for `of_programs`."""
    with _archive(target) as archive, layer.open("rb") as file:
        blob = _add_file(archive, file, layer.stat().st_size)
        document = {
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{blob.digest}"]},
        }
        return _finish(archive, target, reference, _json(document), [blob])


def _beside(target: Path, purpose: str) -> Path:
    # Another process may be making the same archive: both finish, and the results are equal.
    return target.with_name(f".{target.name}.{os.getpid()}.{purpose}")


@contextmanager
def _archive(target: Path) -> Iterator[tarfile.TarFile]:
    partial = _beside(target, "partial")
    try:
        with tarfile.open(partial, "w") as archive:
            yield archive
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _finish(archive: tarfile.TarFile, target: Path, reference: str, config: bytes, layers: list[_Blob]) -> ImageArchive:
    config_blob = _add_bytes(archive, config, _CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config_blob.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    manifest = _add_bytes(archive, _json(document), _MANIFEST)
    annotations = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "manifests": [{**manifest.descriptor(), "annotations": annotations}]}
    docker = [{"Config": config_blob.member, "RepoTags": [reference], "Layers": [layer.member for layer in layers]}]
    _add_member(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _add_member(archive, "index.json", _json(index))
    _add_member(archive, "manifest.json", _json(docker))
    return ImageArchive(target, reference, f"sha256:{manifest.digest}")


def _copy_layer(source: tarfile.TarFile, name: str, archive: tarfile.TarFile) -> _Blob:
    # Follows links: older engines save a layer that occurs twice as a link to the first.
    file = source.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the image archive")
    with file:
        return _add_file(archive, file, file.seek(0, io.SEEK_END))


def _add_file(archive: tarfile.TarFile, file: IO[bytes], size: int) -> _Blob:
    file.seek(0)
    start = file.read(2)
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    file.seek(0)
    media_type = f"{_LAYER}+gzip" if start == _GZIP_MAGIC else _LAYER
    blob = _Blob(digest.hexdigest(), size, media_type)
    archive.addfile(_info(blob.member, size), file)
    return blob


def _chunks(file: IO[bytes]) -> Iterable[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")


def _add_bytes(archive: tarfile.TarFile, content: bytes, media_type: str) -> _Blob:
    blob = _Blob(hashlib.sha256(content).hexdigest(), len(content), media_type)
    _add_member(archive, blob.member, content)
    return blob


def _add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_info(name, len(content)), io.BytesIO(content))


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _json(document: object) -> bytes:
    # The same document is the same bytes each time, so the digest is the same, too.
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _read(source: tarfile.TarFile, name: str) -> bytes:
    file = source.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in the image archive")
    with file:
        return file.read()
