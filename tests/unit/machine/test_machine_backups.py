"""What is taken for a backup, and what is refused before anything is stopped for it."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine import backups

PARTS = {"snapshot.db": b"a snapshot", "encryption.yaml": b"a key", "pki/ca.crt": b"a certificate"}


def archive(path: Path, parts: dict[str, bytes], *further: tarfile.TarInfo, **account: object) -> Path:
    """A file as `backup` writes it; with other members, or another account of them, where that is said."""
    told = {
        "format": 1,
        "created": "2026-11-27T00:00:00Z",
        "revision": 7,
        "objects": 3,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()},
        **account,
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"backup.json": json.dumps(told).encode(), **parts}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for one in further:
            tar.addfile(one)
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    made = tmp_path / "scratch" / "inner"
    made.mkdir(parents=True)
    return made


def test_each_part_is_as_it_was(tmp_path: Path, scratch: Path) -> None:
    told = backups.unpack(archive(tmp_path / "a.tar.gz", PARTS), scratch)
    assert (told.revision, told.objects, told.created) == (7, 3, "2026-11-27T00:00:00Z")
    assert {name: (scratch / name).read_bytes() for name in PARTS} == PARTS


@pytest.mark.parametrize(
    "changed", [{"snapshot.db": b"another"}, {"pki/ca.crt": b"another"}, {"encryption.yaml": b""}], ids=str
)
def test_a_part_that_was_changed_is_refused(tmp_path: Path, scratch: Path, changed: dict[str, bytes]) -> None:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in PARTS.items()}
    path = archive(tmp_path / "a.tar.gz", {**PARTS, **changed}, sha256=digests)
    with pytest.raises(LocalClusterError, match=f"damaged: {next(iter(changed))}"):
        backups.unpack(path, scratch)


@pytest.mark.parametrize("missing", ["snapshot.db", "encryption.yaml"])
def test_a_backup_without_what_it_is_of_no_use_without_is_refused(tmp_path: Path, scratch: Path, missing: str) -> None:
    parts = {name: content for name, content in PARTS.items() if name != missing}
    with pytest.raises(LocalClusterError, match="incomplete"):
        backups.unpack(archive(tmp_path / "a.tar.gz", parts), scratch)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08garbage"])
def test_what_is_no_backup_is_refused(tmp_path: Path, scratch: Path, content: bytes) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(LocalClusterError, match="can't be restored"):
        backups.unpack(path, scratch)


def test_half_of_a_backup_is_refused(tmp_path: Path, scratch: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", PARTS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LocalClusterError, match="can't be restored"):
        backups.unpack(path, scratch)


def test_one_of_a_later_format_is_not_guessed_at(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(LocalClusterError, match="format 2") as caught:
        backups.unpack(archive(tmp_path / "a.tar.gz", PARTS, format=2), scratch)
    assert "version of this program" in caught.value.remedy


def test_nothing_is_written_that_is_no_part_of_a_backup(tmp_path: Path, scratch: Path) -> None:
    outside = tarfile.TarInfo("../outside")
    absolute = tarfile.TarInfo(str(tmp_path / "absolute"))
    link = tarfile.TarInfo("pki/link.crt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    backups.unpack(archive(tmp_path / "a.tar.gz", PARTS, outside, absolute, link), scratch)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert found == {"a.tar.gz", *(f"scratch/inner/{name}" for name in (*PARTS, "backup.json"))}
