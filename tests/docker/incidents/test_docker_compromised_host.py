"""A Docker host that is declared to be compromised: nothing is asked of it any more, and what was there is lost."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import OWN, condition, is_ready
from engine_relay import Call, Relay, Rule
from operator_place import KEY, Place, message, place, ready, why
from revocation_hook import TOKEN, revocation_server

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS, SANDBOXES, SECRETS
from claude_sandbox.localcluster.engine import EngineDescription

__all__ = ["place"]

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]

HOST = "engine-1"


class Heard(Rule):
    """All calls that reach the engine by the relay."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def before(self, call: Call) -> None:
        self.calls.append(call.kind)


@pytest.fixture
def between(host: EngineDescription, tmp_path: Path) -> Iterator[tuple[str, Heard]]:
    """Where the operator finds the engine, and what it asks there."""
    heard = Heard()
    with Relay(tmp_path / "engine.sock", Path(host.socket.removeprefix("unix://")), heard) as relay:
        yield f"unix://{relay.path}", heard


async def command(place: Place, *arguments: str) -> tuple[int, str]:
    program = (sys.executable, "-m", "claude_sandbox.cli.main", "incident", "host", *arguments)
    done = await asyncio.to_thread(
        subprocess.run, [*program, f"--kubeconfig={place.cluster.kubeconfig}"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def compromised(status: dict[str, Any]) -> bool:
    return condition(status, "Ready") == ("False", "HostCompromised") and bool(status.get("incident"))


async def test_nothing_is_asked_of_it_its_sandboxes_say_so_and_no_key_of_it_is_used(
    between: tuple[str, Heard], place: Place
) -> None:
    endpoint, heard = between
    await place.fleet.add(HOST, endpoint, allowedNamespaces={"names": [OWN]})
    await place.fleet.comes_to(HOST, is_ready)
    await place.create("alice")
    found = await place.comes_to("alice", ready)
    container, generation = place.container(found), found["status"]["credentials"]["mountedGeneration"]
    # One in the cluster that shares the Secret. No node is here to run it.
    credentials = {"apiKeySecretRef": {"name": "alice"}, "delivery": "Mounted"}
    shares = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": "shares"},
              "spec": {"credentials": credentials}}  # fmt: skip
    await place.api.create(SANDBOXES, shares, OWN)
    await place.comes_to("shares", lambda one: one["status"].get("credentials") is not None)

    code, said = await command(place, HOST, "--compromised", "--note", "somebody else logged in")
    assert code == 0, said
    assert "Cut the host off" in said
    status = await place.fleet.comes_to(HOST, compromised)
    lost = await place.comes_to("alice", lambda one: why(one) == "HostCompromised")
    heard.calls.clear()
    assert status["incident"]["ran"] == [f"{OWN}/alice"]
    secret = {"namespace": OWN, "name": "alice", "use": "Model", "generation": generation}
    assert status["incident"]["secrets"] == [secret]
    assert HOST in message(lost)
    assert condition(lost["status"], "Compliant")[0] == "Unknown"
    assert condition(lost["status"], "Stalled") == ("True", "HostCompromised")
    assert lost["status"]["credentials"]["mountedGeneration"] == generation
    # Told at once, and since when as soon as the host's status says so.
    told = await place.comes_to("shares", lambda one: "since" in one["status"].get("lostKey", {}))
    since = status["incident"]["since"]
    assert told["status"]["lostKey"] == {"host": HOST, "secret": "alice", "generation": generation, "since": since}
    assert condition(told["status"], "CredentialsCurrent") == ("False", "KeyCompromised")

    # A change of the spec, a container that ends, and a new sandbox: nothing is asked for any of it.
    await place.api.patch(SANDBOXES, "alice", OWN, {"spec": {"terminationGracePeriodSeconds": 45}})
    container.kill()
    await place.create("bob")
    waits = await place.comes_to("bob", lambda one: why(one) == "NoHost")
    assert f"{HOST} is compromised" in message(waits)
    await place.comes_to("alice", lambda one: one["status"]["observedGeneration"] == one["metadata"]["generation"])
    async with asyncio.timeout(60):
        while container.status != "exited":
            await asyncio.to_thread(container.reload)
    assert heard.calls == []

    # Another key is another key.
    await place.api.patch(SECRETS, "alice", OWN, {"stringData": {"api-key": f"{KEY}-2"}})
    await place.comes_to("shares", lambda one: "lostKey" not in one["status"])
    # Deleted, it is let go, and the key that it had stays lost.
    await place.api.delete(SANDBOXES, "alice", OWN)
    await place.goes("alice")
    await place.tells("alice", "Abandoned", f"DockerHost {HOST} is compromised")
    assert heard.calls == []
    after = await place.api.get(DOCKER_HOSTS, HOST)
    assert after["status"]["incident"] == status["incident"]

    code, said = await command(place, HOST, "--lift")
    assert code == 0, said
    await place.fleet.comes_to(HOST, is_ready)
    await place.comes_to("bob", ready)
    # What was left there of the other is nobody's.
    async with asyncio.timeout(60):
        while place.sdk.containers.list(all=True, filters={"id": container.id}):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_the_hook_for_revocations_is_told_of_its_keys_once_each_whoever_shares_them_and_after_a_restart(
    host: EngineDescription, place: Place, tmp_path: Path
) -> None:
    async with revocation_server(tmp_path) as hook:
        hook.answers = [503, 204]
        await place.operator.restart(*hook.options)
        await place.join()
        await place.create("alice")
        await place.create("bob", credentials={"apiKeySecretRef": {"name": "alice"}})
        for name in ("alice", "bob"):
            await place.comes_to(name, lambda one: bool(one["status"].get("credentials", {}).get("generation")))
        live = await place.api.patch(DOCKER_HOSTS, HOST, None, {"spec": {"incident": {"state": "HostCompromised"}}})

        def revoked(status: dict[str, Any]) -> bool:
            secrets = (status.get("incident") or {}).get("secrets") or ()
            return bool(secrets) and all((one.get("revocation") or {}).get("state") == "Revoked" for one in secrets)

        status = await place.fleet.comes_to(HOST, revoked)
        (lost,) = status["incident"]["secrets"]
        assert [login for login, _ in hook.asked] == [f"Bearer {TOKEN}"] * 2
        document = hook.asked[-1][1]
        assert document["dockerHost"] == {"name": HOST, "uid": live["metadata"]["uid"]}
        told = {name: document[name] for name in ("namespace", "secret", "generation")}
        assert told == {"namespace": OWN, "secret": "alice", "generation": lost["generation"]}
        _, said = await command(place, HOST)
        assert "revocation: Revoked" in said

        await place.operator.restart()
        # A sandbox that is new shows that this operator has seen the host, and what it is.
        await place.create("carol")
        await place.comes_to("carol", lambda one: f"{HOST} is compromised" in message(one))
        await asyncio.sleep(3)
        assert len(hook.asked) == 2
        await place.api.patch(DOCKER_HOSTS, HOST, None, {"spec": {"incident": None}})
        await place.fleet.comes_to(HOST, is_ready)
