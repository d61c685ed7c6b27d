"""What an image's document says is in it: what dpkg, Python and Claude Code left there, and nothing that is gone."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.localcluster.images.archive import ImageArchive
from claude_sandbox.localcluster.images.sbom import document, written

RELEASE = b'ID=debian\nVERSION_ID="12"\n'
STATUS = b"""Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Description: shell
 Package: not-a-package

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
DIST = "opt/venv/lib/python3.11/site-packages"


def layer(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def archive(path: Path, *layers: bytes) -> ImageArchive:
    names = [f"blobs/sha256/{number}" for number in range(len(layers))]
    manifest = json.dumps([{"Layers": names}]).encode()
    path.write_bytes(layer(**dict(zip(names, layers, strict=True)), **{"manifest.json": manifest}))
    return ImageArchive(path, "example.test/thing:1.0", "sha256:" + "a" * 64)


def packages(found: dict[str, Any]) -> list[str]:
    return [one["purl"] for one in found["components"]]


@pytest.fixture
def lower() -> bytes:
    metadata = b"Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0\n\nName: not this\n"
    return layer(
        **{
            "./usr/lib/os-release": RELEASE,
            "./var/lib/dpkg/status": STATUS,
            f"{DIST}/some_thing-1.0.dist-info/METADATA": metadata,
            f"{DIST}/some_thing-1.0.dist-info/RECORD": b"",
            "home/somebody/METADATA": b"Name: nothing\nVersion: 1\n",
        }
    )


def test_it_names_each_package_as_scanners_do(lower: bytes, tmp_path: Path) -> None:
    image = archive(tmp_path / "a.tar", lower, layer(**{"opt/claude-sandbox/bin/claude": b"program"}))
    found = document(image, "2.1.331")
    assert packages(found) == [
        "pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12",
        "pkg:npm/%40anthropic-ai/claude-code@2.1.331",
        "pkg:pypi/some-thing@1.0",
    ]
    assert found["metadata"]["component"]["version"] == image.digest
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert json.loads(written(image, "2.1.331").read_text()) == found


def test_what_an_upper_layer_replaces_or_removes_is_not_in_it(lower: bytes, tmp_path: Path) -> None:
    newer = STATUS.replace(b"5.2.15-2+b2", b"5.3")
    replaced = layer(**{"var/lib/dpkg/status": newer})
    assert packages(document(archive(tmp_path / "a.tar", lower, replaced), ""))[0].startswith("pkg:deb/debian/bash@5.3")
    for gone in (f"{DIST}/.wh.some_thing-1.0.dist-info", "opt/.wh..wh..opq"):
        found = packages(document(archive(tmp_path / "b.tar", lower, layer(**{gone: b""})), ""))
        assert not [one for one in found if "some-thing" in one], gone
        assert [one for one in found if "bash" in one]
