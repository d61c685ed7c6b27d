"""The reader of archives takes what tar programs write, and of what is harmful no more than a header."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.cli.work.archives.archive import LARGEST_HEADER, ArchiveError, Kind, Member, Reader

KINDS = {
    tarfile.REGTYPE: Kind.FILE, tarfile.DIRTYPE: Kind.DIRECTORY, tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARD_LINK, tarfile.FIFOTYPE: Kind.OTHER, tarfile.CHRTYPE: Kind.OTHER,
}  # fmt: skip
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
members = st.tuples(names, st.sampled_from(sorted(KINDS)), st.binary(max_size=1500), names, st.integers(0, 0o7777))


def read(data: bytes, piece: int = 1 << 20) -> tuple[list[tuple[Member, bytes]], Reader]:
    reader, found = Reader(), []
    for at in range(0, len(data), piece):
        for one in reader.feed(data[at : at + piece]):
            if isinstance(one, Member):
                found.append((one, bytearray()))
            else:
                found[-1][1].extend(one)
    return [(member, bytes(content)) for member, content in found], reader


def made(*infos: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for info, content in infos:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


@settings(max_examples=50, deadline=None)
@given(st.lists(members, max_size=5), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.integers(1, 3000))
def test_what_pythons_writer_writes_is_read_in_whatever_pieces(
    wanted: list[tuple[str, bytes, bytes, str, int]], form: int, piece: int
) -> None:
    infos = []
    for name, kind, content, target, mode in wanted:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, mode
        infos.append((info, content if kind == tarfile.REGTYPE else b""))
    found, reader = read(made(*infos, form=form), piece)
    assert reader.ended
    assert [(m.name.rstrip(b"/"), m.kind, c, m.executable) for m, c in found] == [
        (name.encode().rstrip(b"/"), KINDS[kind], content if kind == tarfile.REGTYPE else b"", bool(mode & 0o100))
        for name, kind, content, _, mode in wanted
    ]
    links = [m.target for m, _ in found if m.kind in (Kind.SYMLINK, Kind.HARD_LINK)]
    assert links == [t.encode() for _, kind, _, t, _ in wanted if KINDS[kind] in (Kind.SYMLINK, Kind.HARD_LINK)]


@given(st.binary(max_size=4000))
def test_what_is_no_archive_is_refused_or_has_no_end(data: bytes) -> None:
    try:
        found, reader = read(data)
    except ArchiveError:
        return
    assert not found
    assert reader.ended == (len(data) >= 1024)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_archive_ends_in_an_error_or_in_members(data: st.DataObject) -> None:
    whole = bytearray(made((tarfile.TarInfo("a" * 200), b"content"), (tarfile.TarInfo("b"), b"")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found, _ = read(bytes(whole))
    except ArchiveError:
        return
    assert all(len(content) <= member.size for member, content in found)


@pytest.mark.parametrize("option", ["--format=gnu", "--format=pax", "--format=ustar", "--format=v7"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, option: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x" * 700)
    (tmp_path / "a/c").symlink_to("b")
    archive = subprocess.run(["tar", option, "-cf", "-", "-C", tmp_path, "./a"], capture_output=True, check=True)
    found, reader = read(archive.stdout)
    assert reader.ended
    assert {(m.name, m.kind, len(c)) for m, c in found} == {
        (b"./a/", Kind.DIRECTORY, 0), (b"./a/b", Kind.FILE, 700), (b"./a/c", Kind.SYMLINK, 0)
    }  # fmt: skip


def header(kind: bytes, size: int, name: bytes = b"x") -> bytes:
    info = tarfile.TarInfo(name.decode())
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(b"x", LARGEST_HEADER + 1), "a header with names has more than"),
        (header(b"L", 1 << 40), "a header with names has more than"),
        (header(b"0", 1 << 61), "too large a number"),
        (header(b"S", 0), "holes"),
        (header(b"L", 5000) + b"a" * 5000 + bytes(120) + header(b"0", 0), "more than 4096"),
        (header(b"x", 20) + b"99 path=x\n".ljust(512, b"\0") + header(b"0", 0), "a record that is none"),
        (header(b"x", 12) + b"12 size=-99\n".ljust(512, b"\0") + header(b"0", 0), "a number that is none"),
        (b"GET / HTTP/1.1".ljust(512, b"\n"), "no tar archive"),
    ],
)
def test_a_header_that_asks_for_too_much_or_makes_no_sense_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        read(data)


def test_a_cut_archive_has_no_end() -> None:
    whole = made((tarfile.TarInfo("a"), b"x" * 600))
    assert not read(whole[:1500])[1].ended
    assert not read(whole[: 512 + 1024])[1].ended  # between two members
    assert not read(whole[: 512 + 1024 + 512])[1].ended  # within its end
    assert read(whole[: 512 + 1024 + 1024])[1].ended
