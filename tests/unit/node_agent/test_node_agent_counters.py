"""What control groups have counted is read of either version, and of this machine's own."""

from pathlib import Path

import pytest

from claude_sandbox.node_agent.cgroups import Kubelets
from claude_sandbox.procfs.counters import Counters, counters

POD = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
AGENT = "a" * 64


def written(place: Path, **files: str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(content)
    return place


def test_of_version_2_one_directory_tells_all(tmp_path: Path) -> None:
    written(tmp_path, cgroup__controllers="cpu memory pids\n")
    pod = written(tmp_path / f"kubepods/burstable/pod{POD}", pids__events="max 4\n")
    written(
        pod / AGENT,
        cpu__stat="usage_usec 7000001\nuser_usec 5\nnr_periods 10\nnr_throttled 3\n",
        memory__events="low 0\noom 2\noom_kill 1\n",
        pids__events="max 0\n",
    )
    whole, agent = Kubelets(tmp_path).groups(POD)
    assert agent.counters() == Counters(7000001, 1, 0, 10, 3)
    # The limit of processes is the pod's.
    assert whole.counters() == Counters(refused=4)


def test_of_version_1_each_hierarchy_tells_its_own(tmp_path: Path) -> None:
    for hierarchy, name, content in (
        ("cpuacct", "cpuacct.usage", "7000001999\n"),
        ("cpu", "cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5\n"),
        ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ("pids", "pids.events", "max 4\n"),
    ):
        written(tmp_path / hierarchy / f"kubepods/pod{POD}" / AGENT).joinpath(name).write_text(content)
    _, agent = Kubelets(tmp_path).groups(POD)
    assert agent.counters() == Counters(7000001, 1, 4, 10, 3)


@pytest.mark.parametrize("content", ["", "usage_usec\n", "usage_usec many\n", "\xff\n"])
def test_what_can_t_be_read_is_not_told(tmp_path: Path, content: str) -> None:
    assert counters([written(tmp_path, cpu__stat=content), tmp_path / "gone"]) == Counters()
