"""What a helper takes to list and store a workspace, beside restic alone storing the same tree."""

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from claude_sandbox.backup.restic import NAME, Repository
from claude_sandbox.controller.backups.choice import LARGE
from claude_sandbox.localcluster.programs.os_packages import Needed, ensure

RESTIC = Needed(("restic",), ("restic",))
_PASSWORD = b"not-really-a-password"
_CHANGED = 100
"""Of so many files one is another when the second backup is made."""
# As in the helper, up to where it begins to restore what it stored.
_HELPER = """\
import sys
from pathlib import Path
from claude_sandbox.backup import tree
from claude_sandbox.backup.__main__ import collect_rarely
from claude_sandbox.backup.bounds import Lengths
from claude_sandbox.backup.order import Order, Places
from claude_sandbox.backup.store import store
from claude_sandbox.backup.progress import Amount, Progress
from claude_sandbox.backup.restic import Repository
collect_rarely()
root, own, program, verified = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
# The files count as changed more than an hour before.
tree._SETTLED = 0
repository = Repository(str(own / "target"), sys.stdin.buffer.read(), str(own / "cache"), program)
with repository.claimed(0):
    order, places = Order("backup", "alice", "u1", verified=verified), Places(root / "source", root / "transient")
    store(order, repository, places, Lengths([root / "source/workspace"]), Progress(), Amount())
"""


@dataclass(frozen=True)
class Sizes:
    """The tree, and how often it is backed up."""

    files: int = 20_000
    bytes: int = 10_240
    rounds: int = 6


class Spent(NamedTuple):
    """Seconds: user and system time of all processes, and on the clock."""

    cpu: float
    elapsed: float


def measure(root: Path, sizes: Sizes, report: Callable[[str], None]) -> dict[str, Any]:
    """Ratios, helper by restic, of each round; and the seconds of both."""
    program = str(ensure(RESTIC, report).path("restic"))
    tree = root / "source/workspace"
    _fill(tree, sizes)
    repository = _made(root, program)
    found: dict[str, dict[str, list[Spent]]] = {which: {"restic": [], "helper": []} for which in ("first", "next")}
    for number in range(sizes.rounds):
        places = {who: root / who for who in ("restic", "helper")}
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(repository, place / "target")
            (place / "cache").mkdir()
        for which in found:
            if which == "next":
                _change(tree, sizes, number)
            for who in random.sample(list(places), 2):
                own = places[who]
                spent = _restic(root, own, program) if who == "restic" else _helper(root, own, program, sizes)
                found[which][who].append(spent)
        report(f"round {number + 1} of {sizes.rounds}: " + ", ".join(_round(which, found[which]) for which in found))
    told = {which: _told(of["helper"], of["restic"]) for which, of in found.items()}
    return {"files": sizes.files, "bytes": sizes.bytes, "rounds": sizes.rounds} | told


def _told(helper: list[Spent], restic: list[Spent]) -> dict[str, Any]:
    pairs = list(zip(helper, restic, strict=True))
    return {
        "cpuRatios": [ours.cpu / plain.cpu for ours, plain in pairs],
        "elapsedRatios": [ours.elapsed / plain.elapsed for ours, plain in pairs],
        "helper": [one._asdict() for one in helper],
        "restic": [one._asdict() for one in restic],
    }


def page(found: dict[str, Any], machine: str) -> str:
    """For people."""
    lines = [machine, f"{found['files']} files of {found['bytes']} random bytes, {found['rounds']} rounds", ""]
    for which in ("first", "next"):
        of = found[which]
        for what in ("cpu", "elapsed"):
            ratios = of[f"{what}Ratios"]
            helper, plain = (statistics.median(one[what] for one in of[who]) for who in ("helper", "restic"))
            lines.append(
                f"{which:5} backup, {what:7}  {statistics.median(ratios):5.2f} times ({min(ratios):.2f} to "
                f"{max(ratios):.2f}): {helper:6.2f} s, where restic alone takes {plain:6.2f}"
            )
    return "\n".join(lines)


def _round(which: str, of: dict[str, list[Spent]]) -> str:
    return f"{which} {of['helper'][-1].cpu:.2f} s beside {of['restic'][-1].cpu:.2f}"


def _made(root: Path, program: str) -> Path:
    """A target with an empty repository, which helpers know. Both begin with a copy: its key takes as long for both."""
    target = root / "made"
    for one in (target, root / "cache"):
        one.mkdir()
    repository = Repository(str(target), _PASSWORD, str(root / "cache"), program)
    with repository.claimed(0):
        repository.prepare()
    return target


def _fill(tree: Path, sizes: Sizes) -> None:
    for number in range(sizes.files):
        directory = tree / f"{number // 1000}/{number // 100 % 10}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / str(number)).write_bytes(os.urandom(sizes.bytes))


def _change(tree: Path, sizes: Sizes, turn: int) -> None:
    for number in range(turn % _CHANGED, sizes.files, _CHANGED):
        (tree / f"{number // 1000}/{number // 100 % 10}/{number}").write_bytes(os.urandom(sizes.bytes))


def _restic(root: Path, own: Path, program: str) -> Spent:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(own / "cache"), "RESTIC_CACHE_DIR": str(own / "cache"),
        "RESTIC_PASSWORD_FILE": "/dev/stdin",
    }  # fmt: skip
    repository = str(own / "target" / NAME)
    return _spent([program, "-r", repository, "backup", "--quiet", str(root / "source/workspace")], environment)


def _helper(root: Path, own: Path, program: str, sizes: Sizes) -> Spent:
    """Of the second backup the first is the one whose list is read, where the operator says so."""
    there = [one.name for one in (own / "target" / NAME / "snapshots").iterdir()]
    verified = there[0] if there and sizes.files * sizes.bytes >= LARGE else ""
    # As a new helper finds it: empty.
    shutil.rmtree(root / "transient", ignore_errors=True)
    command = [sys.executable, "-c", _HELPER, str(root), str(own), program, verified]
    return _spent(command, {"PATH": os.environ["PATH"]})


def _spent(command: list[str], environment: dict[str, str]) -> Spent:
    began = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stderr is not None
        running.stdin.write(_PASSWORD)
        running.stdin.close()
        said = running.stderr.read()
        # With what the processes took that it waited for itself.
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(f"{command[0]} ended with {running.returncode}: {said.decode(errors='replace')[-500:]}")
    return Spent(used.ru_utime + used.ru_stime, time.monotonic() - began)
