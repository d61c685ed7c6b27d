"""Sandboxes on Docker hosts from end to end: a real API server, the operator as a process, real engines."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import OWN, condition, is_ready
from dockerkit import IMAGE, counted
from operator_place import KEY, PATIENCE, Place, message, place, ready, why

from claude_sandbox.api import meta
from claude_sandbox.blueprint.model import Image
from claude_sandbox.install.inside import run_inside
from claude_sandbox.kubernetes_api.client import Obj
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SECRETS
from claude_sandbox.localcluster import engine

__all__ = ["place"]

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]


async def run_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "claude_sandbox.cli.main", "check", *arguments, "-o", "json"]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


async def checked(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = await run_check(*arguments)
    assert done.returncode in (0, 1, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def heals(found: Obj) -> int:
    return int(found["status"].get("heals", {}).get("count", 0))


async def recorded(place: Place, *kinds: str) -> None:
    """Wait until the audit trail has records of these kinds."""
    wanted = [f'"kind":"{kind}"' for kind in kinds]
    async with asyncio.timeout(PATIENCE):
        while not all(one in place.operator.log.read_text() for one in wanted):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)


async def test_a_sandbox_is_placed_runs_is_measured_heals_and_goes(place: Place) -> None:
    await place.join()
    await place.create("alice")
    found = await place.comes_to("alice", ready)
    status = found["status"]
    assert status["backend"] == "Docker"
    assert status["placement"]["host"] == status["workload"]["host"] == "engine-1"
    assert condition(status, "Compliant")[0] == "True", status["compliance"]
    assert condition(status, "CredentialsCurrent")[0] == "True"
    assert condition(status, "Drifted")[0] == "False"
    container = place.container(found)
    assert container.attrs["HostConfig"]["ReadonlyRootfs"] is True
    assert run_inside(container.client.api, container.id, "cat", "/run/claude-sandbox/api-key/api-key") == (0, KEY)

    container.remove(force=True)
    again = await place.comes_to("alice", lambda one: ready(one) and one["status"].get("heals", {}).get("count"))
    assert again["status"]["workload"]["uid"] != container.id
    assert "Container" in again["status"]["heals"]["last"]["what"]

    await place.api.delete(SANDBOXES, "alice", OWN)
    await place.goes("alice")
    await recorded(place, "HostAdded", "SandboxCreated", "ResultsChanged", "Healed", "SandboxDeleted")


async def test_its_time_suspends_it_with_its_files_and_deletes_it_where_that_is_asked_for(place: Place) -> None:
    def until(seconds: float, **more: str) -> Obj:
        at = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"spec": {"lifecycle": {"shutdownTime": at, **more}}}

    await place.join()
    volume = {"type": "PersistentVolumeClaim", "size": "16Mi", "retention": "Delete"}
    await place.create("alice", workspace=volume, **until(3600)["spec"])
    container = place.container(await place.comes_to("alice", ready))
    assert run_inside(container.client.api, container.id, "sh", "-c", "echo mine > /workspace/file")[0] == 0
    await place.api.patch(SANDBOXES, "alice", OWN, until(1))
    found = await place.comes_to("alice", lambda one: why(one) == "Suspended")
    assert "by spec.lifecycle.shutdownTime" in message(found)
    assert counted(place.host)["containers"] == []
    await place.api.patch(SANDBOXES, "alice", OWN, until(3600))
    again = place.container(await place.comes_to("alice", ready))
    assert run_inside(again.client.api, again.id, "cat", "/workspace/file") == (0, "mine\n")
    await place.api.patch(SANDBOXES, "alice", OWN, until(1, shutdownPolicy="Delete"))
    await place.goes("alice")
    await place.tells("alice", "Ended", "Its time is over since")
    assert counted(place.host)["containers"] == []


async def test_whatever_is_done_to_it_is_told_in_an_event_and_counted(place: Place) -> None:
    await place.join()
    hungry = "while [ ! -e /tmp/go ]; do sleep 0.1; done; x=a; while :; do x=$x$x; done"
    await place.create("hal", command=["/bin/sh", "-c", hungry], resources={"memory": "256Mi"})
    found = await place.comes_to("hal", ready)
    name = found["status"]["workload"]["name"]
    labels = place.container(found).labels
    api = place.sdk.api

    def run_out_of_memory() -> None:
        place.sdk.containers.get(name).exec_run(["/bin/sh", "-c", "touch /tmp/go"])

    def remove_network() -> None:
        api.disconnect_container_from_network(name, name)
        api.remove_network(name)

    def remove_volume() -> None:
        # While nobody looks, since a container that is made meanwhile would make it again.
        place.operator.stop()
        api.remove_container(name, force=True)
        api.remove_volume(f"{name}-api-key")
        place.operator.start()

    faults: list[tuple[Callable[[], None], str]] = [
        (lambda: api.rename(name, "something-else"), f"Container {name} put back (Name)"),
        (lambda: api.connect_container_to_network(name, "bridge"), f"Container {name} put back (Networks.bridge)"),
        (
            lambda: api.update_container(name, mem_limit=1 << 30, memswap_limit=1 << 30),
            f"Container {name} put back (HostConfig.Memory, HostConfig.MemorySwap)",
        ),
        (remove_network, f"Network {name} made again"),
        (remove_volume, f"Volume {name}-api-key made again"),
        (lambda: api.kill(name), f"Container {name} replaced (State.Status)"),
        (run_out_of_memory, f"Container {name} started again after it needed more memory than spec.resources.memory"),
        (lambda: api.pause(name), f"Container {name} put back (State.Paused)"),
    ]
    for fault, told in faults:
        before = heals(await place.comes_to("hal", ready))
        await asyncio.to_thread(fault)
        await place.tells("hal", "Healed", told)
        await place.comes_to("hal", lambda one, before=before: heals(one) > before)
    await place.comes_to("hal", ready)

    impostor = place.sdk.containers.create(IMAGE, name="impostor", labels=labels)
    try:
        await place.tells("hal", "Refused", "Not this sandbox's own and in the way: Container impostor")
        stalled = await place.comes_to("hal", lambda one: condition(one["status"], "Stalled")[0] == "True")
        assert condition(stalled["status"], "Stalled")[1] == "ForeignObject"
    finally:
        impostor.remove()
    await place.comes_to("hal", lambda one: ready(one) and condition(one["status"], "Stalled")[0] == "False")


async def test_the_kernel_is_a_second_witness_and_counts_where_it_says_otherwise(place: Place) -> None:
    await place.join()
    await place.create("iris")
    found = await place.comes_to("iris", lambda one: condition(one["status"], "Compliant")[0] == "True")
    passed = {group["source"]: set(group["controls"]) for group in found["status"]["compliance"]["passed"]}
    assert {"PRIV-02", "KERN-01", "NS-01", "FS-01", "FS-07", "FS-08", "RES-01", "RES-03"} <= passed["HostProc"]
    assert {"NET-08", "SEC-01", "OPS-03"} <= passed["Inspect"]
    container = place.container(found)
    limit = pids_limit(container.attrs["State"]["Pid"])
    before = limit.read_text()
    limit.write_text("max")
    # Nothing tells of that: it is noticed when the sandbox is looked at the next time.
    await place.api.patch(SANDBOXES, "iris", OWN, {"metadata": {"annotations": {"look": "again"}}})
    broken = await place.comes_to("iris", lambda one: condition(one["status"], "Compliant")[0] == "False")
    controls = broken["status"]["compliance"]["controls"]
    (failing,) = [one for one in controls if one["result"] == "Fail" and one.get("required")]
    assert (failing["id"], failing["evidence"]["source"]) == ("RES-03", "HostProc")
    # Both are told: what the document says, and what the kernel does.
    assert "engine's document says it is well, but its control group's process limit is inf" in failing["message"]
    assert "512" in failing["evidence"]["value"]
    limit.write_text(before)
    await place.api.patch(SANDBOXES, "iris", OWN, {"metadata": {"annotations": {"look": "once more"}}})
    await place.comes_to("iris", lambda one: condition(one["status"], "Compliant")[0] == "True")


def pids_limit(pid: int) -> Path:
    """The file of a process's control group, of either version."""
    groups = Path("/proc", str(pid), "cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups)}
    top = Path("/sys/fs/cgroup/pids", paths["pids"][1:]) if "pids" in paths else Path("/sys/fs/cgroup", paths[""][1:])
    return top / "pids.max"


def results_of(found: Obj) -> dict[str, str]:
    """The result of each control."""
    compliance = found["status"]["compliance"]
    results = {one["id"]: one["result"] for one in compliance["controls"]}
    return results | {id: "Pass" for group in compliance["passed"] for id in group["controls"]}


def is_measured(found: Obj) -> bool:
    """Whether it is compliant, and its container's files were looked at, which comes a moment after the start."""
    return condition(found["status"], "Compliant")[0] == "True" and results_of(found)["PRIV-07"] != "Unknown"


async def test_the_check_of_its_container_measures_it_against_its_sandbox_as_the_status_does(place: Place) -> None:
    await place.join()
    await place.create("gina")
    found = await place.comes_to("gina", lambda one: ready(one) and is_measured(one))
    name, kubeconfig = found["status"]["workload"]["name"], str(place.cluster.kubeconfig)
    code, (report,) = await checked("container", name, "--host", place.host.socket, "--kubeconfig", kubeconfig)
    assert code == 0, report
    assert "note" not in report
    assert {one["id"]: one["result"] for one in report["controls"]} == results_of(found)
    # Who looks for it in the cluster is told where it is.
    done = await run_check("sandbox", f"{OWN}/gina", "--kubeconfig", kubeconfig)
    assert done.returncode == 4
    assert f"on DockerHost engine-1; measure it there with `claude-sandbox check container {name}`" in done.stderr


@pytest.mark.slow
async def test_a_steady_sandbox_is_not_written_to_not_even_by_an_operator_that_starts_anew(place: Place) -> None:
    await place.join()
    await place.create("bob")
    # What can be reached is tried after it is ready, and anew by each operator.
    proven = ("True", "PolicyInPlace")
    found = await place.comes_to(
        "bob", lambda one: is_measured(one) and condition(one["status"], "IsolationVerified") == proven
    )
    container = place.container(found)
    assert place.operator.stop() == 0
    place.operator.start()
    await place.operator.is_ready()
    # Another sandbox comes to rest after it: then the first was looked at.
    await place.create("after")
    await place.comes_to("after", ready)
    now = await place.get("bob")
    assert now is not None
    assert now["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]
    assert place.container(now).attrs["State"]["StartedAt"] == container.attrs["State"]["StartedAt"]


async def test_a_namespace_that_is_not_allowed_gets_nothing_and_is_told_of_no_host(place: Place) -> None:
    await place.fleet.add("engine-1", place.host.socket, allowedNamespaces={"names": ["somebody-elses"]})
    await place.fleet.comes_to("engine-1", is_ready)
    before = counted(place.host)
    await place.create("carol")
    found = await place.comes_to("carol", lambda one: condition(one["status"], "Stalled")[0] == "True")
    assert condition(found["status"], "Stalled") == ("True", "NoHost")
    assert "engine-1" not in str(found["status"])
    assert not found["metadata"].get("finalizers")
    assert counted(place.host) == before
    # An administrator opens it, and the sandbox goes on by itself.
    await place.fleet.change("engine-1", allowedNamespaces={"names": [OWN]})
    await place.comes_to("carol", ready)


async def test_a_new_key_is_in_place_without_a_restart(place: Place) -> None:
    await place.join()
    await place.create("dora")
    found = await place.comes_to("dora", ready)
    await place.api.patch(SECRETS, "dora", OWN, {"stringData": {"api-key": "another-key"}})
    container = place.container(found)
    async with asyncio.timeout(PATIENCE):
        while (  # noqa: ASYNC110 - only asking tells
            container.exec_run(["cat", "/run/claude-sandbox/api-key/api-key"]).output != b"another-key"
        ):
            await asyncio.sleep(0.05)
    now = await place.comes_to("dora", lambda one: condition(one["status"], "CredentialsCurrent")[0] == "True")
    assert now["status"]["workload"] == found["status"]["workload"]


async def test_a_silent_host_makes_nothing_but_doubt_and_comes_back_to_the_same_sandbox(place: Place) -> None:
    await place.join()
    await place.create("erin")
    found = await place.comes_to("erin", ready)
    engine.stop(place.host)
    try:
        lost = await place.comes_to("erin", lambda one: condition(one["status"], "Ready")[0] == "Unknown")
        assert lost["status"]["workload"]["uid"] == found["status"]["workload"]["uid"]
    finally:
        engine.start(place.host)
    await place.comes_to("erin", ready)


async def test_a_host_that_is_given_up_holds_nobody_back_and_what_was_left_there_is_collected(place: Place) -> None:
    await place.join()
    before = counted(place.host)
    await place.create("frank")
    await place.comes_to("frank", ready)
    engine.stop(place.host)
    try:
        await place.api.delete(SANDBOXES, "frank", OWN)
        # Held: what it has is on a host that may come back.
        held = await place.comes_to("frank", lambda one: bool(one["metadata"].get("deletionTimestamp")))
        assert held["metadata"]["finalizers"] == [meta.FINALIZER]
        await place.fleet.close()
        await place.goes("frank")
    finally:
        engine.start(place.host)
    assert counted(place.host) != before
    await place.join()
    async with asyncio.timeout(PATIENCE):
        while counted(place.host) != before:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)


async def test_sandboxes_that_come_together_get_no_more_room_than_there_is(place: Place) -> None:
    names = [f"one-of-many-{number}" for number in range(6)]
    await place.fleet.add("engine-1", place.host.socket, allowedNamespaces={"names": [OWN]}, capacity={"sandboxes": 2})
    await place.fleet.comes_to("engine-1", is_ready)
    await asyncio.gather(*map(place.create, names))
    found = [await place.comes_to(name, lambda one: ready(one) or why(one) == "NoHost") for name in names]
    assert sorted(map(why, found)) == ["NoHost"] * 4 + ["SandboxReady"] * 2


async def test_room_that_is_given_back_goes_to_the_one_that_has_waited_longest(place: Place) -> None:
    await place.fleet.add("engine-1", place.host.socket, allowedNamespaces={"names": [OWN]}, capacity={"sandboxes": 1})
    await place.fleet.comes_to("engine-1", is_ready)
    await place.create("first")
    await place.comes_to("first", ready)
    for name in ("second", "third"):
        await place.create(name)
        await place.comes_to(name, lambda one: why(one) == "NoHost")
        # Their creation is told in whole seconds.
        await asyncio.sleep(1.0)
    # By now they look for room by themselves every sixteen seconds or less often.
    await asyncio.sleep(15.0)
    await place.api.delete(SANDBOXES, "first", OWN)
    await place.goes("first")
    async with asyncio.timeout(4.0):
        while not ((await place.get("second") or {}).get("status") or {}).get("placement"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert why(await place.get("third") or {}) == "NoHost"


def published(found: Obj) -> dict[str, str]:
    return {one["name"]: one["address"] for one in found["status"].get("endpoints") or ()}


async def test_ports_are_published_told_and_published_again(place: Place, relay_image: Image) -> None:
    await place.join()
    web = {"name": "web", "containerPort": 9090, "hostIP": "0.0.0.0"}  # noqa: S104
    ports = [{"name": "http", "containerPort": 8080}, web]
    await place.create("ports", network={"ports": ports})
    found = await place.comes_to("ports", lambda found: ready(found) and bool(published(found)))
    found = await place.comes_to("ports", lambda found: condition(found["status"], "Stalled")[0] == "True")
    assert condition(found["status"], "Stalled")[1] == "PortNotPublished"
    assert ready(found)
    assert set(before := published(found)) == {"http"}
    await place.tells("ports", "Refused", "Not published")
    # Whose relay it is, only its labels tell the events.
    relay = place.sdk.containers.get(f"{found['status']['workload']['name']}-relay")
    relay.kill()
    await place.tells("ports", "Healed", f"Relay {relay.name} replaced")
    found = await place.comes_to("ports", lambda found: heals(found) == 1)
    assert published(found) == before
    await place.fleet.change("engine-1", publishAddresses=["0.0.0.0"])  # noqa: S104
    found = await place.comes_to("ports", lambda found: set(published(found)) == {"http", "web"})
    assert condition(found["status"], "Stalled")[0] == "False"
    assert heals(found) == 1
    assert found["status"]["workload"]["uid"] == place.container(found).id
