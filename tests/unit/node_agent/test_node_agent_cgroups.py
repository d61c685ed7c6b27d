"""Where a pod's processes are found among control groups, of both drivers and versions; and what can't forge it."""

import math
from pathlib import Path

import pytest

from claude_sandbox.node_agent.cgroups import UID, Group, Kubelets

POD = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
OTHER = "11111111-2222-3333-4444-555555555555"
AGENT, PAUSE = "a" * 64, "b" * 64


def group(place: Path, *pids: int, **limits: str) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for name, value in limits.items():
        (place / name.replace("__", ".")).write_text(f"{value}\n")
    return place


def version_2(top: Path) -> Path:
    top.mkdir(exist_ok=True)
    (top / "cgroup.controllers").write_text("cpu memory pids\n")
    return top


def found(top: Path, uid: str = POD) -> dict[str, Group]:
    return {one.container: one for one in Kubelets(top).groups(uid)}


SYSTEMD = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("pod", "agent", "pause"),
    [
        (f"kubepods/pod{POD}", AGENT, PAUSE),
        (f"kubepods/burstable/pod{POD}", AGENT, PAUSE),
        (f"node/kubepods/besteffort/pod{POD}", AGENT, PAUSE),
        (
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SYSTEMD}.slice",
            f"cri-containerd-{AGENT}.scope",
            f"cri-containerd-{PAUSE}.scope",
        ),
        (f"kubepods.slice/kubepods-pod{SYSTEMD}.slice", f"crio-{AGENT}.scope", f"crio-{PAUSE}.scope"),
        (
            f"docker/x/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SYSTEMD}.slice",
            f"cri-containerd-{AGENT}.scope",
            f"cri-containerd-{PAUSE}.scope",
        ),
    ],
)
def test_a_pod_is_found_in_each_drivers_place(tmp_path: Path, pod: str, agent: str, pause: str) -> None:
    top = version_2(tmp_path)
    group(top / pod)
    group(top / pod / agent, 10, 11)
    group(top / pod / agent / "inner", 12)
    group(top / pod / pause, 20)
    groups = found(top)
    assert {name: one.processes() for name, one in groups.items()} == {"": set(), AGENT: {10, 11, 12}, PAUSE: {20}}
    assert found(top, OTHER) == {}


def test_of_version_1_all_hierarchies_count(tmp_path: Path) -> None:
    for hierarchy, pid in (("pids", 10), ("memory", 11), ("cpu", 12)):
        group(tmp_path / hierarchy / "kubepods" / f"pod{POD}")
        group(tmp_path / hierarchy / "kubepods" / f"pod{POD}" / AGENT, 1, pid)
    pod = f"kubepods/pod{POD}"
    group(tmp_path / "memory" / pod / AGENT, 1, 11, memory__limit_in_bytes="1024")
    group(tmp_path / "cpu" / pod / AGENT, 1, 12, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    group(tmp_path / "pids" / pod, pids__max="512")
    agent = found(tmp_path)[AGENT]
    assert agent.processes() == {1, 10, 11, 12}
    assert vars(agent.limits) == {"memory": 1024, "cpus": 0.5, "processes": 512}


def test_the_least_limit_of_the_container_and_its_pod_counts(tmp_path: Path) -> None:
    top = version_2(tmp_path)
    group(top / "kubepods", memory__max="7")
    pod = group(top / f"kubepods/pod{POD}", memory__max="4096", pids__max="max", cpu__max="max 100000")
    group(pod / AGENT, 1, memory__max="max", pids__max="max", cpu__max="200000 100000")
    assert vars(found(top)[AGENT].limits) == {"memory": 4096, "cpus": 2, "processes": math.inf}


def test_who_is_in_a_container_is_nowhere_else_whatever_it_calls_its_groups(tmp_path: Path) -> None:
    """One that may make groups, in another pod, makes them look like this pod's."""
    top = version_2(tmp_path)
    theirs = group(top / f"kubepods/pod{OTHER}/{PAUSE}", 1)
    group(theirs / "kubepods")
    group(theirs / f"kubepods/pod{POD}/{AGENT}", 2)
    group(theirs / f"pod{POD}/{AGENT}", 3)
    assert found(top) == {}
    group(top / f"kubepods/burstable/pod{POD}/{AGENT}", 10)
    assert found(top)[AGENT].processes() == {10}
    # And its own container's remain its own.
    assert found(top, OTHER)[PAUSE].processes() == {1, 2, 3}


def test_what_is_in_no_container_is_told_apart(tmp_path: Path) -> None:
    top = version_2(tmp_path)
    pod = group(top / f"kubepods/pod{POD}", 5)
    group(pod / AGENT, 10)
    group(pod / "somebody", 6)
    group(pod / f"crio-conmon-{AGENT}.scope", 7)
    assert {name: one.processes() for name, one in found(top).items()} == {"": {5, 6}, AGENT: {10}}


def test_a_pod_that_comes_later_is_found(tmp_path: Path) -> None:
    kubelets = Kubelets(version_2(tmp_path))
    assert kubelets.groups(POD) == ()
    group(tmp_path / f"kubepods/pod{POD}/{AGENT}", 10)
    assert [one.container for one in kubelets.groups(POD)] == ["", AGENT]


@pytest.mark.parametrize("uid", [POD, "0123456789abcdef0123456789abcdef"])
def test_uids_of_pods(uid: str) -> None:
    assert UID.fullmatch(uid)


@pytest.mark.parametrize("uid", ["", "..", "../" + POD, POD + "/", POD.upper(), POD + "\n", "*", POD[:-1]])
def test_what_is_no_uid(uid: str) -> None:
    assert not UID.fullmatch(uid)
