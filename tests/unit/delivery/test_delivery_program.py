"""What puts a key in place on Docker: only in memory, whole or not at all, and without a word of it anywhere."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_sandbox.delivery import MARKER
from claude_sandbox.delivery.__main__ import RefusedError, deliver, is_memory

KEY = b"not-\xffreally\na-key"


def mounts(*lines: tuple[str, str]) -> str:
    """As /proc/self/mountinfo tells of places and their file systems."""
    told = [f"{number} 1 0:{number} / {place} rw - {kind} none rw" for number, (place, kind) in enumerate(lines, 30)]
    return "\n".join(told) + "\n"


def test_the_key_and_then_its_generation_are_put_in_place(tmp_path: Path) -> None:
    line = bytearray(base64.b64encode(KEY) + b"\n")
    for generation in ("7", "8"):
        deliver(tmp_path, "api-key", generation, line, mounts((str(tmp_path), "tmpfs")))
        assert (tmp_path / "api-key").read_bytes() == KEY
        assert (tmp_path / MARKER).read_text() == generation
        assert {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {"api-key": 0o400, MARKER: 0o400}


@pytest.mark.parametrize(
    "told",
    [
        mounts(("/", "overlay")),
        mounts(("/run/key", "ext4")),
        mounts(("/run", "tmpfs")),
        mounts(("/run/key", "tmpfs"), ("/run/key", "ext4")),
        "",
    ],
)
def test_no_other_place_than_memory_will_do(told: str) -> None:
    assert not is_memory(Path("/run/key"), told)


def test_on_a_disk_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="memory"):
        deliver(tmp_path, "api-key", "7", bytearray(b"a2V5\n"), mounts((str(tmp_path), "ext4")))
    assert not list(tmp_path.iterdir())


def test_nothing_is_followed_that_is_there_already(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "key", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.write_text("as it was")
    for name in ("~new", "api-key", MARKER):
        (place / name).symlink_to(elsewhere)
    deliver(place, "api-key", "7", bytearray(base64.b64encode(KEY)), mounts((str(place), "tmpfs")))
    assert elsewhere.read_text() == "as it was"
    assert (place / "api-key").read_bytes() == KEY
    assert not (place / "api-key").is_symlink()


@pytest.mark.parametrize("sent", [b"bm90LXJlYWxseQ\n", b"not base64!\n", b"", b"bm90LXJlYWxseQ=="])
def test_what_it_says_holds_nothing_of_what_came(sent: bytes, tmp_path: Path) -> None:
    command = (sys.executable, "-I", "-m", "claude_sandbox.delivery", str(tmp_path), "api-key", "7")
    # Isolated, an editable installation is found all the same.
    done = subprocess.run(command, input=sent, capture_output=True, timeout=30, check=False, env={**os.environ})
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"bm90" not in done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
