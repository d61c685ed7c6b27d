"""A sandbox answers a copy out of it with an archive that is to write, run or lead elsewhere on the user's machine.

Gained before: with a plain `tar -x`, or Python's `tarfile` told to trust it, files beside the directory that was asked
for, through links, absolute names and `..`; set-user-ID programs; devices and pipes that a reader hangs on; a disk that
is full. Closed by `cli/work/archives/`, whose reader and unpacker open every step of a path by itself and
follow no link, make every file anew, and believe no size.
"""

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exec_server import ExecServer, exec_server
from hypothesis import example, given, settings
from hypothesis import strategies as st

from claude_sandbox.cli.main import cli
from claude_sandbox.cli.work.archives.archive import ArchiveError, Reader
from claude_sandbox.cli.work.archives.unpacking import Unpacker, leads_inside

Item = tuple[str, bytes, str]
"""Name, type, and the content or where it leads."""
FILE, LINK, HARD, DIRECTORY = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE

ESCAPES: dict[str, list[Item]] = {
    "up": [("x", DIRECTORY, ""), ("x/../../{mark}", FILE, "evil")],
    "up at the start": [("../{mark}", FILE, "evil")],
    "absolute": [("{outside}/{mark}", FILE, "evil")],
    "through a link": [("x", DIRECTORY, ""), ("x/l", LINK, "{outside}"), ("x/l/{mark}", FILE, "evil")],
    "through a link that goes up": [("x", DIRECTORY, ""), ("x/l", LINK, "../.."), ("x/l/{mark}", FILE, "evil")],
    "through two links": [
        ("x/a/b", DIRECTORY, ""), ("x/a/b/top", LINK, "../.."), ("x/l", LINK, "a/b/top/../../"),
        ("x/l/{mark}", FILE, "evil"),
    ],
    "through a link in place of a directory": [
        ("x", DIRECTORY, ""), ("x/d", LINK, "{outside}"), ("x/d", DIRECTORY, ""), ("x/d/{mark}", FILE, "evil")
    ],
    "over a link": [("x", DIRECTORY, ""), ("x/f", LINK, "{outside}/{mark}"), ("x/f", FILE, "evil")],
    "by a hard link": [("x", DIRECTORY, ""), ("x/f", HARD, "{outside}/secret"), ("x/f", FILE, "evil")],
    "as the top": [("x", LINK, "{outside}"), ("x/{mark}", FILE, "evil")],
    "beside what was asked for": [("x", DIRECTORY, ""), ("../{mark}", FILE, "evil")],
}  # fmt: skip


