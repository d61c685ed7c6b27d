"""restic's own binary, and a workspace with what a workspace may have in it."""

import os
from pathlib import Path

from nodekit import report

from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

RESTIC = Needed(("restic",), ("restic",))


def restic() -> str:
    """Where it is."""
    return str(ensure(RESTIC, report).path("restic"))


def fill(directory: Path) -> None:
    """Files of all kinds."""
    (directory / "src/deep").mkdir(parents=True)
    (directory / "empty").mkdir()
    (directory / "src/main.py").write_text("print('hello')\n")
    (directory / "src/deep/large").write_bytes(os.urandom(3 << 20))
    (directory / "src/run").write_text("#!/bin/sh\n")
    (directory / "src/run").chmod(0o755)
    (directory / "link").symlink_to("src/main.py")
    (directory / "out").symlink_to("/etc/passwd")
    os.link(directory / "src/main.py", directory / "src/second")
    os.mkfifo(directory / "pipe")
    (directory / os.fsdecode(b"bad-\xff\n\x1b[31m")).write_text("a name")
    (directory / "src/note").write_text("with attributes")
    os.setxattr(directory / "src/note", "user.mark", b"\x00\x01")
    with (directory / "sparse").open("wb") as file:
        file.truncate(5 << 20)
    os.utime(directory / "src/main.py", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    (directory / "src/deep").chmod(0o555)
