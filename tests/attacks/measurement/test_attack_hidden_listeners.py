"""What listens in a sandbox, hidden from whoever looks at the kernel's lists.

The kernel has one list for each network, and tells it by a process that is in it. So who listens hid in another network
than the first process', behind a process whose first thread had ended (of which the kernel tells no network), behind
thousands of listeners on addresses that nobody has, or where the list is too long to be read. Each network of every
process is looked at, each port is told once, and what can't be read whole is Unknown, never a pass.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.witness import listens
from claude_sandbox.procfs import listeners as reading
from claude_sandbox.procfs.files import PROC
from claude_sandbox.procfs.listeners import MOST_LISTENERS, Listener, listeners

HOST = PROC / "1"
ALL = "0.0.0.0"  # noqa: S104 - an address that is read
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="makes networks")


@contextmanager
def alone(script: str) -> Iterator[Path]:
    """A process in a network of its own, once it has done what the script says."""
    setting = "import ctypes, os, socket, subprocess, threading, time\n"
    command = ["unshare", "--net", sys.executable, "-c", f"{setting}{script}\nprint(1, flush=True)\ntime.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline()
            yield PROC / str(started.pid)
        finally:
            os.killpg(started.pid, 9)


EVERYBODY = 's = socket.create_server(("0.0.0.0", {port}))'


@needs_root
def test_a_listener_in_another_network_than_the_first_process_is_told() -> None:
    with alone("") as first, alone(EVERYBODY.format(port=2222)) as other:
        assert listeners([first], HOST) == ()
        assert listeners([first, other], HOST) == (Listener("tcp", 2222, ALL),)


@needs_root
def test_a_listener_of_a_process_whose_first_thread_has_ended_is_told() -> None:
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    ended = (
        f"{EVERYBODY.format(port=2222)}\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        f"print(1, flush=True); ctypes.CDLL(None).syscall({number}, 0)"
    )
    with alone(ended) as process:
        while not (process / "status").read_text().partition("State:\t")[2].startswith("Z"):
            pass
        assert not (process / "net/dev").exists()
        assert listeners([process], HOST) == (Listener("tcp", 2222, ALL),)


@needs_root
def test_what_only_the_sandbox_reaches_is_none_and_in_every_other_form_it_is_one() -> None:
    script = (
        "subprocess.run(['ip', 'link', 'set', 'lo', 'up'])\n"
        "own = [socket.create_server(('127.9.9.9', 3333)), socket.socket(socket.AF_INET6)]\n"
        "own[1].bind(('::ffff:127.0.0.1', 3334)); own[1].listen()\n"
        "asking = socket.socket(type=socket.SOCK_DGRAM); asking.bind(('0.0.0.0', 40000))\n"
        "six = socket.socket(socket.AF_INET6); six.bind(('::', 2222)); six.listen()\n"
        "server = socket.socket(type=socket.SOCK_DGRAM); server.bind(('0.0.0.0', 5353))\n"
        # An address that it hasn't: IP_FREEBIND takes no right.
        "free = socket.socket(); free.setsockopt(0, 15, 1); free.bind(('203.0.113.9', 2223)); free.listen()"
    )
    with alone(script) as process:
        assert listeners([process], HOST) == (
            Listener("tcp", 2222, "::"),
            Listener("tcp", 2223, "203.0.113.9"),
            Listener("udp", 5353, ALL),
        )


@needs_root
def test_thousands_on_declared_ports_and_addresses_of_nobody_hide_none() -> None:
    crowd = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "crowd = []\n"
        "for number in range(2000):\n"
        "    one = socket.socket(); one.setsockopt(0, 15, 1)\n"
        "    one.bind((f'10.0.{number >> 8}.{number & 255}', 8080)); one.listen(); crowd.append(one)\n"
        f"{EVERYBODY.format(port=65000)}"
    )
    with alone(crowd) as process:
        found = listeners([process], HOST)
    assert found == (Listener("tcp", 8080, "10.0.0.0"), Listener("tcp", 65000, ALL))
    assert listens(found, frozenset({8080})).result is Result.FAIL


@needs_root
def test_of_ever_so_many_ports_one_more_than_can_be_declared_is_told() -> None:
    crowd = f"crowd = [socket.create_server(('0.0.0.0', port)) for port in range(3000, {3000 + 2 * MOST_LISTENERS})]"
    with alone(crowd) as process:
        found = listeners([process], HOST)
    assert len(found) == MOST_LISTENERS + 1
    verdict = listens(found, frozenset(one.port for one in found[:MOST_LISTENERS]))
    assert verdict.result is Result.FAIL


def line(address: str, port: int, state: str = "0A", remote: str = "00000000:0000") -> str:
    return f"   0: {address}:{port:04X} {remote} {state} 00000000:00000000 00:00000000 00000000  1000 0 1 1 0 100 0\n"


def network(directory: Path, **lists: str) -> Path:
    place = directory / "net"
    place.mkdir(parents=True)
    (place / "dev").touch()
    for name in ("tcp", "udp"):
        (place / name).write_text(HEAD + lists.get(name, ""))
    return directory


def test_a_list_that_is_too_long_to_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGEST", 1 << 16)
    crowd = "".join(line("0100007F", port % 60_000 + 1) for port in range(2000))
    long = network(tmp_path / "long", tcp=crowd + line("00000000", 22))
    with pytest.raises(ValueError, match="more sockets"):
        listeners([long], None)
    with pytest.raises(ValueError, match="more sockets"):
        listeners([network(tmp_path / "udp", udp=crowd)], None)
    # Of connections there may be any number: who listens comes before them in the kernel's list.
    busy = network(tmp_path / "busy", tcp=line("00000000", 22) + line("0100007F", 5, "01", "0100007F:0006") + crowd)
    assert listeners([busy], None) == (Listener("tcp", 22, ALL),)


def test_more_networks_than_are_looked_at_are_told_apart_from_all_of_them(tmp_path: Path) -> None:
    places = [network(tmp_path / str(number)) for number in range(reading.MOST_NETWORKS + 1)]
    assert listeners(places[:-1], None) == ()
    with pytest.raises(ValueError, match="more networks"):
        listeners(places, None)


def test_where_no_process_is_left_to_tell_it_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listeners([tmp_path / "gone"], None)
    # One that goes between two looks is passed over, if another tells of a network.
    half = network(tmp_path / "half")
    (half / "net/tcp").unlink()
    assert listeners([half, network(tmp_path / "there", tcp=line("00000000", 22))], None)
    with pytest.raises(FileNotFoundError):
        listeners([half], None)


@pytest.mark.parametrize("text", ["nonsense\n", line("00000000", 22).replace("0016", "xy"), "\xff\n"])
def test_what_is_not_understood_is_no_empty_list(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        listeners([network(tmp_path / "odd", tcp=text)], None)


def test_the_machine_s_own_listeners_are_not_taken_for_a_pod_s() -> None:
    with socket.create_server((ALL, 0)):
        with pytest.raises(FileNotFoundError):
            listeners([PROC / "self"], PROC / "self")
        assert listeners([PROC / "self"], None)
