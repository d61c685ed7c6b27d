"""Who may ask an agent, whom the operator believes, and what it makes of an answer."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.backends.kubernetes.gateway.certificates import Bundle, renewed
from claude_sandbox.backends.kubernetes.node_agents import asking
from claude_sandbox.backends.kubernetes.node_agents.answers import (
    LOOKS,
    SETTLED,
    Answer,
    Container,
    Kind,
    MisunderstoodError,
    read,
    settled,
)
from claude_sandbox.backends.kubernetes.node_agents.asking import AskingError, ask, ask_evidence
from claude_sandbox.backends.kubernetes.node_agents.certificates import context_of
from claude_sandbox.backends.kubernetes.node_agents.told_evidence import PROCESSES
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.node_agent import NAME, server
from claude_sandbox.node_agent.server import Files, Server
from claude_sandbox.procfs.counters import Counters
from claude_sandbox.procfs.files import PROC
from claude_sandbox.procfs.limits import Limits

POD = "0f9d6e1c-0b7a-4c55-9d2e-7a1b2c3d4e5f"
AGENT = "a" * 64
NOW = datetime.now(UTC)


def authority(name: str = NAME, now: datetime = NOW) -> Bundle:
    return renewed(None, name, now)


def written(bundle: Bundle, directory: Path) -> Files:
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (directory / name).write_text(bundle.data()[name])
    return Files(directory)


@asynccontextmanager
async def agent(bundle: Bundle, directory: Path) -> AsyncIterator[Server]:
    """One that has this process in a pod."""
    place = directory / "cgroups" / f"kubepods/pod{POD}" / AGENT
    place.mkdir(parents=True)
    (directory / "cgroups/cgroup.controllers").touch()
    (place / "cgroup.procs").write_text(f"{os.getppid()}\n")
    found = Server(written(bundle, directory), "127.0.0.1", 0, PROC, directory / "cgroups")
    running = asyncio.create_task(found.run())
    try:
        while not found.port:  # noqa: ASYNC110 - the program has no use for an event
            await asyncio.sleep(0.01)
        yield found
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_the_operator_is_answered(tmp_path: Path) -> None:
    bundle = authority()
    async with agent(bundle, tmp_path) as there:
        found = await ask("127.0.0.1", there.port, context_of(bundle, NOW), POD)
        assert [one.identifier for one in found.containers] == ["", AGENT]
        assert [kind.count for kind in found.containers[1].kinds] == [1]
        files = (await ask_evidence("127.0.0.1", there.port, context_of(bundle, NOW), POD, 1 << 20)).files
        assert f'"pid": {os.getppid()}, ' in files[PROCESSES].decode()
        elsewhere = await ask("127.0.0.1", there.port, context_of(bundle, NOW), POD.replace("0", "1"))
        assert elsewhere == Answer((), True)


def without_certificate(bundle: Bundle) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=bundle.authority)
    return context


def as_an_agent(bundle: Bundle, directory: Path) -> ssl.SSLContext:
    """Who has the files of an agent, for example of a node that is lost."""
    context = without_certificate(bundle)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return context


async def test_nobody_else_is(tmp_path: Path) -> None:
    bundle = authority()
    async with agent(bundle, tmp_path) as there:
        other = context_of(authority(), NOW)
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        for who in (without_certificate(bundle), as_an_agent(bundle, tmp_path), other):
            with pytest.raises(AskingError) as error:
                await ask("127.0.0.1", there.port, who, POD)
            assert error.value.untrusted
        assert (await ask("127.0.0.1", there.port, context_of(bundle, NOW), POD)).containers


async def test_who_is_not_the_agent_is_not_believed(tmp_path: Path) -> None:
    async with agent(authority(), tmp_path) as there:
        with pytest.raises(AskingError, match="by TLS") as error:
            await ask("127.0.0.1", there.port, context_of(authority(), NOW), POD)
        assert error.value.untrusted


@pytest.mark.parametrize("asked", ["", "..", "/etc/passwd", f"{POD} {POD}", "x" * 5000, POD.upper()])
async def test_nothing_else_can_be_asked(tmp_path: Path, asked: str) -> None:
    bundle = authority()
    async with agent(bundle, tmp_path) as there:
        with pytest.raises((AskingError, MisunderstoodError)):
            await ask("127.0.0.1", there.port, context_of(bundle, NOW), asked)
        assert (await ask("127.0.0.1", there.port, context_of(bundle, NOW), POD)).containers


async def test_a_new_certificate_is_taken_without_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.05)
    bundle, other = authority(), authority()
    async with agent(bundle, tmp_path) as there:
        written(other, tmp_path)
        for _ in range(600):
            with suppress(AskingError):
                await ask("127.0.0.1", there.port, context_of(other, NOW), POD)
                break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("it has the old certificate after a minute")


async def test_who_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.2)
    async with await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0) as silent:
        with pytest.raises(AskingError, match="did not answer"):
            await ask("127.0.0.1", silent.sockets[0].getsockname()[1], context_of(authority(), NOW), POD)


async def test_a_certificate_that_has_ended_is_none(tmp_path: Path) -> None:
    old = authority(now=NOW - timedelta(days=100))
    async with agent(old, tmp_path) as there:
        with pytest.raises(AskingError, match="by TLS"):
            await ask("127.0.0.1", there.port, context_of(old, NOW), POD)


def process(**fields: Any) -> Process:
    return Process("", "", "", Limits(), **fields)


def kind(mark: str, seconds: float, count: int = 1) -> Kind:
    return Kind(mark, process(confinement=mark), count, seconds)


def seen(answer: Answer, before: dict[str, int]) -> tuple[set[str | None], dict[str, int], bool]:
    found, looks, young = settled(answer, before)
    return {one.confinement for container in found.containers for one in container.processes}, looks, young


def test_what_is_only_beginning_does_not_count_and_is_looked_at_again() -> None:
    answer = Answer((Container(AGENT, (kind("agent", SETTLED), kind("probe", 0.1)), True),), True)
    assert seen(answer, {})[0] == {"agent"}
    assert seen(answer, {})[2] is True
    assert seen(Answer((Container(AGENT, (kind("agent", SETTLED),), True),), True), {})[2] is False


def test_who_becomes_another_process_again_and_again_counts_after_some_looks() -> None:
    answer = Answer((Container(AGENT, (kind("agent", SETTLED), kind("visitor", 0.1)), True),), True)
    looks: dict[str, int] = {}
    for number in range(1, LOOKS + 1):
        found, looks, _ = seen(answer, looks)
        assert ("visitor" in found) is (number == LOOKS)
    # Once it was not seen, it begins anew.
    _, looks, _ = seen(Answer((Container(AGENT, (kind("agent", 1.0),), True),), True), looks)
    assert "visitor" not in seen(answer, looks)[0]


ORDINARY = "Uid:\t1000 1000\nCapEff:\t0000\nCapBnd:\t00ff\nNoNewPrivs:\t1\nSeccomp:\t2\n"


def told(status: str = ORDINARY, seconds: float = 0.1, **fields: Any) -> Kind:
    of = Process(status, "0 0 1", "0 0 1", Limits(), **{"namespaces": {"pid": False}, **fields})
    return Kind(f"{status} {fields}", of, 1, seconds)


MORE: dict[str, dict[str, Any]] = {
    "a right": {"status": ORDINARY.replace("CapEff:\t0000", "CapEff:\t0002")},
    "a right in its bounds": {"status": ORDINARY.replace("CapBnd:\t00ff", "CapBnd:\t01ff")},
    "rights that are no number": {"status": ORDINARY.replace("CapBnd:\t00ff", "CapBnd:\tall")},
    "another user": {"status": ORDINARY.replace("1000 1000", "1000 0")},
    "new privileges": {"status": ORDINARY.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")},
    "no filter": {"status": ORDINARY.replace("Seccomp:\t2", "Seccomp:\t0")},
    "the node's processes": {"namespaces": {"pid": True}},
    "no profile": {"confinement": "unconfined"},
}


@pytest.mark.parametrize("what", MORE)
def test_who_has_more_and_becomes_another_kind_of_process_each_time_counts_after_as_many_looks(what: str) -> None:
    looks: dict[str, int] = {}
    for number in range(1, LOOKS + 3):
        # Of whatever kind it is this time: by a limit of its own.
        visitor = told(**MORE[what], open_files=float(number))
        answer = Answer((Container(AGENT, (told(seconds=SETTLED), visitor), True),), True)
        found, looks, _ = settled(answer, looks)
        assert (visitor.process in found.containers[0].processes) is (number >= LOOKS)
    # What a runtime starts now and then is seen at one look and not at the next.
    _, looks, _ = settled(Answer((Container(AGENT, (told(seconds=SETTLED),), True),), True), looks)
    answer = Answer((Container(AGENT, (told(seconds=SETTLED), told(**MORE[what])), True),), True)
    assert len(settled(answer, looks)[0].containers[0].processes) == 1


def test_who_has_no_more_than_the_others_may_be_of_another_kind_each_time() -> None:
    looks: dict[str, int] = {}
    for number in range(2 * LOOKS):
        less = told(ORDINARY.replace("CapBnd:\t00ff", "CapBnd:\t000f"), open_files=float(number))
        answer = Answer((Container(AGENT, (told(seconds=SETTLED), less), True),), True)
        found, looks, young = settled(answer, looks)
        assert (len(found.containers[0].processes), young) == (1, True)


def test_of_another_container_the_same_is_another_kind() -> None:
    answers = [Answer((Container(name, (kind("visitor", 0.1),), True),), True) for name in ("a" * 64, "b" * 64)]
    looks: dict[str, int] = {}
    for number in range(2 * LOOKS):
        found, looks, _ = seen(answers[number % 2], looks)
        assert found == set()


GOOD: dict[str, Any] = {
    "version": 1,
    "pod": POD,
    "systemFiles": ["kcore"],
    "mapsAreTheHosts": True,
    "whole": True,
    "containers": [
        {
            "id": AGENT,
            "limits": {"memory": 1024, "cpus": 0.5, "processes": "max"},
            "counters": {"cpu_microseconds": 7_000_000, "killed": 1, "refused": None, "periods": 10, "throttled": 2},
            "whole": True,
            "processes": [
                {
                    "status": "CapEff:\t0\n", "uidMap": "0 0 1\n", "gidMap": "0 0 1\n", "openFiles": "max",
                    "mounts": "0 0 0:1 / / ro - overlay none rw\n", "confinement": None, "namespaces": {"pid": False},
                    "count": 2, "seconds": 60.5,
                }
            ],
        }
    ],
}  # fmt: skip


def test_an_answer_is_read_whole() -> None:
    (container,) = read(json.dumps(GOOD).encode(), POD).containers
    (one,) = container.kinds
    assert (one.count, one.seconds, one.process.limits) == (2, 60.5, Limits(1024, 0.5, float("inf")))
    assert one.process.mounts is not None
    assert not one.process.mounts[0].writable
    assert container.counters == Counters(7_000_000, 1, None, 10, 2)
    earlier = json.loads(json.dumps(GOOD))
    del earlier["containers"][0]["counters"]
    assert read(json.dumps(earlier).encode(), POD).containers[0].counters == Counters()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    ("version",), ("pod",), ("systemFiles",), ("containers",), ("containers", 0), ("containers", 0, "id"),
    ("containers", 0, "limits"), ("containers", 0, "limits", "memory"), ("containers", 0, "processes"),
    ("containers", 0, "counters"), ("containers", 0, "counters", "cpu_microseconds"),
    ("containers", 0, "processes", 0), *(("containers", 0, "processes", 0, name) for name in (
        "status", "uidMap", "gidMap", "openFiles", "mounts", "confinement", "namespaces", "count", "seconds")),
]  # fmt: skip


@given(st.sampled_from(PLACES), VALUES)
def test_whatever_a_lost_node_answers_is_read_or_refused(place: tuple[Any, ...], value: object) -> None:
    document = json.loads(json.dumps(GOOD))
    where = document
    for step in place[:-1]:
        where = where[step]
    where[place[-1]] = value
    with suppress(MisunderstoodError):
        settled(read(json.dumps(document).encode(), POD), {})


@given(st.binary(max_size=200))
def test_what_is_no_answer_is_refused(text: bytes) -> None:
    with pytest.raises(MisunderstoodError):
        read(text, POD)


def test_the_answer_about_another_pod_is_none() -> None:
    with pytest.raises(MisunderstoodError):
        read(json.dumps(GOOD).encode(), POD.replace("0", "1"))
