"""What the init container runs that brings Claude Code into a pod, by this machine's own programs."""

import subprocess
from pathlib import Path

import pytest

from claude_sandbox.backends.kubernetes.tools import command
from claude_sandbox.blueprint.model import Image, Tools

FILES = {"bin/claude": 0o755, "libexec/bash": 0o755, "share/settings.json": 0o644, "lib/deep/libc.so.6": 0o644,
         "manifest": 0o644}  # fmt: skip


def copied(directory: Path, *, without: str = "") -> tuple[int, Path]:
    """How it ended, and where it copied to."""
    source, target, box = directory / "from", directory / "to", directory / "box"
    for number, (name, mode) in enumerate(FILES.items()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        # More than one block, and no whole number of them.
        (source / name).write_bytes(b"%d" % number * 100_001)
        (source / name).chmod(mode)
    target.mkdir()
    # As busybox, which is told by its first argument what to be.
    box.write_text(f'#!/bin/sh\n[ "$1" != "{without}" ] || exit 1\nexec "$@"\n')
    box.chmod(0o755)
    _, *shell, script, _ = command(Tools(Image("example.org/claude:1", None, "Always"), str(source), 1))
    told = ["/bin/sh", *shell[1:], script.replace(" /tools", f" {target}").replace('"/tools', f'"{target}'), str(box)]
    return subprocess.run(told, check=False, capture_output=True).returncode, target


def test_all_of_it_is_there_and_may_be_run(tmp_path: Path) -> None:
    code, target = copied(tmp_path)
    assert code == 0
    found = {str(one.relative_to(target)): one for one in target.rglob("*") if one.is_file()}
    assert {name: one.stat().st_mode & 0o777 for name, one in found.items()} == FILES
    for name, one in found.items():
        assert one.read_bytes() == (tmp_path / "from" / name).read_bytes()


@pytest.mark.parametrize("program", ["cp", "mkdir", "dd", "chmod"])
def test_what_fails_ends_it(tmp_path: Path, program: str) -> None:
    assert copied(tmp_path, without=program)[0] != 0
