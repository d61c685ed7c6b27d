"""Somebody with the engine's socket is in a sandbox as root, privileged, and nothing shows it.

Gained before: minutes of `docker exec --privileged -u 0` with the sandbox Compliant throughout, and, for as long after
it had ended as the engine remembered it, Unknown. Closed by following the events of exec sessions and asking the
engine whose each is (`backends/docker/events/`), by telling once of one that ended at once, and by looking for what it
left behind (`compliance/controls/privilege.py`).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from compliant_container import changed, compliant
from dockerkit import Sandbox, sandbox

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.events.exec_sessions import session_of
from claude_sandbox.backends.docker.events.outside_sessions import OutsideSessions
from claude_sandbox.compliance.evidence.containers import ExecSession, ExecSessions
from claude_sandbox.localcluster.engine import EngineDescription

OWN = ExecSession(privileged=False, user="")
ROOT = ExecSession(privileged=True, user="0")


@pytest.mark.parametrize(
    ("visits", "result"),
    [
        (ExecSessions(), Result.PASS),
        (ExecSessions((OWN,)), Result.PASS),
        (ExecSessions((replace(OWN, user="1000:1000"),)), Result.PASS),
        (ExecSessions((ROOT,)), Result.FAIL),
        (ExecSessions((replace(OWN, privileged=True),)), Result.FAIL),
        *(
            (
                ExecSessions(
                    (OWN, replace(OWN, user=user)),
                ),
                Result.FAIL,
            )
            for user in ("0", "root", "0:1000", "00", "1001")
        ),
        (ExecSessions((replace(OWN, user="1000"),)), Result.UNKNOWN),
        (ExecSessions((ExecSession(),)), Result.UNKNOWN),
        (ExecSessions((replace(OWN, user=None),)), Result.UNKNOWN),
        (ExecSessions(left=True), Result.FAIL),
        (ExecSessions(left=None), Result.UNKNOWN),
    ],
)
def test_who_a_session_is_decides(visits: ExecSessions, result: Result) -> None:
    world = changed(lambda world: setattr(world, "visits", visits))
    assert compliant().results()["PRIV-08"] is Result.PASS
    assert world.results()["PRIV-08"] is result


def test_what_somebody_types_is_not_kept() -> None:
    document = {
        "Running": True,
        "ProcessConfig": {"entrypoint": "sh", "arguments": ["-c", "TOKEN=sk-ant-x"], "user": "0"},
    }
    assert "sk-ant" not in repr(session_of(document, {"Config": {"User": "1000:1000"}}))


async def test_of_a_session_that_ended_at_once_is_told_once() -> None:
    container = {"Id": "c", "Config": {"User": "1000:1000"}, "State": {"StartedAt": "now", "Pid": 7}}

    class Engine:
        users = {7: "1000"}

        async def session(self, identifier: str) -> Any:
            return {"Running": False, "ProcessConfig": {"privileged": True, "user": "0"}}

        async def users_in(self, identifier: str) -> dict[int, str]:
            return self.users

    engine = Engine()
    visitors = OutsideSessions(engine)  # type: ignore[arg-type]
    visitors.know("uid", container)
    begins = {"Type": "container", "Action": "exec_start: id", "Actor": {"ID": "c", "Attributes": {"execID": "e"}}}
    assert await visitors.concerns(begins)
    visits, ended = await visitors.take(container)
    assert (visits.sessions, ended) == ((ROOT,), True)
    assert (await visitors.take(container)) == (ExecSessions(), False)
    # What it left behind counts for as long as it is there.
    assert await visitors.concerns(begins)
    engine.users = {7: "1000", 8: "0"}
    await visitors.take(container)
    assert (await visitors.take(container))[0].left is True
    engine.users = {7: "1000"}
    assert (await visitors.take(container))[0].left is False


async def test_who_comes_while_it_is_looked_for_what_another_left_is_looked_after_as_well() -> None:
    container = {"Id": "c", "Config": {"User": "1000:1000"}, "State": {"StartedAt": "now", "Pid": 7}}
    begins = {"Type": "container", "Action": "exec_start: id", "Actor": {"ID": "c", "Attributes": {"execID": "e"}}}

    class Engine:
        users = {7: "1000"}
        comes = True

        async def session(self, identifier: str) -> Any:
            return {"Running": False, "ProcessConfig": {"privileged": True, "user": "0"}}

        async def users_in(self, identifier: str) -> dict[int, str]:
            found = self.users
            if self.comes:
                self.comes = False
                await visitors.concerns(begins)
                self.users = {7: "1000", 8: "0"}
            return found

    visitors = OutsideSessions(Engine())  # type: ignore[arg-type]
    visitors.know("uid", container)
    assert (await visitors.take(container))[0].left is False
    assert (await visitors.take(container))[0].left is True


def may_be_privileged(of: EngineDescription) -> bool:
    """The oldest engine gives no such session to what has no_new_privs where it lacks a capability itself."""
    return of.release != "20.10"


@asynccontextmanager
async def followed(one: Sandbox) -> AsyncIterator[list[float]]:
    """When the engine's events woke the sandbox, as the operator follows them."""
    woken: list[float] = []

    async def follow() -> None:
        async for namespace, name in one.backend.wakes():
            if (namespace, name) == (one.identity.namespace, one.identity.name):
                woken.append(time.monotonic())

    task = asyncio.create_task(follow())
    await asyncio.sleep(1.5)
    woken.clear()
    try:
        yield woken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def result(one: Sandbox) -> tuple[str, str]:
    """What PRIV-08 is after another pass, and its message."""
    outcome = await one.once()
    compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    if any("PRIV-08" in passed.controls for passed in compliance.passed):
        return "Pass", ""
    (found,) = (control for control in compliance.controls if control.id == "PRIV-08")
    return str(found.result), found.message


async def woken_within(woken: list[float], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not woken:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    woken.clear()


@pytest.mark.by_turns
@pytest.mark.engine
async def test_a_privileged_session_fails_while_it_lasts_and_not_after(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        container = one.sdk.containers.get(one.names.container)
        async with followed(one) as woken:
            assert (await result(one))[0] == "Pass"
            privileged = may_be_privileged(host)
            container.exec_run(["sleep", "6"], privileged=privileged, user="0", detach=True)
            await woken_within(woken, 3)
            found, message = await result(one)
            assert found == "Fail", message
            assert ("privileged" if privileged else "as root") in message
            await woken_within(woken, 10)
            assert (await result(one))[0] == "Pass"


@pytest.mark.by_turns
@pytest.mark.engine
async def test_a_short_one_and_what_it_leaves_are_told(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        container = one.sdk.containers.get(one.names.container)
        async with followed(one) as woken:
            container.exec_run(["sh", "-c", "sleep 8 >/dev/null 2>&1 &"], privileged=may_be_privileged(host), user="0")
            await woken_within(woken, 3)
            assert (await result(one))[0] == "Fail"
            found, message = await result(one)
            assert found == "Fail"
            assert "another user" in message
            await asyncio.sleep(8)
            assert (await result(one))[0] == "Pass"


@pytest.mark.by_turns
@pytest.mark.engine
async def test_neither_health_checks_nor_who_works_in_it_as_its_own_user_harm(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        async with followed(one) as woken:
            one.sdk.containers.get(one.names.container).exec_run(["sleep", "2"], detach=True)
            await woken_within(woken, 3)
            assert (await result(one))[0] == "Pass"
            await asyncio.sleep(3)
            woken.clear()
            # The checks go on, and nobody is woken by them.
            await asyncio.sleep(12)
            assert not woken
