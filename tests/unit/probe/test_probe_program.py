"""What tries to connect from a sandbox's network: each outcome is seen, and none is taken for another."""

import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_sandbox.probe import MOST_TARGETS, VERSION, attempts
from claude_sandbox.probe.attempts import Target, attempt, self_test
from claude_sandbox.probe.outcomes import (
    Outcome,
    addresses,
    neighbour,
    of_answer,
    of_connect,
    of_lookup,
    question,
    routes,
)

NAME = "0123.invalid"
ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
*\t000010AC\t00000000\t0200\t0\t0\t0\t0000F0FF\t0\t0\t0
"""
ROUTES6 = """\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
20010db8000000000000000000000000 20 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
"""  # noqa: E501


@contextmanager
def resolver(kind: socket.SocketKind, code: int) -> Iterator[int]:
    """One that answers with a response code; gives its port."""

    def answered(asked: bytes) -> bytes:
        return asked[:2] + struct.pack(">H", 0x8180 | code) + asked[4:]

    def serve() -> None:
        if kind is socket.SOCK_DGRAM:
            asked, peer = server.recvfrom(512)
            server.sendto(answered(asked), peer)
        else:
            connection, _ = server.accept()
            with connection:
                answer = answered(connection.recv(512)[2:])
                whole = struct.pack(">H", len(answer)) + answer
                # In two parts, as a stream may bring it.
                connection.sendall(whole[:5])
                connection.sendall(whole[5:])

    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            server.listen(1)
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join(10)


def free_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def test_a_connection_that_is_taken_or_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = Target("a", "127.0.0.1", listening.getsockname()[1], "tcp")
        assert attempt(target, 5).outcome is Outcome.CONNECTED
    refused = attempt(target, 5)
    assert (refused.outcome, refused.error) == (Outcome.REFUSED, "ECONNREFUSED")
    assert attempt(Target("a", "127.0.0.1", target.port, "route"), 5).outcome is Outcome.ROUTED


def test_an_ipv4_address_written_as_one_of_ipv6_is_tried_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        mapped = Target("a", "::ffff:127.0.0.1", listening.getsockname()[1], "tcp")
        assert attempt(mapped, 5).outcome is Outcome.CONNECTED


def test_nobody_who_answers_is_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        target = Target("a", "127.0.0.1", full.getsockname()[1], "tcp")
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", target.port))
        assert attempt(target, 0.3).outcome is Outcome.TIMEOUT
        for one in waiting:
            one.close()


@pytest.mark.parametrize(("protocol", "kind"), [("dns-udp", socket.SOCK_DGRAM), ("dns-tcp", socket.SOCK_STREAM)])
@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.ANSWERED), (3, Outcome.ANSWERED), (2, Outcome.DECLINED), (5, Outcome.DECLINED)],
)
def test_what_a_resolver_answers(protocol: str, kind: socket.SocketKind, code: int, outcome: Outcome) -> None:
    with resolver(kind, code) as port:
        assert attempt(Target("a", "127.0.0.1", port, protocol, NAME), 5).outcome is outcome


@contextmanager
def answering(make: Callable[[bytes], bytes]) -> Iterator[int]:
    """A server of UDP that answers one packet; gives its port."""

    def serve() -> None:
        asked, peer = server.recvfrom(2048)
        server.sendto(make(asked), peer)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join(10)


def versions(asked: bytes) -> bytes:
    """What a server of QUIC answers to a version that it doesn't know (RFC 8999, 6)."""
    here, there = asked[6:14], asked[15:23]
    assert (len(asked), asked[0] & 0xC0, asked[5], asked[14]) == (1200, 0xC0, 8, 8)
    return b"\x80\0\0\0\0" + b"\x08" + there + b"\x08" + here + b"\0\0\0\x01"


@pytest.mark.parametrize(
    ("make", "outcome"),
    [(versions, Outcome.ANSWERED), (lambda asked: asked, Outcome.FAILED), (lambda _: b"", Outcome.FAILED)],
    ids=["a server", "an echo", "nothing"],
)
def test_a_server_of_quic_is_told_from_whatever_else_answers(make: Callable[[bytes], bytes], outcome: Outcome) -> None:
    with answering(make) as port:
        assert attempt(Target("a", "127.0.0.1", port, "quic"), 5).outcome is outcome
    assert attempt(Target("a", "127.0.0.1", port, "quic"), 5).outcome is Outcome.REFUSED


@pytest.mark.skipif(os.geteuid() != 0, reason="changes who may send echo requests, in a network of its own")
@pytest.mark.parametrize("allowed", [True, False])
def test_an_echo_request_is_answered_and_who_may_send_none_has_tried_nothing(allowed: bool) -> None:
    groups = "0 2147483647" if allowed else "1 0"
    program = (
        "from claude_sandbox.probe.attempts import Target, attempt;"
        "print(*(attempt(Target('a', host, 1, 'icmp'), 5).outcome for host in ('127.0.0.1', '::1')))"
    )
    script = f'ip link set lo up && echo {groups} >/proc/sys/net/ipv4/ping_group_range && {sys.executable} -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", program],
        capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "operator")},
    )  # fmt: skip
    assert done.stdout.split() == [Outcome.ANSWERED if allowed else Outcome.FAILED] * 2


def answer_with(asked: bytes, *records: tuple[int, bytes]) -> bytes:
    """An answer with records of these types, each of the name that was asked for."""
    told = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for kind, data in records)
    return asked[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0) + asked[12:] + told


