"""What is taken for a backup, and what is refused before anything is stopped for it."""

import hashlib
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from docker import APIClient

from claude_sandbox.backends.docker.names import LABEL_COMPONENT
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.machine import backups, workspaces

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


WORKSPACE = "workspaces/csb-alice-workspace.tar"


def with_workspace(path: Path, content: bytes, said: bytes, *further: tarfile.TarInfo) -> Path:
    """A backup with a workspace, which says that there is another one in it where `said` is other."""
    one = {
        "name": "csb-alice-workspace",
        "labels": {"a": "b"},
        "options": {},
        "sha256": hashlib.sha256(said).hexdigest(),
    }
    digests = {name: hashlib.sha256(part).hexdigest() for name, part in PARTS.items()}
    return archive(path, {**PARTS, WORKSPACE: content}, *further, sha256=digests, workspaces=[one])


def test_a_workspace_is_told_of_and_stays_in_the_archive(tmp_path: Path, scratch: Path) -> None:
    told = backups.unpack(with_workspace(tmp_path / "a.tar.gz", b"files", b"files"), scratch)
    assert [(one.name, one.labels) for one in told.workspaces] == [("csb-alice-workspace", {"a": "b"})]
    assert not (scratch / "workspaces").exists()


def test_a_workspace_that_was_changed_or_is_missing_or_comes_twice_is_refused(tmp_path: Path, scratch: Path) -> None:
    changed = with_workspace(tmp_path / "a.tar.gz", b"others", b"files")
    twice = with_workspace(tmp_path / "b.tar.gz", b"files", b"files", tarfile.TarInfo(WORKSPACE))
    missing = archive(tmp_path / "c.tar.gz", PARTS, workspaces=[told_of("gone")])
    outside = archive(tmp_path / "d.tar.gz", PARTS, workspaces=[told_of("../../etc/passwd")])
    for number, (path, why) in enumerate(
        ((changed, "damaged: workspaces/"), (twice, "comes twice"), (missing, "damaged"), (outside, "damaged"))
    ):
        place = scratch / str(number)
        place.mkdir()
        with pytest.raises(LocalClusterError, match=why):
            backups.unpack(path, place)


def told_of(name: str) -> dict[str, object]:
    return {"name": name, "labels": {}, "options": {}, "sha256": hashlib.sha256(b"").hexdigest()}


def test_an_archive_that_ends_too_early_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("one", "two"):
            member = tarfile.TarInfo(name)
            member.size = 5000
            tar.addfile(member, io.BytesIO(b"x" * 5000))
    whole = path.read_bytes().rstrip(b"\0") + b"\0" * 2048
    path.write_bytes(path.read_bytes()[:12800])
    assert workspaces.is_whole(path)
    for length in (0, 511, 512, 3000, 5632, 5633, 8000, 11264, 11776):
        path.write_bytes(whole[:length])
        assert not workspaces.is_whole(path), length


class Engine:
    """Answers of an engine with these volumes, each with what comes of a read of it."""

    def __init__(self, **volumes: Callable[[], Iterable[bytes]]) -> None:
        self.given, self.reading, self.read = volumes, "", dict.fromkeys(volumes, 0)

    def volumes(self, **_: Any) -> dict[str, Any]:
        return {"Volumes": [{"Name": name, "Labels": {LABEL_COMPONENT: "workspace"}} for name in self.given]}

    def containers(self, **_: Any) -> list[dict[str, str]]:
        return [{"ImageID": "sha256:1"}]

    def create_host_config(self, binds: dict[str, Any]) -> None:
        (self.reading,) = binds

    def create_container(self, *_: Any, **__: Any) -> dict[str, str]:
        return {"Id": "c"}

    def remove_container(self, *_: Any, **__: Any) -> None:
        pass

    def get_archive(self, *_: Any, **__: Any) -> tuple[Iterable[bytes], dict[str, Any]]:
        return self._pieces(self.reading), {}

    def _pieces(self, name: str) -> Iterator[bytes]:
        for piece in self.given[name]():
            self.read[name] += len(piece)
            yield piece


def packed(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def test_an_agent_keeps_nothing_but_its_own_workspace_from_being_backed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writes all the time, another has a file that is longer than any disk."""
    monkeypatch.setattr(workspaces, "no_room", lambda _, wanted: "it is full" if wanted > 20 << 20 else "")
    whole = packed(main=b"print()")
    engine = Engine(
        alice=lambda: [whole], bob=lambda: [whole[:600]], carol=lambda: [bytes(1 << 20)] * 100, dave=lambda: [whole]
    )
    told: list[str] = []
    saved, left_out = workspaces.save(cast(APIClient, engine), "c", tmp_path, told.append)
    assert [one.name for one in saved] == ["alice", "dave"]
    assert left_out == ("bob", "carol")
    assert ["written to each of 3 times" in told[0], "du --apparent-size" in told[1]] == [True, True]
    assert engine.read["carol"] < 30 << 20
    # Nothing of them stays, which would come into the file.
    assert sorted(one.name for one in (tmp_path / "workspaces").iterdir()) == ["alice.tar", "dave.tar"]


def test_of_an_archive_of_many_files_none_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(packed(**{f"file-{number}": b"" for number in range(20_000)}))
    tracemalloc.start()
    try:
        assert workspaces.is_whole(tmp_path / "a.tar")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
