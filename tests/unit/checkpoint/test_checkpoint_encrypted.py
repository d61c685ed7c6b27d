"""What a checkpoint's helper makes of a directory, with the real `age`."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from criukit import AGE, key_pair, opened
from nodekit import report

from claude_sandbox.checkpoint.__main__ import encrypted
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.programs.os_packages import ensure


@pytest.fixture(autouse=True)
def age(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("PATH", str(ensure(AGE, report).path("age").parent), prepend=os.pathsep)
    except LocalClusterError as error:
        pytest.skip(str(error))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    found = tmp_path / "checkpoint/memory"
    found.mkdir(parents=True)
    (found / "pages-1.img").write_bytes(b"x" * 300_000 + b"the secret")
    return found.parent


def test_the_recipient_opens_it_and_the_digest_is_of_what_is_kept(source: Path, tmp_path: Path) -> None:
    recipient, key = key_pair(tmp_path)
    told = encrypted(source, recipient, tmp_path / "kept")
    kept = (tmp_path / "kept").read_bytes()
    assert told == {"size": len(kept), "sha256": hashlib.sha256(kept).hexdigest()}
    assert b"the secret" not in kept
    with tarfile.open(fileobj=io.BytesIO(opened(tmp_path / "kept", key).stdout)) as tar:
        pages = tar.extractfile("checkpoint/memory/pages-1.img")
        assert pages is not None
        assert pages.read().endswith(b"the secret")


def test_what_an_earlier_one_left_is_replaced(source: Path, tmp_path: Path) -> None:
    recipient, key = key_pair(tmp_path)
    (tmp_path / "kept.partial").write_bytes(b"y" * 1_000_000)
    encrypted(source, recipient, tmp_path / "kept")
    assert opened(tmp_path / "kept", key).returncode == 0
    assert not (tmp_path / "kept.partial").exists()


@pytest.mark.parametrize("recipient", ["age1" + "q" * 58, "--help"])
def test_where_age_refuses_its_words_are_told_and_nothing_is_kept(source: Path, tmp_path: Path, recipient: str) -> None:
    told = encrypted(source, recipient, tmp_path / "kept")
    assert list(told) == ["problem"]
    assert "age" in told["problem"] or "recipient" in told["problem"]
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]


def test_a_checkpoint_that_is_not_there_is_not_kept_as_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    assert "there is none" in encrypted(tmp_path / "checkpoint", "age1", tmp_path / "kept")["problem"]
    assert not (tmp_path / "kept").exists()


def test_a_file_that_can_not_be_read_to_its_end_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipient, _ = key_pair(tmp_path)

    def shorter(*_: object, **__: object) -> None:
        raise OSError("unexpected end of data")

    # As of a disk that fails: tarfile raises so where a file is shorter than it was.
    monkeypatch.setattr(tarfile, "copyfileobj", shorter)
    assert encrypted(source, recipient, tmp_path / "kept") == {"problem": "unexpected end of data"}
    assert not (tmp_path / "kept").exists()
