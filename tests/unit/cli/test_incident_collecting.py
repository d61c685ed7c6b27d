"""An archive of evidence that is fetched from a host which may be compromised itself."""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from claude_sandbox.cli.incident import collecting
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.errors import WorkError

KEPT = b"all that was kept"
ENGINE = cast(EngineAddress, type("Engine", (), {"address": None, "credentials": None, "endpoint": "unix:///x"})())


def answers(
    monkeypatch: pytest.MonkeyPatch, size: int, content: Iterator[bytes], kind: bytes = tarfile.REGTYPE
) -> None:
    head = tarfile.TarInfo("1.tar")
    head.size, head.type = size, kind
    monkeypatch.setattr(collecting, "connect", lambda *_: contextlib.nullcontext())

    def pieces(*_: Any) -> Iterator[bytes]:
        yield head.tobuf(tarfile.GNU_FORMAT)
        yield from content

    monkeypatch.setattr(collecting, "_archive", pieces)


def test_what_is_of_the_size_that_the_status_says_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KEPT + bytes(tarfile.BLOCKSIZE - len(KEPT)) + bytes(2 * tarfile.BLOCKSIZE)
    answers(monkeypatch, len(KEPT), iter(io.BytesIO(whole).readlines()))
    found = collecting._fetched(ENGINE, "keeper:/evidence/1.tar", tmp_path / "found.tar", len(KEPT))
    assert found == (len(KEPT), hashlib.sha256(KEPT).hexdigest())
    assert (tmp_path / "found.tar").read_bytes() == KEPT


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_has_no_end_fills_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 256 << 20:
            sent += 1 << 20
            yield bytes(1 << 20)

    answers(monkeypatch, 1 << 40, endless(), kind)
    with pytest.raises(tarfile.TarError):
        collecting._fetched(ENGINE, "keeper:/evidence/1.tar", tmp_path / "found.tar", len(KEPT))
    assert sent <= 16 << 20
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_sends_without_end_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 20
            yield bytes(1 << 20)

    answers(monkeypatch, 1 << 40, endless())
    with pytest.raises(WorkError, match="not what the sandbox's status says"):
        collecting._fetched(ENGINE, "keeper:/evidence/1.tar", tmp_path / "found.tar", len(KEPT))
    assert sent <= 16 << 20
    assert list(tmp_path.iterdir()) == []
