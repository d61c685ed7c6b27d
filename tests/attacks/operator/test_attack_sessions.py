"""What somebody could want of the operator's port for sessions: to be let in where they may not be, and to hold it up.

Each attack on admission is made twice: against an operator that leaves out the one check, where it gets in, and against
the real one. Who attacks may make sessions in namespace `theirs`, and connect; the sandbox `agents/alice` is another's.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from session_lab import SessionLab, session_lab, unverified

from claude_sandbox.api.kinds.sessions import LARGEST_OPENING, ClaudeSandboxSessionSpec, Opening
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.backends.docker.hosts.hosts import Hosts
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.controller.sandboxes.store import Key, Raw
from claude_sandbox.controller.sessions import admission as admissions
from claude_sandbox.controller.sessions.admission import Admission, Admitted, Refused
from claude_sandbox.controller.sessions.places import Places
from claude_sandbox.controller.sessions.running import beginning
from claude_sandbox.controller.sessions.streams import Bounds

KEY = "k" * 43
RUN = {"command": ["true"]}
PATIENCE = 20.0


def body(name: str, sandbox: str = "alice", uid: str = "u-1", key: str = KEY) -> dict[str, Any]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"metadata": {"name": name}, "spec": {"sandbox": sandbox, "sandboxUid": uid, "keyDigest": digest}}


def opening(name: str = "s", namespace: str = "agents", **changed: Any) -> str:
    return json.dumps({"namespace": namespace, "session": name, "key": KEY, "run": RUN, **changed})


@contextlib.asynccontextmanager
async def connected(lab: SessionLab, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            lab.url, ssl=unverified(), max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.2), **options
        ) as socket,
    ):
        yield socket


async def said_to(lab: SessionLab, first: str) -> dict[str, Any]:
    """What the operator answers to what is said first; empty where it hangs up."""
    async with connected(lab) as socket:
        await socket.send_str(first)
        message = await socket.receive(PATIENCE)
        return json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[SessionLab]:
    async with session_lab(tmp_path, tmp_path) as found:
        found.add()
        yield found


@dataclass(frozen=True)
class Attack:
    """`check`: the one that is left out, in which `without` takes its place."""

    prepare: Callable[[SessionLab], Any]
    first: str
    check: str
    without: Any
    owner: Any = Admission


def _takes_any(self: Admission, namespace: str, spec: ClaudeSandboxSessionSpec) -> Raw:
    """The sandbox of the name, wherever it is and whichever it is."""
    for space in (namespace, "agents"):
        if (raw := self._sandboxes.get(Key(space, spec.sandbox))) is not None:
            return raw
    raise AssertionError("no sandbox at all")


async def _claims_nothing(self: Admission, opening: Opening, metadata: Mapping[str, Any]) -> None:
    pass


def _used(lab: SessionLab) -> None:
    lab.add()
    lab.make("agents", body("s"))["status"]["openedAt"] = "2026-01-01T00:00:00Z"


def _old(lab: SessionLab) -> None:
    lab.make("agents", body("s"), made=datetime.now(UTC) - timedelta(minutes=3))


def _another_of_the_name(lab: SessionLab) -> None:
    lab.make("agents", body("s", uid="u-of-one-that-was-deleted"))


def _guessed(lab: SessionLab) -> None:
    lab.make("agents", body("s", key="z" * 43))


def _from_elsewhere(lab: SessionLab) -> None:
    lab.make("theirs", body("s"))


def _on_kubernetes(lab: SessionLab) -> None:
    lab.add(name="bob", uid="u-2", backend={"type": "Kubernetes"})
    lab.make("agents", body("s", "bob", "u-2"))


ATTACKS = {
    "another namespace's sandbox": Attack(_from_elsewhere, opening(namespace="theirs"), "_sandbox", _takes_any),
    "a sandbox that was made anew under the name": Attack(_another_of_the_name, opening(), "_sandbox", _takes_any),
    "a sandbox on Kubernetes": Attack(_on_kubernetes, opening(), "_sandbox", _takes_any),
    "a secret that was guessed": Attack(
        _guessed, opening(), "compare_digest", lambda one, other: True, admissions.hmac
    ),
    "a session from long ago": Attack(_old, opening(), "UNUSED", 1e9, admissions),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("careless", [True, False], ids=["succeeds where nothing stops it", "is refused"])
async def test_nobody_gets_into_a_sandbox_by(
    lab: SessionLab, attack: Attack, careless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack.prepare(lab)
    if careless:
        monkeypatch.setattr(attack.owner, attack.check, attack.without)
    answer = await said_to(lab, attack.first)
    assert ("refused" not in answer, len(lab.ran)) == (careless, int(careless))


@pytest.mark.parametrize("careless", [True, False], ids=["succeeds where nothing stops it", "is refused"])
async def test_a_session_is_good_for_one_connection(
    lab: SessionLab, careless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come at the same moment with the secret."""
    if careless:
        monkeypatch.setattr(Admission, "_claim", _claims_nothing)
    lab.make("agents", body("s"))
    answers = await asyncio.gather(*(said_to(lab, opening(run={"command": ["sleep", "0.2"]})) for _ in range(5)))
    assert sum("refused" not in one for one in answers) == (5 if careless else 1)