def test_the_addresses_of_a_name_are_read_past_what_else_is_said_of_it() -> None:
    asked = question("metadata.example")
    alias = (5, b"\x05other\x07example\0")
    assert addresses(asked, answer_with(asked, alias, (1, bytes([192, 0, 2, 7])))) == ["192.0.2.7"]
    assert addresses(asked, answer_with(asked)) == []
    assert addresses(asked, answer_with(question("another.example"))) == []
    for cut in range(12, len(whole := answer_with(asked, alias, (1, bytes(4))))):
        with contextlib.suppress(ValueError):
            assert addresses(asked, whole[:cut]) == []


@pytest.mark.parametrize(
    ("records", "outcome"),
    [
        (((1, bytes([127, 0, 0, 1])),), Outcome.CONNECTED),
        ((), Outcome.UNREACHABLE),
        (((1, bytes([127, 0, 0, 1]) * 2),), Outcome.UNREACHABLE),
    ],
)
def test_what_is_known_by_a_name_is_connected_to_where_that_leads(
    monkeypatch: pytest.MonkeyPatch, records: tuple[tuple[int, bytes], ...], outcome: Outcome
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 0))
        monkeypatch.setattr(attempts, "DNS_PORT", resolver.getsockname()[1])

        def serve() -> None:
            asked, peer = resolver.recvfrom(512)
            resolver.sendto(answer_with(asked, *records), peer)

        serving = threading.Thread(target=serve)
        serving.start()
        port = there.getsockname()[1]
        found = attempt(Target("named", "127.0.0.1", port, "named", "metadata.example"), 10)
        serving.join()
    assert found.outcome is outcome


def test_what_is_no_answer_to_the_question_says_nothing() -> None:
    asked = question(NAME, 7)
    assert of_answer(asked, asked) is Outcome.FAILED
    assert of_answer(asked, b"\0\x08" + asked[2:]) is Outcome.FAILED
    assert of_answer(asked, b"") is Outcome.FAILED


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EPERM, errno.EMFILE, errno.ENOBUFS])
def test_what_could_not_be_tried_is_no_denial(code: int) -> None:
    """An agent that takes all free ports (EAGAIN, EADDRNOTAVAIL of a connection) must prove nothing by that."""
    assert of_lookup(code) is Outcome.FAILED
    assert of_connect(code) is Outcome.FAILED
    assert of_connect(errno.EADDRNOTAVAIL) is Outcome.FAILED


def test_without_a_way_nothing_is_sent() -> None:
    assert of_lookup(errno.ENETUNREACH) is Outcome.NO_ROUTE
    # The same word, said of a packet that was sent.
    assert of_connect(errno.ENETUNREACH) is Outcome.UNREACHABLE


def test_routes_are_told_but_those_that_lead_nowhere() -> None:
    assert list(routes(ROUTES, ROUTES6)) == [
        "0.0.0.0/0 eth0 10.0.0.1",
        "10.0.0.0/24 eth0",
        "2001:db8::/32 eth0 fe80::1",
        "fe80::/64 eth0",
    ]


ARP = """IP address       HW type     Flags       HW address            Mask     Device
10.244.0.1       0x1         0x2         a2:0f:3b:00:12:fe     *        eth0
10.244.0.8       0x1         0x0         00:00:00:00:00:00     *        eth0
"""


def test_a_neighbour_s_link_local_address_is_what_its_hardware_address_makes() -> None:
    # As `ip address` shows one that the kernel has made.
    assert neighbour(ARP, "10.244.0.1") == ("fe80::a00f:3bff:fe00:12fe", "eth0")
    assert neighbour(ARP, "10.244.0.8") is neighbour(ARP, "10.244.0.9") is None


def test_who_is_on_no_link_of_this_machine_has_no_such_address() -> None:
    found = attempt(Target("self", "127.0.0.1", 1, "link-local"), 2)
    assert found.outcome is Outcome.NO_ROUTE


def test_connections_can_be_made_here() -> None:
    assert self_test(5).outcome is Outcome.CONNECTED


def run(line: str) -> subprocess.CompletedProcess[str]:
    """The program, as it runs in a container."""
    room = Path(__file__).parents[3] / "operator"
    return subprocess.run(
        [sys.executable, "-m", "claude_sandbox.probe"],
        input=line,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(room)},
    )


def test_the_program_answers_the_question_that_it_was_asked() -> None:
    port = free_port()
    targets = [{"name": str(number), "host": "127.0.0.1", "port": port, "protocol": "tcp"} for number in range(80)]
    done = run(json.dumps({"nonce": "n1", "seconds": 5, "targets": targets}) + "\n")
    told = json.loads(done.stdout)
    assert (done.returncode, told["nonce"], told["version"]) == (0, "n1", VERSION)
    assert [one["outcome"] for one in told["attempts"]] == ["connected", *["refused"] * MOST_TARGETS]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        '{"nonce":"n","seconds":1,"targets":[{"name":"a","host":"example.org","port":1,"protocol":"tcp"}]}',
        '{"nonce":"n","seconds":1,"targets":[{"name":"a","host":"127.0.0.1","port":0,"protocol":"tcp"}]}',
        '{"nonce":"n","seconds":1,"targets":[{"name":"a","host":"127.0.0.1","port":1,"protocol":"http"}]}',
    ],
)
def test_what_is_not_understood_is_not_tried(line: str) -> None:
    done = run(line + "\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not understood" in done.stderr
