"""Which tests stay together in one process, in which order these groups begin, and how long each takes.

`python -m tests.groups REPORT [REMARK]` reads the JUnit report of a whole run (`make test ARGS=--junitxml=REPORT`) and
writes tests/durations.md. The time of a group is that of its tests, one after the other, with what they share.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from claude_sandbox.localcluster import engine

PAGE = Path(__file__).with_name("durations.md")

CHANGES = "changes of the machine"

# With a node, or a way out of an engine, come changed settings of the whole machine, with an engine for builds a file;
# the lifecycles look whether all is put back. So no two of these may run at once.
_CHANGE_THE_MACHINE = (
    "node/", "e2e/", "conformance/",
    "attacks/measurement/test_attack_groups_of_the_image.py", "attacks/images/test_attack_image_volumes.py",
    "docker/engines/test_engines_outside.py", "docker/engines/test_engines_lifecycle.py",
    "docker/engines/test_engines_for_builds.py",
)  # fmt: skip

# Moves have two engines of their own, in the round of the default release; in the other they are skipped.
_MOVES = "moves between engines"
_OF_MOVES = (
    "docker/sandboxes/test_docker_drain.py",
    "docker/incidents/test_docker_leaves_compromised_host.py",
    "docker/faults/test_docker_drain_interrupted.py",
)

# The chains that decide how long a run takes begin first, the longest of them before the others (durations.md); what is
# short fills the processes up at the end.
_FIRST = (
    CHANGES,
    *(f"engine {release}" for release in engine.RELEASES),
    "operator",
    "api",
    "unit/backup",
    "attacks",
    "machine",
    _MOVES,
    "gateway",
    "cluster",
)


def group_of(file: str, release: str | None) -> str:
    """The group of a test: of its file below tests/, and of the engine's release where it has the fixture for one.

    Tests of one group are run by one process, in order, so that they share what they need.
    """
    if file.startswith(_CHANGE_THE_MACHINE):
        return CHANGES
    if file in _OF_MOVES and release == engine.DEFAULT_RELEASE:
        return _MOVES
    if release is not None:
        return f"engine {release}"
    # Nothing is shared between the rooms of the unit tests, nor between the files below tests/docker.
    if file.startswith("unit/"):
        return "/".join(file.split("/")[:2])
    return file if file.startswith("docker/") else file.partition("/")[0]


def rank(group: str) -> int:
    """Groups of a lower rank begin first."""
    return _FIRST.index(group) if group in _FIRST else len(_FIRST)


def table(report: Path, remark: str = "") -> str:
    """The page for a run: groups, the longest first; with a remark on the run."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, int] = defaultdict(int)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - a file of our own
        # pytest-xdist writes the group behind the name.
        group = case.get("name", "").rpartition("@")[2]
        seconds[group] += float(case.get("time", 0))
        tests[group] += 1
    lines = [
        "<!-- Written by `python -m tests.groups`. -->",
        "# How long the tests take",
        f"A run of `make test` on a machine with {os.cpu_count()} cores. Groups run side by side, in three processes.",
        *([remark] if remark else []),
        "",
        "| Group | Tests | Minutes |",
        "|---|---|---|",
    ]
    order = sorted(seconds, key=lambda group: -seconds[group])
    lines += [f"| {group} | {tests[group]} | {seconds[group] / 60:.1f} |" for group in order]
    lines += [f"| all | {sum(tests.values())} | {sum(seconds.values()) / 60:.1f} |", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(table(Path(sys.argv[1]), *sys.argv[2:]), encoding="utf-8")