async def test_who_has_no_secret_learns_not_even_whether_there_is_a_session(lab: SessionLab) -> None:
    _guessed(lab)
    assert await said_to(lab, opening()) == await said_to(lab, opening("none-of-that-name"))
    # And nothing was taken from who has it.
    assert "refused" not in await said_to(lab, opening(key="z" * 43))


NO_OPENINGS = [
        "", "[]", "{}", "null", "[" * 50_000, opening(container="gateway"), opening(user="root"), opening(run=None),
        opening(log={}), opening(run={**RUN, "privileged": True}), opening(run={**RUN, "user": "0"}),
        opening(run={"command": []}), opening(run={"command": "true"}), opening(run={"command": ["a\0b"]}),
        opening(run={**RUN, "tty": "yes"}), opening(namespace="../agents"), opening("s/../../secrets"),
        opening(session=["s"]), opening(key=""), opening(key="k" * 65), opening(run=None, log={"tail": -1}),
        opening(run=None, log={"since": 1e300}),
        opening(run=None, log={"container": "c"}),
]  # fmt: skip


@pytest.mark.parametrize("first", NO_OPENINGS, ids=range(len(NO_OPENINGS)))
async def test_what_is_no_opening_runs_nothing(lab: SessionLab, first: str) -> None:
    lab.make("agents", body("s"))
    answer = await said_to(lab, first)
    assert answer.get("refused") or not answer
    assert lab.ran == []
    assert "refused" not in await said_to(lab, opening())


async def test_what_is_too_large_ends_the_connection_and_is_not_kept(lab: SessionLab) -> None:
    lab.make("agents", body("s"))
    assert await said_to(lab, opening(run={"command": ["x" * (LARGEST_OPENING + 1)]})) == {}
    async with connected(lab) as socket:
        await socket.send_str(opening(run={"command": ["cat"], "stdin": True}))
        await socket.receive(PATIENCE)
        await socket.send_bytes(b"\0" + b"x" * (LARGEST_OPENING + 1))
        await asyncio.wait_for(asyncio.to_thread(lab.ran[0].exit_code), PATIENCE)
        assert lab.ran[0].carried == 0


async def test_nothing_compressed_is_agreed_on(lab: SessionLab) -> None:
    async with connected(lab, compress=15) as socket:
        assert socket.compress == 0


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01out", b"\x03{}", b"\x07", b"\xff\x01", b'\x04{"Width":0,"Height":1}', b'\x04{"Width":true,"Height":1}',
     b'\x04{"Width":1e9,"Height":1}', b"\x04" + b"[" * 5000, "text"],
)  # fmt: skip
async def test_a_message_that_is_none_of_the_protocol_ends_the_session(lab: SessionLab, message: bytes | str) -> None:
    lab.make("agents", body("s"))
    async with connected(lab) as socket:
        await socket.send_str(opening(run={"command": ["cat"], "stdin": True}))
        await socket.receive(PATIENCE)
        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        last = await socket.receive(PATIENCE)
        assert json.loads(last.data[1:])["reason"] == "BadRequest"
    assert lab.ran[0].sizes == []


