"""A real control plane's whole life, through the command a person uses, judged by /proc, the kernel and kubectl."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.localcluster.locks import locked

pytestmark = pytest.mark.controlplane

FAST = "--unsafe-no-fsync"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state directory of the test's own; whatever runs from it at the end is a failure, and is ended."""
    yield tmp_path
    for entry in (tmp_path / "claude-sandbox" / "clusters").glob("*"):
        command(tmp_path, "down", "--name", entry.name)
    left = processes(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}


def command(home: Path, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """`claude-sandbox cluster …` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "claude_sandbox.cli.main", "cluster", *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(home)}, capture_output=True, text=True, check=check, timeout=240,
    )  # fmt: skip


def up(home: Path, *arguments: str) -> dict[str, Any]:
    """Bring a cluster up and return its status."""
    result = command(home, "up", FAST, *arguments)
    assert result.returncode == 0, result.stderr
    return status(home, *_named(arguments))


def _named(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return arguments[arguments.index("--name") :][:2] if "--name" in arguments else ()


def status(home: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(home, "status", "-o", "json", *arguments).stdout)
    return found


def pids(found: dict[str, Any]) -> dict[str, int]:
    return {component["name"]: component["pid"] for component in found["components"]}


def endpoints(found: dict[str, Any]) -> dict[str, str]:
    return {component["name"]: component["endpoint"] for component in found["components"]}


def processes(home: Path) -> dict[int, str]:
    """What runs with this directory in its arguments: seen from /proc, without the code under test."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(home).encode() in arguments:
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode()
    return found


def kubectl(found: dict[str, Any], *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "--kubeconfig", found["kubeconfig"], *arguments],
        input=stdin, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_up_again_changes_nothing_and_down_leaves_nothing(home: Path) -> None:
    copy = home / "kubeconfig"
    first = up(home, "--controllers", "--kubeconfig", str(copy))
    assert first["healthy"]
    assert list(pids(first)) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    written = {path: path.read_bytes() for path in (home / "claude-sandbox").rglob("*.*") if path.suffix != ".log"}
    written = {path: data for path, data in written.items() if "/etcd/" not in str(path)}
    assert up(home, "--controllers", "--kubeconfig", str(copy)) == first
    assert {path: path.read_bytes() for path in written} == written
    assert kubectl({"kubeconfig": str(copy)}, "get", "namespace", "default").returncode == 0
    assert command(home, "status").returncode == 0

    assert command(home, "down").returncode == 0
    assert files(home) == []
    assert processes(home) == {}
    assert command(home, "down").returncode == 0
    assert command(home, "status").returncode == 1
    assert files(home) == []


def test_two_clusters_stand_side_by_side_and_fall_alone(home: Path) -> None:
    one, other = up(home, "--name", "one"), up(home, "--name", "other")
    assert not set(endpoints(one).values()) & set(endpoints(other).values())
    assert kubectl(one, "create", "namespace", "only-here").returncode == 0
    assert "NotFound" in kubectl(other, "get", "namespace", "only-here").stderr
    # Neither trusts the other's certificates.
    stranger = kubectl(one, "--server", other["server"], "get", "namespaces")
    assert "certificate" in stranger.stderr
    assert command(home, "down", "--name", "one").returncode == 0
    assert status(home, "--name", "other") == other


@pytest.mark.parametrize(
    "component",
    [
        "etcd",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ),
    ],
)
def test_a_component_that_was_killed_is_seen_and_brought_back_with_its_data(home: Path, component: str) -> None:
    before = up(home, "--controllers")
    assert kubectl(before, "create", "namespace", "kept").returncode == 0
    os.kill(pids(before)[component], signal.SIGKILL)
    until(lambda: pids(status(home))[component] is None)
    seen = command(home, "status")
    assert seen.returncode == 1
    assert "cluster up" in seen.stderr

    after = up(home)
    assert after["healthy"]
    assert endpoints(after) == endpoints(before)
    assert {name for name, pid in pids(after).items() if pid != pids(before)[name]} == {component}
    assert kubectl(after, "get", "namespace", "kept").returncode == 0


def test_all_killed_at_once_come_back_with_their_data(home: Path) -> None:
    before = up(home)
    assert kubectl(before, "create", "namespace", "kept").returncode == 0
    for pid in pids(before).values():
        os.kill(pid, signal.SIGKILL)
    assert up(home)["healthy"]
    assert kubectl(before, "get", "namespace", "kept").returncode == 0


