"""The sandbox's real image with a stand-in for Claude Code: it clones as the real one does, and starts as fast as small
ones do."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from dockerkit import stand_in_programs

from claude_sandbox.blueprint.tools import CLAUDE
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import from_docker_save, of_programs
from claude_sandbox.localcluster.programs import builder

REFERENCE = "claudesandbox.dev/cloning-stand-in:1"


def cloning_image(real: ImageArchive, directory: Path) -> ImageArchive:
    """All layers of the real one but that with Claude Code's program, and instead of it one with the stand-in."""
    stand_in = of_programs(stand_in_programs(directory), directory / "layer.tar", "layer:1", builder.goarch(), ())
    saved = directory / "saved.tar"
    with tarfile.open(real.path) as source, tarfile.open(stand_in.path) as other, tarfile.open(saved, "w") as target:
        entry = json.loads(_read(source, "manifest.json"))[0]
        kept = [(source, name) for name in entry["Layers"] if not _has_claude(source, name)]
        assert len(kept) == len(entry["Layers"]) - 1
        layers = [*kept, (other, json.loads(_read(other, "manifest.json"))[0]["Layers"][0])]
        identifiers = []
        for number, (archive, name) in enumerate(layers):
            layer = _read(archive, name)
            identifiers.append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
            _add(target, f"{number}.tar", layer)
        config = json.loads(_read(source, entry["Config"]))
        config["rootfs"]["diff_ids"] = identifiers
        # It tells of each layer, and nobody asks.
        del config["history"]
        _add(target, "config.json", json.dumps(config).encode())
        listed = [{"Config": "config.json", "Layers": [f"{number}.tar" for number in range(len(layers))]}]
        _add(target, "manifest.json", json.dumps(listed).encode())
    made = from_docker_save(saved, directory / "cloning.tar", REFERENCE)
    saved.unlink()
    return made


def _has_claude(source: tarfile.TarFile, name: str) -> bool:
    with tarfile.open(fileobj=source.extractfile(name)) as layer:
        return CLAUDE.lstrip("/") in layer.getnames()


def _read(source: tarfile.TarFile, name: str) -> bytes:
    file = source.extractfile(name)
    assert file is not None
    with file:
        return file.read()


def _add(target: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    target.addfile(info, io.BytesIO(content))