async def test_who_says_nothing_takes_no_place_from_others_for_long(
    lab: SessionLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_sandbox.controller.sessions.server.WAITING", 3)
    monkeypatch.setattr("claude_sandbox.controller.sessions.server.OPENS", 0.5)
    lab.make("agents", body("s"))
    async with contextlib.AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(connected(lab))
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await said_to(lab, opening())
        assert refused.value.status == 503
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.WSServerHandshakeError):
                    assert "refused" not in await said_to(lab, opening())
                    break
                await asyncio.sleep(0.05)


async def test_one_namespace_has_its_share_of_places_and_no_more(tmp_path: Path) -> None:
    async with session_lab(tmp_path, tmp_path, places=Places(most=4, share=2)) as lab:
        lab.add()
        lab.add("other", "bob", "u-2")
        sleeps = {"command": ["sleep", "600"]}
        async with contextlib.AsyncExitStack() as held:
            for number in range(3):
                lab.make("agents", body(f"s-{number}"))
                socket = await held.enter_async_context(connected(lab))
                await socket.send_str(opening(f"s-{number}", run=sleeps))
                answer = json.loads((await socket.receive(PATIENCE)).data)
                assert ("refused" in answer) == (number == 2)
            lab.make("other", body("s", "bob", "u-2"))
            assert "refused" not in await said_to(lab, opening("s", "other"))
        # A place comes back with the connection that had it, and nothing of the session is left.
        async with asyncio.timeout(PATIENCE):
            while lab.sessions:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        lab.make("agents", body("again"))
        assert "refused" not in await said_to(lab, opening("again"))


async def test_a_client_that_does_not_read_holds_up_its_own_command_and_no_memory(lab: SessionLab) -> None:
    lab.make("agents", body("s"))
    async with connected(lab) as socket:
        await socket.send_str(opening(run={"command": ["head", "-c", "200000000", "/dev/zero"]}))
        await socket.receive(PATIENCE)
        socket._conn.protocol.pause_reading() if socket._conn is not None else None  # type: ignore[union-attr]
        before = -1
        # What is under way fills the sockets' buffers; then nothing more is read of the command.
        async with asyncio.timeout(PATIENCE):
            while lab.ran[0].carried != before:
                before = lab.ran[0].carried
                await asyncio.sleep(0.5)
        assert lab.ran[0].carried < 40_000_000
        assert "refused" not in await _other(lab)


async def _other(lab: SessionLab) -> dict[str, Any]:
    lab.make("agents", body("other"))
    return await said_to(lab, opening("other"))


async def test_a_command_that_does_not_read_holds_up_its_own_client_and_no_memory(lab: SessionLab) -> None:
    lab.make("agents", body("s"))
    async with connected(lab) as socket:
        await socket.send_str(opening(run={"command": ["sleep", "600"], "stdin": True}))
        await socket.receive(PATIENCE)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                async with asyncio.timeout(1.0):
                    await socket.send_bytes(b"\0" + b"x" * 32_000)
                sent += 32_000
        assert sent < 40_000_000
        assert "refused" not in await _other(lab)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda lab: lab.sandboxes.remove(Key("agents", "alice")), "the sandbox is gone"),
        (lambda lab: lab.add(uid="u-of-the-next"), "the sandbox is gone"),
        (lambda lab: lab.sessions.clear(), "the session was deleted"),
    ],
)
async def test_a_session_that_is_open_ends_with_what_it_was_for(
    lab: SessionLab, end: Callable[[SessionLab], Any], said: str
) -> None:
    lab.make("agents", body("s"))
    async with connected(lab) as socket:
        await socket.send_str(opening(run={"command": ["sleep", "600"]}))
        await socket.receive(PATIENCE)
        end(lab)
        last = await socket.receive(PATIENCE)
        assert said in json.loads(last.data[1:])["message"]
    await asyncio.wait_for(asyncio.to_thread(lab.ran[0].exit_code), PATIENCE)