@pytest.mark.parametrize("moment", ["cluster.json", "pki/ca.crt", "run/etcd.json", "run/kube-apiserver.json"])
@pytest.mark.parametrize("then", ["up", "down"])
def test_an_up_that_was_killed_at_any_moment_is_finished_or_undone(home: Path, moment: str, then: str) -> None:
    root = home / "claude-sandbox" / "clusters" / "default"
    starting = subprocess.Popen(
        [sys.executable, "-m", "claude_sandbox.cli.main", "cluster", "up", FAST],
        env={**os.environ, "XDG_STATE_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until((root / moment).exists)
    starting.kill()
    starting.wait()
    if then == "up":
        assert up(home)["healthy"]
    assert command(home, "down").returncode == 0
    assert files(home) == []
    assert processes(home) == {}


def test_a_process_whose_record_a_crash_prevented_is_ended_by_down(home: Path) -> None:
    found = up(home)
    (home / "claude-sandbox/clusters/default/run/kube-apiserver.json").unlink()
    assert command(home, "down").returncode == 0
    assert processes(home) == {}
    assert not Path(f"/proc/{pids(found)['etcd']}/exe").exists()


def test_remains_without_a_record_are_cleared_before_a_new_cluster(home: Path) -> None:
    found = up(home)
    assert kubectl(found, "create", "namespace", "of-the-old-one").returncode == 0
    (home / "claude-sandbox/clusters/default/cluster.json").unlink()
    again = up(home)
    assert again["healthy"]
    assert not set(pids(found).values()) & set(pids(again).values())
    assert "NotFound" in kubectl(again, "get", "namespace", "of-the-old-one").stderr


def test_after_a_reboot_old_process_ids_mean_nothing(home: Path) -> None:
    before = up(home)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            for name in ("etcd", "kube-apiserver"):
                record = home / f"claude-sandbox/clusters/default/run/{name}.json"
                document = json.loads(record.read_text())
                os.kill(document["process"]["pid"], signal.SIGKILL)
                # As if the machine had been started anew, and another process had been given that id.
                document["process"] |= {"boot": "of another day", "pid": stranger.pid}
                record.write_text(json.dumps(document))
            assert [component["pid"] for component in status(home)["components"]] == [None, None]
            after = up(home)
            assert after["healthy"]
            assert endpoints(after) == endpoints(before)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_taken_port_is_named_and_nothing_is_left_behind(home: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        result = command(home, "up", FAST, "--port", str(port))
    assert result.returncode == 1
    assert f"Error: Port {port}" in result.stderr
    assert "Remedy: " in result.stderr
    assert files(home) == []


def test_a_chosen_port_is_used(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert up(home, "--port", str(port))["server"] == f"https://127.0.0.1:{port}"


def test_a_port_lost_to_another_while_down_is_named(home: Path) -> None:
    before = up(home)
    os.kill(pids(before)["kube-apiserver"], signal.SIGKILL)
    port = int(before["server"].rpartition(":")[2])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: _bound(thief, port))
        thief.listen()
        assert command(home, "status").returncode == 1
        result = command(home, "up", FAST)
        assert result.returncode == 1
        assert f"127.0.0.1:{port} is taken" in result.stderr
    assert up(home)["healthy"]


def _bound(server: socket.socket, port: int) -> bool:
    try:
        server.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_an_up_waits_for_another_command_on_the_same_cluster_and_says_so(home: Path) -> None:
    with locked(home / "claude-sandbox/clusters/default"):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "claude_sandbox.cli.main", "cluster", "up", FAST],
            env={**os.environ, "XDG_STATE_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr is not None
        assert "Waiting for another command" in waiting.stderr.readline()
        assert processes(home) == {}
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert status(home)["healthy"]


def test_a_component_that_can_not_start_shows_the_end_of_its_log(home: Path) -> None:
    up(home)
    root = home / "claude-sandbox/clusters/default"
    command(home, "status")
    for component in ("etcd", "kube-apiserver"):
        os.kill(json.loads((root / f"run/{component}.json").read_text())["process"]["pid"], signal.SIGKILL)
    for wal in (root / "etcd/member/wal").glob("*.wal"):
        wal.write_bytes(b"\xff" * 4096)
    result = command(home, "up", FAST)
    assert result.returncode == 1
    assert "etcd ended at its start" in result.stderr
    assert "etcd.log" in result.stderr
    assert "cluster down" in result.stderr


def test_logs_show_one_component_or_all_and_follow_until_the_cluster_is_gone(home: Path) -> None:
    up(home)
    all_lines = command(home, "logs", "--tail", "-1").stdout.splitlines()
    assert {line.partition(":")[0] for line in all_lines} == {"etcd", "kube-apiserver"}
    assert len(command(home, "logs", "etcd", "--tail", "3").stdout.splitlines()) == 3
    unknown = command(home, "logs", "kubelet")
    assert unknown.returncode == 1
    assert "etcd, kube-apiserver" in unknown.stderr

    following = subprocess.Popen(
        [sys.executable, "-m", "claude_sandbox.cli.main", "cluster", "logs", "etcd", "-f", "--tail", "1"],
        env={**os.environ, "XDG_STATE_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    assert following.stdout.readline()
    with (home / "claude-sandbox/clusters/default/logs/etcd.log").open("a") as log:
        log.write("a line of today\n")
    assert "a line of today\n" in iter(following.stdout.readline, "")
    assert command(home, "down").returncode == 0
    following.communicate(timeout=30)
    assert following.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["up", "--name", "Not/OK"], 1, "Not/OK"),
        (["up", "--kubernetes-version", "1.12"], 2, "1.34"),
        (["up", "--port", "70000"], 2, "65535"),
        (["status", "--name", "missing"], 1, "cluster up --name missing"),
        (["logs", "--name", "missing"], 1, "missing"),
        (["kubectl", "--name", "missing", "get", "pods"], 1, "missing"),
    ],
)
def test_what_can_not_be_done_is_said_with_the_remedy(home: Path, arguments: list[str], code: int, named: str) -> None:
    result = command(home, *arguments)
    assert result.returncode == code
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert processes(home) == {}


def test_a_state_directory_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    result = command(tmp_path / "a-file", "up", FAST)
    assert result.returncode == 1
    assert str(tmp_path / "a-file") in result.stderr
    assert "Remedy: " in result.stderr
    assert "Traceback" not in result.stderr
