"""The operator is killed at each of its writes for a backup and a restore: the next process brings both to their end.

Those to the engine are struck by a socket in front of it, before the engine heard of one or after; those to the API
server by whoever sees them. Each backup is verified, and nothing is left of any helper.
"""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from backup_place import PATIENCE, Place, backup_place, has_reason, is_stored
from docker_fleet import OWN, condition, create_sandbox, get_sandbox
from engine_relay import Call, CutError, Relay, Rule

from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription

# It takes minutes: every write is struck twice, and the operator starts anew each time.
pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3000)]

MOST = 8
"""Calls of a backup, or a restore, that are looked for."""


class Strike(Rule):
    """Kills the operator at the nth call about a helper that changes anything."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.arm(0, "")

    def arm(self, at: int, when: str) -> None:
        self._at, self._when, self._seen, self.struck = at, when, 0, ""
        self._current: Call | None = None

    def before(self, call: Call) -> None:
        if self.struck or not self._at or not self._is_of_a_helper(call):
            return
        self._seen += 1
        if self._seen == self._at:
            self._current = call
            if self._when == "before":
                self._strike(call)

    def after(self, call: Call) -> None:
        if call is self._current:
            self._strike(call)

    def _strike(self, call: Call) -> None:
        assert self.place is not None
        self.struck = call.kind
        self.place.operator.stop(signal.SIGKILL)
        raise CutError

    def _is_of_a_helper(self, call: Call) -> bool:
        if call.path == "/containers/create":
            return "-backup" in call.query
        return self.place is not None and any(str(one.id) in call.path for one in self.place.containers("backup"))


@pytest.fixture
async def struck(
    control_plane: Cluster, host: EngineDescription, tmp_path: Path
) -> AsyncIterator[tuple[Place, Strike]]:
    # A socket's path may have 108 characters.
    with tempfile.TemporaryDirectory(prefix="csb-") as short:
        rule = Strike()
        relay = Relay(Path(short, "relay.sock"), Path(host.socket.removeprefix("unix://")), rule)
        with relay:
            async with backup_place(control_plane, host, tmp_path, f"unix://{relay.path}") as place:
                rule.place = place
                try:
                    yield place, rule
                finally:
                    rule.arm(0, "")


async def at_each_call(
    place: Place, rule: Strike, when: str, act: Callable[[str], Awaitable[Callable[[], Awaitable[bool]]]]
) -> list[str]:
    """`act` begins one of a name, and says how one sees that it is over: at which calls the operator was killed."""
    calls: list[str] = []
    for at in range(1, MOST):
        rule.arm(at, when)
        is_over = await act(f"{when}-{at}")
        async with asyncio.timeout(PATIENCE):
            while not rule.struck and not await is_over():  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
        if place.operator.alive and rule.struck:
            place.operator.wait()
        if not rule.struck:
            return calls
        calls.append(rule.struck)
        rule.arm(0, "")
        place.operator.start()
        async with asyncio.timeout(PATIENCE):
            while not await is_over():  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
        async with asyncio.timeout(PATIENCE):
            while place.containers("backup"):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
    raise AssertionError(f"there are more calls than are tried: {calls}")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_at_each_call_of_a_backup(struck: tuple[Place, Strike], when: str) -> None:
    place, rule = struck
    seen: dict[str, dict[str, Any]] = {}

    async def act(name: str) -> Callable[[], Awaitable[bool]]:
        await place.back_up(name)

        async def is_over() -> bool:
            found = await place.backup(name)
            seen[name] = found
            return bool(found.get("completedAt"))

        return is_over

    calls = await at_each_call(place, rule, when, act)
    print(when, calls)
    assert len(calls) >= 4, calls
    for name, status in seen.items():
        assert is_stored(status), (name, status)
        assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared"), (name, status)
    assert len({status["repository"] for status in seen.values()}) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_at_each_call_of_a_restore(struck: tuple[Place, Strike], when: str) -> None:
    place, rule = struck
    await place.back_up("first")
    await place.comes_to("first", is_stored)
    workspace = {"size": "1Gi", "retention": "Delete"}
    key = {"credentials": {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}, "workspace": workspace}
    wanted = place.run("md5sum < src/b")

    async def act(name: str) -> Callable[[], Awaitable[bool]]:
        await create_sandbox(place.api, name, restoreFrom={"backupName": "first"}, **key)

        async def is_over() -> bool:
            status = (await get_sandbox(place.api, name) or {}).get("status") or {}
            ready = status.get("conditions") and condition(status, "Ready")[0] == "True"
            return bool(ready) and (status.get("restore") or {}).get("state") == "Restored"

        return is_over

    calls = await at_each_call(place, rule, when, act)
    print(when, calls)
    assert len(calls) >= 4, calls
    for one in (await place.api.list(SANDBOXES, OWN)).items:
        name = one["metadata"]["name"]
        assert name == "alice" or one["status"]["restore"]["different"] == 0
        assert place.run("md5sum < src/b; ls -A", name) == wanted + "src\n"


async def test_at_each_write_to_the_api_server(struck: tuple[Place, Strike]) -> None:
    place, _ = struck
    moments: dict[str, Callable[[dict[str, Any]], bool]] = {
        "begun": lambda status: bool(status.get("startedAt")),
        "stored": lambda status: bool(status.get("completedAt")),
    }
    for name, moment in moments.items():
        await place.back_up(name)
        async with asyncio.timeout(PATIENCE):
            while not moment(await place.backup(name)):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.01)
        place.operator.stop(signal.SIGKILL)
        before = await place.backup(name)
        place.operator.start()
        status = await place.comes_to(name, is_stored)
        assert condition(status, "BackupVerified")[0] == "True"
        # The helper went on meanwhile: it was begun once.
        assert status["attempts"] == 1
        if moment(before) and name == "stored":
            assert status["completedAt"] == before["completedAt"]
    # What a process that was killed left, the next backup takes away.
    await place.back_up("after")
    await place.comes_to("after", is_stored)
    async with asyncio.timeout(PATIENCE):
        while place.containers("backup"):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)


async def test_of_two_operators_that_both_lead_no_backup_is_made_twice(
    struck: tuple[Place, Strike], tmp_path: Path
) -> None:
    place, _ = struck
    other = place.operator.beside(tmp_path / "other.log")
    other.start()
    try:
        await other.is_ready()
        names = [f"both-{number}" for number in range(4)]
        for name in names:
            # The one after the other: of one sandbox there is one at a time.
            await place.back_up(name)
            status = await place.comes_to(name, is_stored)
            assert condition(status, "BackupVerified") == ("True", "RestoredAndCompared"), status
            assert status["attempts"] == 1
        async with asyncio.timeout(PATIENCE):
            while place.containers("backup"):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.1)
    finally:
        other.stop()
    (repository,) = place.directory.glob("*/claude-sandbox-backups")
    assert len(list((repository / "snapshots").iterdir())) == len(names)
    assert not list((repository / "locks").iterdir())
    assert "Traceback" not in other.log.read_text()


async def test_with_another_password_meanwhile_and_the_former_one_again_it_goes_on(
    struck: tuple[Place, Strike],
) -> None:
    place, _ = struck
    await place.back_up("made")
    first = await place.comes_to("made", is_stored)
    await place.fleet.secret("others", {"password": "another"}, "claudesandbox.dev/backup")
    await place.back_up("refused", passwordSecretRef={"name": "others"})
    await place.comes_to("refused", has_reason("WrongPassword"))
    await place.back_up("again")
    again = await place.comes_to("again", is_stored)
    assert (again["repository"], again["addedBytes"] < 100_000) == (first["repository"], True)
