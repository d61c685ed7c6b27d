"""What a node changes of the machine, and that it is put back."""

import contextlib
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.node import cgroups, namespaces, settings
from claude_sandbox.localcluster.node.network import resolve

needs_cgroups = pytest.mark.skipif(
    not os.access("/sys/fs/cgroup", os.W_OK) or os.geteuid() != 0, reason="control groups can only be made by root"
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /proc/sys."""
    sysctl = tmp_path / "sys"
    for name, value in {"vm/overcommit_memory": "0", "net/ipv4/ip_forward": "0", "kernel/panic": "5"}.items():
        (sysctl / name).parent.mkdir(parents=True, exist_ok=True)
        (sysctl / name).write_text(value + "\n")
    instances = sysctl / "fs/inotify/max_user_instances"
    instances.parent.mkdir(parents=True)
    instances.write_text("128\n")
    monkeypatch.setattr(settings, "_SYSCTL", sysctl)
    monkeypatch.setattr(settings, "_DIRECTORY", tmp_path / "run/machine")
    monkeypatch.setattr(settings, "RUN", tmp_path / "run")
    return sysctl


def _values(sysctl: Path) -> dict[str, str]:
    return {str(file.relative_to(sysctl)): file.read_text().strip() for file in sysctl.rglob("*") if file.is_file()}


@pytest.mark.parametrize("order", list(itertools.permutations(["a", "b", "c"])))
def test_the_last_node_puts_back_what_the_first_found(machine: Path, order: tuple[str, ...]) -> None:
    before = _values(machine)
    for node in "abc":
        settings.prepare(node)
        # As the kubelet does.
        (machine / "vm/overcommit_memory").write_text("1\n")
    for node in order[:-1]:
        settings.restore(node)
        settings.restore(node)
        assert (machine / "net/ipv4/ip_forward").read_text().strip() == "1"
    settings.restore(order[-1])
    assert _values(machine) == before
    assert not (machine.parent / "run").exists()


def test_a_node_that_was_prepared_twice_leaves_once(machine: Path) -> None:
    before = _values(machine)
    settings.prepare("a")
    settings.prepare("a")
    settings.restore("a")
    assert _values(machine) == before


def test_a_generous_machine_is_not_made_poorer(machine: Path) -> None:
    (machine / "fs/inotify/max_user_instances").write_text("8192\n")
    settings.prepare("a")
    assert (machine / "fs/inotify/max_user_instances").read_text().strip() == "8192"


@needs_cgroups
@pytest.mark.parametrize("mount", ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"])
def test_all_that_runs_in_a_group_ends_with_it(mount: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(mount).is_dir():
        pytest.skip(f"{mount} is not there on this machine")
    monkeypatch.setattr(cgroups, "_MOUNT", Path(mount))
    name = f"claude-sandbox-test-{os.getpid()}"
    cgroups.make(name)
    try:
        cgroups.make(name)
        groups = [group for group in (Path(mount) / name, *Path(mount).glob(f"*/{name}")) if group.is_dir()]
        assert groups
        inner = [group / "pod" for group in groups]
        for group in inner:
            group.mkdir()
            _inherit_cpuset(group)
        with subprocess.Popen(["sleep", "600"]) as process:
            for group in inner:
                (group / "cgroup.procs").write_text(str(process.pid))
            cgroups.end(name)
            assert process.wait(10) == -9
        assert not any(group.exists() for group in groups)
    finally:
        cgroups.end(name)


def _inherit_cpuset(group: Path) -> None:
    for file in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            (group / file).write_text((group.parent / file).read_text())


def test_the_end_of_a_group_that_never_was_is_no_trouble() -> None:
    cgroups.end("claude-sandbox-test-nobody")


def test_what_the_node_needs_below_a_directory_of_its_own_is_opened_before_that_hides_it(tmp_path: Path) -> None:
    """A state directory in /var/lib: only what was opened before the mounts can still be found after them."""
    root = tmp_path / "var/lib/clusters/it's"
    script = namespaces.script({"/run": None, str(tmp_path / "var/lib"): "lib"}, Layout(root), (root,))
    lines = script.splitlines()
    first_mount = next(number for number, line in enumerate(lines) if line.startswith("mount"))
    opened = [number for number, line in enumerate(lines) if line.startswith("exec")]
    assert len(opened) == 2
    assert max(opened) < first_mount
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


@contextlib.contextmanager
def _server(answer: bytes | None) -> Iterator[tuple[str, int]]:
    """A DNS server that answers every question with its number and `answer`, or not at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))

        def serve() -> None:
            message, client = udp.recvfrom(4096)
            if answer is not None:
                udp.sendto(message[:2] + answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield udp.getsockname()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (bytes.fromhex("8180 0001 0001 0000 0000"), True),
        # NXDOMAIN, SERVFAIL with an answer all the same, and no answer without an error.
        (bytes.fromhex("8183 0001 0000 0000 0000"), False),
        (bytes.fromhex("8182 0001 0001 0000 0000"), False),
        (bytes.fromhex("8180 0001 0000 0000 0000"), False),
        (b"", False),
        (None, False),
    ],
)
def test_a_name_resolves_when_the_server_says_so(answer: bytes | None, expected: bool) -> None:
    with _server(answer) as (host, port):
        assert resolve.resolves(host, "kubernetes.default.svc.cluster.local", 0.3, port) is expected


@given(st.lists(st.from_regex(r"[a-z0-9]{1,63}", fullmatch=True), min_size=1, max_size=4), st.integers(0, 65535))
def test_a_question_holds_the_name_label_by_label(labels: list[str], number: int) -> None:
    message = resolve.question(".".join(labels), number)
    assert int.from_bytes(message[:2]) == number
    place, found = 12, []
    while length := message[place]:
        found.append(message[place + 1 : place + 1 + length].decode())
        place += 1 + length
    assert found == labels
    assert message[place + 1 :] == bytes([0, 1, 0, 1])
