"""What is told of a pod that is about to be ended: of this machine's own processes, and within its bounds."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.backends.containment import packed
from claude_sandbox.backends.kubernetes.node_agents.answers import MisunderstoodError
from claude_sandbox.backends.kubernetes.node_agents.told_evidence import PROCESSES, evidence_in
from claude_sandbox.node_agent import LARGEST, MOST_CONTAINERS, MOST_NETWORKS
from claude_sandbox.node_agent import evidence as module
from claude_sandbox.node_agent.cgroups import Kubelets
from claude_sandbox.node_agent.evidence import evidence
from claude_sandbox.procfs.files import PROC

POD = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
AGENT = "a" * 64
SECRET = "sk-ant-" + "not-a-real-key-1"
SLEEPS = "import time; print(1, flush=True); time.sleep(600)"


def group(top: Path, *pids: int, **files: str) -> Kubelets:
    place = top / f"kubepods/pod{POD}" / AGENT
    place.mkdir(parents=True)
    (top / "cgroup.controllers").touch()
    (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(content)
    return Kubelets(top)


@contextmanager
def sleeping(*arguments: str, script: str = SLEEPS) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def told(kubelets: Kubelets, proc: Path = PROC, most: int = LARGEST) -> tuple[dict[str, bytes], list[str]]:
    answer = json.dumps(evidence(POD, kubelets, proc, most)).encode()
    assert len(answer) <= most + 200
    found = evidence_in(answer, POD)
    return found.files, found.missing


def test_processes_are_told_as_the_kernel_has_them_without_credentials_among_their_arguments(tmp_path: Path) -> None:
    with sleeping("--to", "192.0.2.1") as first, sleeping("--api-key", SECRET) as second:
        files, missing = told(group(tmp_path, first, second, pids__current="2\n", memory__current="4096\n"))
    one, other = (json.loads(line) for line in files[PROCESSES].splitlines())
    assert (one["pid"], one["parent"], one["container"], one["state"]) == (first, os.getpid(), AGENT, "S")
    assert (one["user"], one["group"]) == (os.getuid(), os.getgid())
    assert one["command"] == [sys.executable, "-c", SLEEPS, "--to", "192.0.2.1"]
    assert other["command"] == [sys.executable, "[redacted]"]
    assert SECRET.encode() not in b"".join(files.values())
    assert json.loads(files["node/groups.json"])[AGENT] == {"pids.current": "2\n", "memory.current": "4096\n"}
    assert b" /proc " in files["node/mounts.json"]
    assert missing == []


CONNECTED = """
import socket, sys, time
one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(1, flush=True); time.sleep(600)
"""


def test_what_is_open_in_its_network_is_told_and_nothing_of_the_nodes_own(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        sleeping(str(server.getsockname()[1]), script=CONNECTED) as pid,
    ):
        port = f":{server.getsockname()[1]:04X} ".encode()
        kubelets = group(tmp_path, pid)
        # For this test the node's first process is one of another network: there is none.
        proc = tmp_path / "proc"
        proc.mkdir()
        for name in (str(pid), "uptime"):
            (proc / name).symlink_to(PROC / name)
        files, _ = told(kubelets, proc)
        assert port in files["node/net-0/tcp"]
        assert "node/net-1/tcp" not in files
        (proc / "1").symlink_to(PROC / str(pid))
        assert not any(name.startswith("node/net") for name in told(kubelets, proc)[0])


def test_of_more_than_there_is_room_or_time_for_the_rest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sleeping("x" * 4000) as pid:
        kubelets = group(tmp_path, pid)
        files, missing = told(kubelets, most=4096)
        assert files[PROCESSES] == b""
        assert "processes: 1 of 1" in missing
        monkeypatch.setattr(module, "TIME", -1)
        assert "processes: 1 of 1" in told(kubelets)[1]


def test_who_has_ended_is_not_told(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        files, missing = told(group(tmp_path, ended.pid))
    assert (files[PROCESSES], missing) == (b"", [])


@pytest.mark.parametrize(
    "answer",
    [
        "[]", "{}", "nothing",
        '{"version": 1, "pod": "another", "processes": [], "networks": [], "groups": {}, "mounts": {}, "missing": []}',
        f'{{"version": 1, "pod": "{POD}", "processes": [1], "networks": [], "groups": 1, "mounts": 1, "missing": []}}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(answer: str) -> None:
    with pytest.raises(MisunderstoodError):
        evidence_in(answer.encode(), POD)


NOTHING = {"version": 1, "pod": POD, "processes": [], "groups": {}, "mounts": {}, "missing": [], "networks": []}


def test_no_file_has_a_name_that_an_agent_chose() -> None:
    network = {"tcp": "", "../../etc/passwd": "", "unix": ""}
    assert evidence_in(json.dumps({**NOTHING, "networks": [network]}).encode(), POD).files.keys() == {
        *(PROCESSES, "node/net-0/tcp", "node/net-0/unix", "node/groups.json", "node/mounts.json")
    }


def nested(depth: int) -> Any:
    found: Any = [0] * 100
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "told",
    [
        {"groups": {AGENT: {"pids.max": nested(200)}}},
        {"groups": {AGENT: nested(200)}},
        {"groups": nested(200)},
        {"mounts": {AGENT: nested(200)}},
    ],
)
def test_what_would_grow_by_being_written_down_is_no_answer(told: Any) -> None:
    with pytest.raises(MisunderstoodError):
        evidence_in(json.dumps(NOTHING | told).encode(), POD)


def test_arguments_beyond_what_is_looked_through_are_not_kept() -> None:
    key = "sk-ant-api03-" + "k" * 90
    many = [{"pid": number, "command": ["sh", "y " * 2000]} for number in range(70)]
    found = evidence_in(json.dumps(NOTHING | {"processes": [*many, {"pid": 99, "command": ["z", key]}]}).encode(), POD)
    rows = [json.loads(line) for line in found.files[PROCESSES].splitlines()]
    assert (rows[0]["command"][0], rows[-1]) == ("sh", {"pid": 99, "command": ["[not looked through]"]})
    assert key.encode() not in found.files[PROCESSES]
    assert found.missing == ["processes' arguments beyond 256 KiB"]


def test_of_an_agent_that_says_too_much_is_kept_what_a_pod_can_have_and_all_of_it_can_be_kept() -> None:
    many = {
        "networks": [{"tcp": "a"}] * 5000,
        "groups": {str(number): {"pids.max": "max"} for number in range(5000)},
        "missing": ["\ud800\n" + "x" * 10000] * 5000,
    }
    found = evidence_in(json.dumps(NOTHING | many).encode(), POD)
    assert len(found.files) == MOST_NETWORKS + 3
    assert len(json.loads(found.files["node/groups.json"])) == MOST_CONTAINERS
    assert max(map(len, found.missing)) <= 120
    # As it goes into an archive: half of a pair has no bytes.
    assert len(packed(found, datetime(2026, 12, 1, tzinfo=UTC)).content) < 1 << 20
