"""Files of an image that were made for whoever looks at them from the host.

A look from the host goes through what an image's maker, or who is in a container whose root can be written to, has put
there: names that forge what is said of them, links and moved directories that lead out of the container, pipes that
wait for a writer, directories without end, files by the million. Nothing is opened but directories, each below one that
is held open; and what was not all seen is said to be so.
"""

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from claude_sandbox.backends.docker.evidence import image_files
from claude_sandbox.backends.docker.evidence.image_files import SHOWN, look
from claude_sandbox.compliance.containers.witness import devices, no_new_privileges
from claude_sandbox.compliance.evidence.image_files import ImageFiles
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.procfs.limits import Limits


def program(place: Path, mode: int = 0o4755) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    place.chmod(mode)
    return place


def device(place: Path, major: int, minor: int, kind: int = stat.S_IFCHR) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(place, kind | 0o666, os.makedev(major, minor))
    except PermissionError:
        pytest.skip("makes devices")


def test_what_gives_privileges_is_named_by_what_gives_them(tmp_path: Path) -> None:
    program(tmp_path / "usr/bin/su")
    program(tmp_path / "usr/bin/write", 0o2755)
    program(tmp_path / "usr/bin/ls", 0o755)
    # Of these the bits mean something else, or nothing.
    program(tmp_path / "etc/plain", 0o4644)
    program(tmp_path / "etc/locked", 0o2644)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o6777)
    ping = program(tmp_path / "usr/bin/ping", 0o755)
    if subprocess.run(["setcap", "cap_net_raw+ep", str(ping)], capture_output=True, check=False).returncode == 0:
        assert "/usr/bin/ping (capabilities)" in look(tmp_path, ()).privileged
        ping.unlink()
    assert look(tmp_path, ()).privileged == ("/usr/bin/su (set-user-ID)", "/usr/bin/write (set-group-ID)")


def test_devices_are_told_wherever_they_are_and_every_container_s_are_none(tmp_path: Path) -> None:
    device(tmp_path / "dev/null", 1, 3)
    device(tmp_path / "dev/pts/0", 136, 0)
    assert look(tmp_path, ()) == ImageFiles()
    device(tmp_path / "opt/.x/disk", 8, 0, stat.S_IFBLK)
    device(tmp_path / "dev/kmsg", 1, 11)
    # A block device of the numbers of /dev/null is a disk in memory.
    device(tmp_path / "dev/zero", 1, 3, stat.S_IFBLK)
    found = look(tmp_path, ())
    assert found.devices == ("/dev/kmsg (c 1:11)", "/dev/zero (b 1:3)", "/opt/.x/disk (b 8:0)")
    # /dev is another file system, and is the container's own all the same.
    assert look(tmp_path, ("/dev",)) == found


def test_links_lead_nowhere_and_what_is_mounted_is_not_gone_into(tmp_path: Path) -> None:
    program(tmp_path / "outside/su")
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    for name, target in {"up": "../..", "out": str(tmp_path / "outside"), "loop": ".", "file": "../outside/su"}.items():
        (root / "usr" / name).symlink_to(target)
    program(root / "workspace/su")
    (root / "dev").symlink_to(tmp_path / "outside")
    assert look(root, ("/workspace",)) == ImageFiles()
    # What is said to be /dev is a link here, and is none of the container's own directories.
    assert look(root, ("/workspace", "/dev")) == ImageFiles()


def test_pipes_sockets_and_names_that_forge_lines_hold_nobody_up_and_say_nothing_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits")
    (tmp_path / "waits").chmod(0o4777)
    program(tmp_path / "a\nPRIV-03 Pass\x1b[2J")
    program(tmp_path / ("b" * 200))
    program(tmp_path / os.fsdecode(b"\xff\xfe"))
    found = look(tmp_path, ())
    assert found.privileged_count == 3
    process = Process("NoNewPrivs:\t0\n", "", "", Limits(), files=found)
    said = no_new_privileges(process, None).message
    assert "\n" not in said
    assert "\x1b" not in said
    assert "\\xff\\xfe" in said
    assert max(map(len, found.privileged)) < 150


def test_what_was_not_all_seen_is_no_pass(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").touch()
    program(tmp_path / "zzz/su")
    for found in (look(tmp_path, (), seconds=0), look(tmp_path, (), most=500)):
        assert not found.whole
        judged = devices(Process("", "", "", Limits(), files=found), None)
        assert "more files than are looked at" in judged.message
        told = no_new_privileges(Process("NoNewPrivs:\t1\n", "", "", Limits(), files=found), None)
        assert "more than is looked at" in told.value


def test_a_directory_without_a_floor_ends(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(image_files.DEEPEST + 50):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert look(tmp_path, ()).whole is False
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    program(tmp_path / "outside/forged")
    root = tmp_path / "root"
    (root / "turning").mkdir(parents=True)
    ends = threading.Event()

    def turn() -> None:
        while not ends.is_set():
            (root / "turning").rmdir()
            (root / "turning").symlink_to(tmp_path / "outside")
            (root / "turning").unlink()
            (root / "turning").mkdir()

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        assert all(look(root, ()).privileged_count == 0 for _ in range(300))
    finally:
        ends.set()
        turning.join()


def test_of_many_the_first_are_named_and_all_are_counted(tmp_path: Path) -> None:
    for number in range(SHOWN + 5):
        program(tmp_path / f"bin/{number:02}")
    found = look(tmp_path, ())
    assert (len(found.privileged), found.privileged_count) == (SHOWN, SHOWN + 5)
    told = no_new_privileges(Process("NoNewPrivs:\t1\n", "", "", Limits(), files=found), None)
    assert told.value.endswith("and 5 more")