def archive(items: list[Item], **words: object) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, kind, what in items:
            info = tarfile.TarInfo(name.format(**words))
            info.type, info.mode = kind, 0o6755
            content = what.encode() if kind == FILE else b""
            info.size, info.linkname = len(content), "" if kind == FILE else what.format(**words)
            made.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What is not to be touched."""
    found = tmp_path / "outside"
    found.mkdir()
    (found / "secret").write_text("secret")
    return found


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[ExecServer, Callable[[bytes], None]]]:
    """A sandbox whose tar sends what it is told to."""
    programs = tmp_path / "programs"
    programs.mkdir()
    with exec_server(programs, tmp_path) as server:

        def sends(data: bytes) -> None:
            (programs / "archive").write_bytes(data)
            (programs / "tar").write_text(f"#!/bin/sh\nexec cat {programs}/archive\n")
            (programs / "tar").chmod(0o755)
            server.path = f"{programs}:{server.path}"

        yield server, sends


def copy(server: ExecServer, to: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["cp", "--kubeconfig", server.kubeconfig, *options, "alice:x", str(to)])


def everything(below: Path) -> set[str]:
    return {str(path.relative_to(below)) for path in below.rglob("*")}


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_is_written_elsewhere(
    name: str, tmp_path: Path, outside: Path, hostile: tuple[ExecServer, Callable[[bytes], None]]
) -> None:
    server, sends = hostile
    target = tmp_path / "deep/er/target"
    target.mkdir(parents=True)
    words = {"outside": outside, "mark": "mark"}
    data = archive(ESCAPES[name], **words)

    def harmed(by: Path) -> bool:
        written = [one for one in tmp_path.rglob("mark") if not one.is_relative_to(by / "x")]
        return bool(written) or (outside / "secret").read_text() != "secret"

    # First where nothing stops it.
    with tarfile.open(fileobj=io.BytesIO(data)) as trusted:
        trusted.extractall(target, filter="fully_trusted")  # noqa: S202 - that is the point
    assert harmed(target)
    shutil.rmtree(target)
    for one in tmp_path.rglob("mark"):
        one.unlink()
    (outside / "secret").unlink()
    (outside / "secret").write_text("secret")
    clean = tmp_path / "deep/er/clean"
    clean.mkdir()
    sends(data)
    found = copy(server, clean)
    assert not harmed(clean), found.output
    assert (outside / "secret").stat().st_nlink == 1
    # Either nothing was taken, or what is there leads nowhere else.
    assert all(one.resolve().is_relative_to(clean) for one in clean.rglob("*"))


def test_no_bit_device_or_pipe_is_taken(tmp_path: Path, hostile: tuple[ExecServer, Callable[[bytes], None]]) -> None:
    server, sends = hostile
    sends(
        archive(
            [
                ("x", DIRECTORY, ""),
                ("x/suid", FILE, "#!"),
                ("x/pipe", tarfile.FIFOTYPE, ""),
                ("x/disk", tarfile.BLKTYPE, ""),
                ("x/tty", tarfile.CHRTYPE, ""),
                ("x/\x1b[2Jl", LINK, "/etc/\x1bpasswd"),
            ]
        )
    )
    found = copy(server, tmp_path / "copy")
    assert found.exit_code == 0
    assert everything(tmp_path / "copy") == {"suid"}
    assert stat.S_IMODE((tmp_path / "copy/suid").stat().st_mode) & 0o7000 == 0
    assert (tmp_path / "copy/suid").stat().st_uid == os.getuid()
    assert found.output.count("left out") == 4
    assert "\x1b" not in found.output


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive([("x", FILE, "a" * 5000)]), "more than 4096 bytes"),
        (archive([("x", DIRECTORY, ""), *((f"x/{n}", FILE, "a" * 50) for n in range(100))]), "more than 4096 bytes"),
        (archive([("x/" + "d/" * 300, DIRECTORY, "")]), "directories in one another"),
        (archive([("x", FILE, "a"), ("x", FILE, "b")]), "comes twice"),
        (archive([("x", FILE, "a"), ("x/y", FILE, "b")]), "is a directory, and is none"),
        (
            archive([("x", DIRECTORY, ""), ("x/a", DIRECTORY, ""), ("x/l", LINK, "a"), ("x/l/y", FILE, "through it")]),
            "is a directory, and is none",
        ),
        (archive([("x", FILE, "a")])[:700], "did not send all"),
        (archive([("y", FILE, "a")]), "is not what was asked for"),
        (archive([]), "nothing came"),
        (b"\x1b[2J" * 1000, "no tar archive"),
        (archive([("x", DIRECTORY, ""), ("x/" + "n" * 300, FILE, "a")]), "File name too long"),
    ],
)  # fmt: skip
def test_what_is_too_much_or_makes_no_sense_leaves_nothing(
    tmp_path: Path, hostile: tuple[ExecServer, Callable[[bytes], None]], data: bytes, said: str
) -> None:
    server, sends = hostile
    sends(data)
    (tmp_path / "to").mkdir()
    found = copy(server, tmp_path / "to/x", "--max-size", "4Ki")
    assert found.exit_code == 1
    assert said in found.output + str(found.exception)
    assert everything(tmp_path / "to") == set()
    assert "\x1b" not in found.output


def test_an_archive_without_end_ends_at_the_bound(tmp_path: Path) -> None:
    with exec_server(tmp_path, tmp_path) as server:
        (tmp_path / "tar").write_text("#!/bin/sh\nexec cat /dev/zero\n")
        (tmp_path / "tar").chmod(0o755)
        server.path = f"{tmp_path}:{server.path}"
        # Zeros are the end of an archive: what follows is read and kept nowhere.
        server.cut_after = 50_000_000
        assert copy(server, tmp_path / "copy").exit_code == 1


steps = st.lists(st.sampled_from(["a", "b", "..", ".", "c"]), min_size=1, max_size=6).map("/".join)


@settings(max_examples=60, deadline=None)
@example([("x/a", FILE, "a"), ("x/a", DIRECTORY, "a")])
@example([("x/a", LINK, "b"), ("x/a", DIRECTORY, "a")])
@given(st.lists(st.tuples(steps.map("x/{}".format), st.sampled_from([FILE, LINK, HARD, DIRECTORY]), steps), max_size=8))
def test_no_made_up_archive_leaves_the_directory(tmp_path_factory: pytest.TempPathFactory, items: list[Item]) -> None:
    place = tmp_path_factory.mktemp("made-up")
    to = place / "one/two"
    to.mkdir(parents=True)
    # A link's target is as it is; a hard link's is a member's name.
    items = [(name, kind, f"x/{what}" if kind == HARD else what) for name, kind, what in items]
    try:
        with Unpacker(to, b"x", most_bytes=1 << 20, most_members=100) as unpacker:
            for one in Reader().feed(archive([("x", DIRECTORY, ""), *items])):
                unpacker.take(one)
            assert unpacker.keep(to / "copy")
    except ArchiveError:
        assert everything(place) == {"one", "one/two"}
        return
    inside = os.path.realpath(to / "copy")
    for directory, directories, files in os.walk(to / "copy"):
        for name in (*directories, *files):
            path = f"{directory}/{name}"
            try:
                real = os.path.realpath(path, strict=True)
            except OSError:
                continue  # it leads nowhere, or round in circles
            assert real == inside or real.startswith(inside + "/"), path
    assert {one for one in everything(place) if not one.startswith("one/two/copy")} == {"one", "one/two"}


@pytest.mark.parametrize(
    ("target", "depth", "inside"),
    [
        (b"a", 0, True), (b"../a", 1, True), (b"../../a", 1, False), (b"..", 1, True), (b"..", 0, False),
        (b"a/..", 3, False), (b"./../a", 1, True), (b"/a", 3, False), (b"a//b", 0, True), (b"x", -1, False),
    ],
)  # fmt: skip
def test_where_a_link_leads(target: bytes, depth: int, inside: bool) -> None:
    assert leads_inside(target, depth) is inside
