"""What is told of processes: of this machine's own, as the kernel has them; and of what the kernel might say."""

import json
import math
import os
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.backends.kubernetes.node_agents.answers import read as read_answer
from claude_sandbox.compliance.evidence import mountinfo
from claude_sandbox.compliance.evidence import process as evidence
from claude_sandbox.node_agent import MOST_KINDS, answers
from claude_sandbox.node_agent.answers import answer
from claude_sandbox.node_agent.cgroups import Kubelets
from claude_sandbox.node_agent.processes import GoneError, mounts, read, seconds
from claude_sandbox.procfs.files import PROC

POD = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
AGENT = "a" * 64
SECRET = "sk-ant-not-a-real-key"


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Three processes that are the same, but for what must not be told: their names, arguments and environment."""
    script = f"open('/proc/self/comm', 'w').write('{SECRET[:15]}'); print(1, flush=True); import time; time.sleep(600)"
    command = [sys.executable, "-c", script, SECRET]
    started = [subprocess.Popen(command, env={"KEY": SECRET}, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for one in started:
            assert one.stdout is not None
            one.stdout.readline()
        yield [one.pid for one in started]
    finally:
        for one in started:
            one.kill()
            one.communicate()


def group(top: Path, *pids: int, container: str = AGENT) -> Kubelets:
    place = top / f"kubepods/pod{POD}" / container
    place.mkdir(parents=True, exist_ok=True)
    (top / "cgroup.controllers").touch()
    (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return Kubelets(top)


def test_processes_that_are_the_same_are_told_once_and_nothing_of_what_they_hold(
    tmp_path: Path, sleepers: list[int]
) -> None:
    text = json.dumps(answer(POD, group(tmp_path, *sleepers), PROC)).encode()
    found = read_answer(text, POD)
    (kind,) = found.containers[1].kinds
    assert (kind.count, found.containers[1].identifier, found.whole) == (3, AGENT, True)
    assert SECRET[:15] not in text.decode()
    assert "environ" not in text.decode()
    status = (PROC / str(sleepers[0]) / "status").read_text()
    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert kind.process.fields["CapBnd"] == lines["CapBnd"]
    assert kind.process.fields.keys() == {
        *("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    }
    assert kind.process.mounts
    assert kind.process.namespaces.keys() == {"pid", "net"}


def test_each_kind_of_process_is_told(tmp_path: Path, sleepers: list[int]) -> None:
    limited = subprocess.Popen(["sh", "-c", "ulimit -n 64; echo; sleep 600 & wait"], stdout=subprocess.PIPE)
    assert limited.stdout is not None
    limited.stdout.readline()
    try:
        found = answer(POD, group(tmp_path, *sleepers, limited.pid), PROC)
    finally:
        limited.kill()
    (_, container) = found["containers"]
    assert {(one["openFiles"], one["count"]) for one in container["processes"]} >= {(64, 1)}
    assert sum(one["count"] for one in container["processes"]) == 4


def test_who_has_ended_is_not_told(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        # Not waited for yet: a zombie, or on its way to become one.
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(GoneError):
            read(ended.pid, PROC)
    with pytest.raises(GoneError):
        seconds(ended.pid, PROC)
    found = answer(POD, group(tmp_path, ended.pid), PROC)
    assert [one["processes"] for one in found["containers"]] == [[], []]
    assert found["whole"] is True


THREADED = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


def test_who_goes_on_when_its_first_thread_has_ended_is_told(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", THREADED]) as going_on:
        try:
            place = PROC / str(going_on.pid)
            while "State:\tZ" not in (place / "status").read_text():
                assert going_on.poll() is None
            found = read_answer(json.dumps(answer(POD, group(tmp_path, going_on.pid), PROC)).encode(), POD)
        finally:
            going_on.kill()
    (kind,) = found.containers[1].kinds
    assert (kind.count, kind.process.fields["Seccomp"]) == (1, own_status()["Seccomp"])
    # Of which the kernel tells nothing but by a thread that is there.
    assert kind.process.mounts
    assert kind.process.namespaces.keys() == {"pid", "net"}


def own_status() -> dict[str, str]:
    lines = (PROC / "self/status").read_text().splitlines()
    return {name: value for name, _, value in (line.partition(":\t") for line in lines)}


def test_ever_so_many_kinds_are_too_many_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = read(os.getpid(), PROC)
    monkeypatch.setattr(answers, "read", lambda pid, _: type(template)(**{**vars(template), "open_files": float(pid)}))
    monkeypatch.setattr(answers, "seconds", lambda _pid, _proc: 100.0)
    found = answer(POD, group(tmp_path, *range(100_000, 100_000 + MOST_KINDS + 1)), PROC)
    container = found["containers"][1]
    assert (len(container["processes"]), container["whole"]) == (MOST_KINDS, False)


def test_what_of_a_process_is_not_understood_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(_pid: int, _proc: Path) -> None:
        raise ValueError("nonsense")

    monkeypatch.setattr(answers, "read", nonsense)
    assert answer(POD, group(tmp_path, 100_000), PROC)["containers"][1]["whole"] is False


def test_how_long_a_process_is_there_whatever_it_is_called(tmp_path: Path) -> None:
    place = tmp_path / "7"
    place.mkdir()
    ticks = os.sysconf("SC_CLK_TCK")
    after = " ".join(["S", *["0"] * 18, str(90 * ticks), "0"])
    (place / "stat").write_text(f"7 (a) S 1) 2 (\xff) {after}\n")
    (tmp_path / "uptime").write_text("100.00 1.00\n")
    assert seconds(7, tmp_path) == 10


def test_the_masked_files_are_the_same_as_for_docker() -> None:
    assert answers.SYSTEM_FILES == evidence.SYSTEM_FILES


WORD = st.text(string.ascii_lowercase + "/\\0134", min_size=1, max_size=12)
OPTIONS = st.lists(
    st.sampled_from(["ro", "rw", "nosuid", "nodev", "noexec", "relatime", "size=64k", "lowerdir=/a:/b", "password=x"]),
    min_size=1,
    unique=True,
).map(",".join)
LINES = st.builds(
    "{0} 1 {1}:2 /{2} /{3} {4} {5}- {6} {7} {8}".format,
    st.integers(1, 99), st.integers(0, 99), WORD, WORD, OPTIONS, st.sampled_from(["", "shared:7 ", "master:3 "]),
    WORD, WORD, OPTIONS,
)  # fmt: skip


@given(st.lists(LINES, max_size=8))
def test_of_mounts_is_told_what_is_judged_and_no_more(lines: list[str]) -> None:
    whole = "".join(f"{line}\n" for line in lines)
    told = "".join(f"{line}\n" for line in mounts(whole))
    flags = {"ro", "rw", "nosuid", "nodev", "noexec"}
    assert [
        (one.device, one.root, one.place, one.options & flags - {"rw"}, one.shared, one.kind, one.sized, one.writable)
        for one in mountinfo.parse(whole)
    ] == [
        (one.device, one.root, one.place, one.options - {"rw"}, one.shared, one.kind, one.sized, one.writable)
        for one in mountinfo.parse(told)
    ]
    assert "password" not in told
    assert "lowerdir" not in told


@given(st.text())
def test_what_is_no_table_of_mounts_is_refused_or_understood(text: str) -> None:
    try:
        told = "".join(f"{line}\n" for line in mounts(text))
    except ValueError:
        return
    mountinfo.parse(told)


def test_no_limit_is_told_as_none(tmp_path: Path) -> None:
    kubelets = group(tmp_path, os.getppid())
    (tmp_path / f"kubepods/pod{POD}/{AGENT}/pids.max").write_text("max\n")
    found = read_answer(json.dumps(answer(POD, kubelets, PROC)).encode(), POD)
    assert {kind.process.limits.processes for kind in found.containers[1].kinds} == {math.inf}
