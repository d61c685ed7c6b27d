"""What an administrator sees of Docker hosts, and what engines are asked, with a real API server."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_fleet import OWN, Fleet, Operator, condition, is_ready, unchanged
from engine_documents import good_bridge, good_info, good_version
from small_engine import SILENT, WELL, SmallEngine

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, EVENTS, SANDBOXES, SECRETS

pytestmark = [pytest.mark.controlplane, pytest.mark.usefixtures("operator")]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SmallEngine]:
    answers = {"info": good_info(), "version": good_version(), "networks/bridge": good_bridge()}
    with SmallEngine(tmp_path / "docker.sock", answers) as running:
        yield running


async def test_a_host_is_ready_says_what_it_is_and_is_left_alone_then(fleet: Fleet, engine: SmallEngine) -> None:
    await fleet.add("local", f"unix://{engine.address}")
    status = await fleet.comes_to("local", is_ready)
    assert status["observedGeneration"] == 1
    assert status["engine"]["version"] == "29.1.0"
    assert status["engine"]["securityOptions"]["seccomp"] == "builtin"
    assert status["capacity"] == {"memory": "29491Mi"}
    assert status["free"] == status["capacity"]
    assert condition(status, "Compliant") == ("True", "AllControlsPass")
    assert status["compliance"]["summary"]["required"] == "7/7"
    # It goes on being asked, and nothing is written about that.
    engine.is_asked("_ping", patience=15)
    await unchanged(fleet.api, "local", 1)


@pytest.mark.slow
async def test_an_engine_that_falls_silent_makes_the_host_unknown_and_is_found_again(
    fleet: Fleet, engine: SmallEngine
) -> None:
    await fleet.add("local", f"unix://{engine.address}")
    before = await fleet.comes_to("local", is_ready)
    engine.mood = SILENT
    began = time.monotonic()
    status = await fleet.comes_to("local", lambda status: condition(status, "Ready")[0] == "Unknown", 75)
    # Within what is promised: a poll, the patience, and a look that takes as long as one may.
    assert time.monotonic() - began < 10 + 30 + 15 + 10
    assert condition(status, "Ready") == ("Unknown", "EngineUnreachable")
    assert condition(status, "Compliant") == ("Unknown", "ControlsUnknown")
    assert status["engine"] == before["engine"]
    engine.mood = WELL
    engine.released.set()
    await fleet.comes_to("local", is_ready)
    async with asyncio.timeout(15):
        while True:
            events = (await fleet.api.list(EVENTS, "default")).items
            told = {one["reason"] for one in events if one["regarding"]["name"] == "local"}
            if {"EngineUnreachable", "EngineReady"} <= told:
                return
            await asyncio.sleep(0.1)


async def test_what_an_administrator_changes_is_looked_at_at_once(fleet: Fleet, engine: SmallEngine) -> None:
    await fleet.add("local", "unix:///nonexistent/docker.sock")
    status = await fleet.comes_to("local", lambda status: condition(status, "Ready")[1] == "EngineUnreachable")
    assert "no socket at that path" in status["conditions"][0]["message"]
    await fleet.change("local", endpoint=f"unix://{engine.address}", capacity={"sandboxes": 3})
    status = await fleet.comes_to("local", is_ready)
    assert status["capacity"]["sandboxes"] == 3
    assert status["observedGeneration"] == 2


async def test_sandboxes_that_are_placed_on_a_host_take_its_room(fleet: Fleet, engine: SmallEngine) -> None:
    spec = {
        "backend": {"type": "Docker"},
        # One with a gateway takes room for that, too.
        "credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"},
        "resources": {"memory": "4Gi"},
    }
    body = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "alice"}, "spec": spec}
    await fleet.api.create(SANDBOXES, body, OWN)
    try:
        placement = {"placement": {"host": "local", "engineId": "x"}}
        await fleet.api.patch_status(SANDBOXES, "alice", OWN, placement)
        await fleet.add("local", f"unix://{engine.address}", capacity={"sandboxes": 3, "memory": "10Gi"})
        status = await fleet.comes_to("local", lambda status: status.get("sandboxes") == 1)
        assert status["free"] == {"sandboxes": 2, "memory": "6144Mi"}
    finally:
        await fleet.api.delete(SANDBOXES, "alice", OWN)


async def test_a_sandbox_on_docker_gets_no_pod_where_there_is_no_host(fleet: Fleet) -> None:
    spec = {"backend": {"type": "Docker"}, "credentials": {"apiKeySecretRef": {"name": "key"}}}
    body = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "bob"}, "spec": spec}
    await fleet.api.create(SANDBOXES, body, OWN)
    try:
        async with asyncio.timeout(30):
            while True:
                status = (await fleet.api.get(SANDBOXES, "bob", OWN)).get("status") or {}
                if status.get("conditions"):
                    break
                await asyncio.sleep(0.05)
        assert condition(status, "Stalled") == ("True", "NoHost")
        assert "workload" not in status
    finally:
        await fleet.api.delete(SANDBOXES, "bob", OWN)


async def test_a_second_name_of_the_same_engine_is_refused(fleet: Fleet, engine: SmallEngine) -> None:
    await fleet.add("first", f"unix://{engine.address}")
    await fleet.comes_to("first", is_ready)
    await asyncio.sleep(1.1)  # creationTimestamp counts in seconds
    await fleet.add("second", f"unix://{engine.address}")
    status = await fleet.comes_to("second", lambda status: condition(status, "Stalled")[0] == "True")
    assert condition(status, "Ready") == ("False", "DuplicateEngine")
    assert is_ready((await fleet.api.get(DOCKER_HOSTS, "first"))["status"])


async def test_nor_is_the_engine_of_a_compromised_host_by_another_name(fleet: Fleet, engine: SmallEngine) -> None:
    await fleet.add("first", f"unix://{engine.address}")
    await fleet.comes_to("first", is_ready)
    await fleet.change("first", incident={"state": "HostCompromised"})
    await fleet.comes_to("first", lambda status: condition(status, "Ready")[1] == "HostCompromised")
    await fleet.add("second", f"unix://{engine.address}")
    status = await fleet.comes_to("second", lambda status: condition(status, "Ready")[0] == "False")
    assert condition(status, "Stalled") == ("True", "DuplicateEngine")
    assert "first" in status["conditions"][0]["message"]


async def test_a_secret_is_asked_for_until_it_is_right(fleet: Fleet) -> None:
    await fleet.add("remote", "tcp://127.0.0.1:1", credentialsSecretRef={"name": "remote"})
    status = await fleet.comes_to("remote", lambda status: condition(status, "Stalled")[0] == "True")
    assert condition(status, "Ready") == ("False", "SecretNotFound")
    assert f"--namespace {OWN}" in status["conditions"][0]["message"]
    data = {"ca.crt": "very-private", "tls.crt": "very-private", "tls.key": "very-private"}
    await fleet.secret("remote", data, kind="Opaque")
    await fleet.comes_to("remote", lambda status: condition(status, "Ready")[1] == "SecretNotOptedIn")
    labels = {"metadata": {"labels": {meta.LABEL_HOST_SECRET_OPT_IN: "true"}}}
    await fleet.api.patch(SECRETS, "remote", OWN, labels)
    status = await fleet.comes_to("remote", lambda status: condition(status, "Ready")[1] == "SecretInvalid")
    assert "very-private" not in str(status)


async def test_a_host_that_is_deleted_is_no_longer_asked(fleet: Fleet, engine: SmallEngine) -> None:
    await fleet.add("local", f"unix://{engine.address}")
    await fleet.comes_to("local", is_ready)
    await fleet.api.delete(DOCKER_HOSTS, "local")
    await asyncio.sleep(1)
    asked = len(engine.asked)
    await asyncio.sleep(12)
    assert len(engine.asked) == asked


async def test_an_operator_that_is_started_anew_writes_nothing(
    fleet: Fleet, engine: SmallEngine, operator: Operator
) -> None:
    await fleet.add("local", f"unix://{engine.address}")
    await fleet.comes_to("local", is_ready)
    assert operator.stop() == 0
    asked = len(engine.asked)
    operator.start()
    await operator.is_ready()
    async with asyncio.timeout(30):
        while len(engine.asked) < asked + 3:  # noqa: ASYNC110 - who asks is another process
            await asyncio.sleep(0.05)
    await unchanged(fleet.api, "local", 1)
