"""How much of a pod's output its node keeps: by names and sizes, whatever is in the way."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.backends.kubernetes.node_agents.answers import LEAST_KEPT, MisunderstoodError, read
from claude_sandbox.compliance.evidence.pod_processes import KeptLog
from claude_sandbox.node_agent import MOST_CONTAINERS, logs
from claude_sandbox.node_agent.logs import Logs

POD, OTHER = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f", "1f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
ROTATED = "0.log.20260101-120000"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def container(top: Path, name: str = "agent", uid: str = POD, **files: int) -> Path:
    """With files of these sizes; `0_log` is 0.log."""
    place = top / f"agents_sandbox-alice_{uid}" / name
    place.mkdir(parents=True, exist_ok=True)
    for file, size in {"0_log": 10, **files}.items():
        (place / file.replace("_log", ".log")).write_bytes(b"x" * size)
    return place


def test_files_are_summed_and_those_that_were_rotated_counted(tmp_path: Path) -> None:
    container(tmp_path, **{"1_log": 20, ROTATED: 100, f"{ROTATED}.gz": 5})
    container(tmp_path, "beside")
    container(tmp_path, uid=OTHER)
    assert Logs(tmp_path).of(POD) == {
        "containers": {"agent": {"bytes": 135, "rotated": 2}, "beside": {"bytes": 10, "rotated": 0}},
        "rotates": True,
    }


@pytest.mark.parametrize("name", ["0.log", "0.log.1", "0.log.20260101", f"x{ROTATED}", f"{ROTATED}.gz.tmp", "a\nb"])
def test_what_is_called_otherwise_was_not_rotated_by_the_kubelet(tmp_path: Path, name: str) -> None:
    (container(tmp_path) / name).touch()
    found = Logs(tmp_path).of(POD)
    assert found is not None
    assert found["rotates"] is False


def test_what_another_pod_shows_of_the_node_counts_and_is_looked_for_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    looked = Logs(tmp_path, clock)
    container(tmp_path)

    def rotates() -> bool:
        found = looked.of(POD)
        assert found is not None
        return bool(found["rotates"])

    assert not rotates()
    other = container(tmp_path, uid=OTHER, **{ROTATED: 1})
    assert not rotates()
    clock.now += 1000
    assert rotates()
    # What shows it no more does so no more.
    (other / ROTATED).unlink()
    clock.now += 1000
    assert not rotates()


def test_what_is_no_plain_file_says_nothing(tmp_path: Path) -> None:
    place = container(tmp_path)
    other = place / "1.log"
    os.mkfifo(other)
    assert Logs(tmp_path).of(POD) is None
    other.unlink()
    other.symlink_to("/dev/zero")
    assert Logs(tmp_path).of(POD) is None
    other.unlink()
    assert Logs(tmp_path).of(POD) is not None


def test_ever_so_much_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MOST_FILES", 8)
    place = container(tmp_path)
    for number in range(8):
        (place / f"{number}x").touch()
    assert Logs(tmp_path).of(POD) is None
    monkeypatch.undo()
    for number in range(MOST_CONTAINERS + 1):
        container(tmp_path, f"c{number}")
    assert Logs(tmp_path).of(POD) is None


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert Logs(tmp_path / "elsewhere").of(POD) is None
    found = Logs(tmp_path).of(POD)
    # The container's own is missing then, and its judge says so.
    assert found == {"containers": {}, "rotates": False}
    # A link in a pod's place may lead anywhere.
    container(tmp_path / "elsewhere")
    (tmp_path / f"agents_sandbox-alice_{POD}").symlink_to(tmp_path / "elsewhere" / f"agents_sandbox-alice_{POD}")
    assert Logs(tmp_path).of(POD) == {"containers": {}, "rotates": False}


def document(**fields: Any) -> bytes:
    told = {"version": 1, "pod": POD, "systemFiles": [], "mapsAreTheHosts": True, "whole": True, "containers": []}
    return json.dumps({**told, **fields}).encode()


def logged(size: Any, rotated: Any = 0, rotates: Any = True) -> dict[str, Any]:
    return {"logs": {"containers": {"agent": {"bytes": size, "rotated": rotated}}, "rotates": rotates}}


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        (0, LEAST_KEPT),
        (LEAST_KEPT, LEAST_KEPT),
        (LEAST_KEPT + 1, 2 * LEAST_KEPT),
        *((1 << 30, 1 << 30), (3 << 30, 4 << 30)),
    ],
)
def test_sizes_are_rounded_up_so_that_who_writes_changes_little(size: int, kept: int) -> None:
    found = read(document(**logged(size, 2)), POD)
    assert found.logs is not None
    assert found.logs.containers == {"agent": KeptLog(kept, rotated=True)}


def test_an_agent_of_an_earlier_version_tells_neither() -> None:
    found = read(document(), POD)
    assert (found.listeners, found.logs) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        logged(-1), logged(True), logged("1"), logged(1, -1), logged(1, rotates="yes"),
        {"logs": []}, {"logs": {"containers": [], "rotates": True}},
        {"logs": {"containers": {f"c{one}": {"bytes": 1, "rotated": 0} for one in range(65)}, "rotates": True}},
        {"listeners": [["tcp", 0, "::"]]}, {"listeners": [["tcp", 1 << 16, "::"]]},
        {"listeners": [["tcp", True, "::"]]},
        {"listeners": [["sctp", 22, "::"]]}, {"listeners": [["tcp", 22, "\x1b[m"]]}, {"listeners": [["tcp", 22]]},
        {"listeners": {}}, {"listeners": [["tcp", port, "::"] for port in range(1, 67)]},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_taken_for_none(fields: dict[str, Any]) -> None:
    with pytest.raises(MisunderstoodError):
        read(document(**fields), POD)