async def test_one_in_which_nothing_happens_ends(tmp_path: Path) -> None:
    async with session_lab(tmp_path, tmp_path, bounds=Bounds(idle=0.2, looks=0.05)) as lab:
        lab.add()
        lab.make("agents", body("s"))
        async with connected(lab) as socket:
            await socket.send_str(opening(run={"command": ["sleep", "600"]}))
            await socket.receive(PATIENCE)
            last = await socket.receive(PATIENCE)
            assert "nothing was carried" in json.loads(last.data[1:])["message"]
        await asyncio.wait_for(asyncio.to_thread(lab.ran[0].exit_code), PATIENCE)


async def test_a_replica_that_does_not_lead_opens_nothing(lab: SessionLab) -> None:
    lab.make("agents", body("s"))
    lab.leads = False
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await said_to(lab, opening())
    assert refused.value.status == 503
    assert lab.sessions


class OneEngine:
    """An engine with one container, whatever name is asked for."""

    def __init__(self, labels: Mapping[str, str], *, running: bool = True) -> None:
        self.asked: list[str] = []
        self._found = {"Id": "c", "Config": {"Labels": dict(labels)}, "State": {"Running": running}}

    async def container(self, name: str) -> Mapping[str, Any]:
        self.asked.append(name)
        return self._found


ALICE = Identity("agents", "alice", "u-1")


@pytest.mark.parametrize(
    ("labels", "running", "found"),
    [
        (labels_of("cluster", ALICE, names.AGENT), True, "c"),
        (labels_of("cluster", ALICE, names.AGENT), False, None),
        # What holds the keys, or reaches out.
        (labels_of("cluster", ALICE, names.GATEWAY), True, None),
        (labels_of("cluster", ALICE, names.HELPER), True, None),
        (labels_of("cluster", ALICE, names.RELAY), True, None),
        (labels_of("cluster", Identity("agents", "alice", "u-0"), names.AGENT), True, None),
        (labels_of("cluster", Identity("theirs", "alice", "u-1"), names.AGENT), True, None),
        (labels_of("another cluster", ALICE, names.AGENT), True, None),
        ({}, True, None),
    ],
)
async def test_the_container_is_the_agents_own_by_its_labels_and_not_by_what_a_status_says(
    labels: Mapping[str, str], running: bool, found: str | None
) -> None:
    engine = OneEngine(labels, running=running)
    backend = DockerBackend(cast(Any, engine), "cluster", "host", cast(Any, None), Pacer())
    assert await backend.agent(ALICE) == found
    assert engine.asked == [names.names_of("cluster", ALICE).container]


async def test_who_connects_and_asks_for_nothing_takes_no_file_for_long_and_not_all_of_them(
    lab: SessionLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With or without a handshake."""
    listener = lab.server._listener
    monkeypatch.setattr(listener, "_most", 8)
    monkeypatch.setattr(listener, "_opens", 1.0)
    lab.make("agents", body("s"))
    silent = [await asyncio.open_connection("127.0.0.1", lab.server.port) for _ in range(5)]
    silent += [await asyncio.open_connection("127.0.0.1", lab.server.port, ssl=unverified()) for _ in range(3)]
    began = time.monotonic()
    with pytest.raises((aiohttp.ClientError, OSError)):
        await said_to(lab, opening())
    # There is room again when they were silent for long enough.
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                assert "refused" not in await said_to(lab, opening())
                break
            await asyncio.sleep(0.05)
    assert time.monotonic() - began > 0.5
    for _, writer in silent:
        writer.close()


async def test_a_host_that_somebody_wrote_into_a_status_is_not_made_up(lab: SessionLab) -> None:
    """The operator would follow it for ever."""
    hosts = Hosts()
    made: list[str] = []
    fleet = Fleet(hosts, lambda host, engine: made.append(host) or cast(Any, None), lambda *_: None)
    admitted = Admitted("agents", "s", "u", lab.add(), "a-host-of-nobodys")
    with pytest.raises(Refused):
        await beginning(fleet)(admitted, Opening.model_validate_json(opening()), cast(Any, None))
    assert made == []
    hosts.close()
