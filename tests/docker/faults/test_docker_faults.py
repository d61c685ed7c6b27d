"""What becomes of a sandbox when somebody with the engine's socket is at it: put back, or refused and left alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dockerkit import BROKEN, CLUSTER, FIRST, KEY, Sandbox, counted, sandbox

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Result
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.docker import names
from claude_sandbox.backends.docker.names import labels_of
from claude_sandbox.blueprint.model import Blueprint, Probe
from claude_sandbox.localcluster import engine as engines
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


def kill(one: Sandbox) -> None:
    one.sdk.api.kill(one.names.container)


def stop(one: Sandbox) -> None:
    one.sdk.api.stop(one.names.container, timeout=2)


def restart(one: Sandbox) -> None:
    one.sdk.api.restart(one.names.container, timeout=2)


def remove(one: Sandbox) -> None:
    one.sdk.api.remove_container(one.names.container, force=True)


def pause(one: Sandbox) -> None:
    one.sdk.api.pause(one.names.container)


def rename(one: Sandbox) -> None:
    one.sdk.api.rename(one.names.container, "something-else")


def loosen(one: Sandbox) -> None:
    one.sdk.api.update_container(
        one.names.container,
        mem_limit=8 << 30,
        memswap_limit=8 << 30,
        mem_reservation=1 << 30,
        cpu_shares=4096,
        restart_policy={"Name": "always", "MaximumRetryCount": 0},
    )


def let_swap(one: Sandbox) -> None:
    one.sdk.api.update_container(one.names.container, memswap_limit=-1)


def disconnect(one: Sandbox) -> None:
    one.sdk.api.disconnect_container_from_network(one.names.container, one.names.network)


def connect(one: Sandbox) -> None:
    one.sdk.api.connect_container_to_network(one.names.container, "bridge")


def exchange_networks(one: Sandbox) -> None:
    disconnect(one)
    connect(one)


def remove_network(one: Sandbox) -> None:
    disconnect(one)
    one.sdk.api.remove_network(one.names.network)


def stop_and_remove_network(one: Sandbox) -> None:
    stop(one)
    one.sdk.api.remove_network(one.names.network)


def open_network(one: Sandbox) -> None:
    """Another network of that name, with the labels, that leads out."""
    remove_network(one)
    labels = labels_of(CLUSTER, one.identity, names.NETWORK)
    one.sdk.api.create_network(one.names.network, driver="bridge", labels=labels)
    one.sdk.api.connect_container_to_network(one.names.container, one.names.network)


def remove_volumes(one: Sandbox) -> None:
    remove(one)
    for name in one.names.volumes:
        one.sdk.api.remove_volume(name)


def key_on_the_disk(one: Sandbox) -> None:
    """A key volume of that name, with the labels, that is a directory of the disk."""
    remove(one)
    one.sdk.api.remove_volume(one.names.key)
    one.sdk.api.create_volume(one.names.key, labels=labels_of(CLUSTER, one.identity, names.KEY))


FAULTS: dict[Callable[[Sandbox], None], str] = {
    kill: "Container {c} replaced (State.Status)",
    stop: "Container {c} replaced (State.Status)",
    restart: "Volume {c}-api-key made again",
    remove: "Container {c} made again",
    pause: "Container {c} put back (State.Paused)",
    rename: "Container {c} put back (Name)",
    loosen: "Container {c} put back (HostConfig.CpuShares",
    let_swap: "Container {c} put back (HostConfig.MemorySwap)",
    disconnect: "Container {c} put back (Networks.{n})",
    connect: "Container {c} put back (Networks.bridge)",
    exchange_networks: "Container {c} put back (Networks.bridge)",
    remove_network: "Network {n} made again",
    stop_and_remove_network: "Network {n} made again",
    open_network: "Network {n} put back (Internal",
    remove_volumes: "Volume {c}-api-key made again",
    key_on_the_disk: "Volume {c}-api-key put back (Options.device",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_is_put_back_and_told(host: EngineDescription, fault: Callable[[Sandbox], None]) -> None:
    async with sandbox(host) as one:
        await one.made()
        before = counted(host)
        fault(one)
        outcomes = await one.settled()
        told = [str(healed) for outcome in outcomes for healed in outcome.healed]
        expected = FAULTS[fault].format(c=one.names.container, n=one.names.network)
        assert any(each.startswith(expected) for each in told), told
        assert_whole(one, outcomes)
        assert counted(host) == before


def assert_whole(one: Sandbox, outcomes: list[Outcome]) -> None:
    live = one.inspected
    assert live["State"]["Running"]
    assert not live["State"]["Paused"]
    assert one.networks == {one.names.network}
    assert one.sdk.api.inspect_network(one.names.network)["Internal"]
    host = live["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (2 << 30, 2 << 30, 256)
    assert host["RestartPolicy"]["Name"] == "no"
    assert one.key_in_place() == KEY
    assert one.sh("stat -c %a /run/claude-sandbox/api-key/api-key") == "400\n"
    assert "managed-settings.json" in one.sh("ls /etc/claude-code")
    last = outcomes[-1]
    assert (last.drifted, last.foreign, last.spec_changed) == ((), (), False)


async def test_a_container_that_keeps_ending_is_started_later_each_time(host: EngineDescription) -> None:
    async with sandbox(host, command=["/bin/sh", "-c", "exit 3"]) as one:
        await one.once(FIRST)
        await one.once()
        waits = []
        for _ in range(3):
            # Exits at once, so that each look sees it ended.
            one.sdk.api.wait(one.names.container, timeout=20)
            outcome = await one.once()
            assert outcome.paced is not None
            waits.append(outcome.paced)
            one.clock.now += outcome.paced
            await one.once()
        assert waits == sorted(set(waits))
        one.sdk.api.wait(one.names.container, timeout=20)
        await one.once()
        state = await one.state()
        assert (state.status, state.reason) == (ConditionStatus.FALSE, Reason.CONTAINER_FAILING)
        assert "exit code 3" in state.message


async def test_out_of_memory_is_said_and_it_is_started_again(host: EngineDescription) -> None:
    script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; x=a; while :; do x=$x$x; done"
    async with sandbox(host, command=["/bin/sh", "-c", script], resources={"memory": "256Mi"}) as one:
        await one.made()
        one.sh("echo mine > /workspace/file; touch /tmp/go")
        await one.state()
        one.sdk.api.wait(one.names.container, timeout=60)
        state = await one.state()
        assert state.reason is Reason.CONTAINER_FAILING
        assert "spec.resources.memory" in state.message
        outcomes = await one.settled()
        (told,) = [str(healed) for outcome in outcomes for healed in outcome.healed]
        assert told.startswith(f"Container {one.names.container} started again after it needed more memory"), told
        assert one.running
        assert one.key_in_place() == KEY
        assert one.sh("cat /workspace/file") == "mine\n"


def hasty(blueprint: Blueprint) -> Blueprint:
    """Checked every second, given up after three: what takes minutes otherwise."""
    short = Probe(("claude", "--version"), period=1, timeout=1, failures=3)
    ready = replace(blueprint.readiness, period=1, timeout=1)
    return replace(blueprint, liveness=short, readiness=ready, startup=replace(blueprint.startup, failures=3))


@pytest.mark.parametrize(
    "seconds", [pytest.param(0, id="fails"), pytest.param(3600, id="hangs", marks=pytest.mark.slow)]
)
async def test_where_claude_code_does_not_answer_the_container_is_restarted_later_each_time(
    host: EngineDescription, seconds: int
) -> None:
    async with sandbox(host) as one:
        one.adjusted = hasty
        await one.made()
        assert (await one.started()).reason is Reason.SANDBOX_READY
        one.sh("echo mine > /workspace/file")
        before = one.inspected
        outcomes = await broken(one, seconds)
        (told,) = [str(healed) for outcome in outcomes for healed in outcome.healed]
        assert told == (
            f"Container {one.names.container} restarted after Claude Code did not answer in it any more (State.Health)"
        )
        after = one.inspected
        assert after["Id"] == before["Id"]
        assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
        assert_whole(one, await one.settled())
        assert one.sh("cat /workspace/file") == "mine\n"
        assert (await one.started()).reason is Reason.SANDBOX_READY
        (last,) = (await broken(one, seconds))[-1:]
        assert last.paced
        assert one.inspected["State"]["StartedAt"] == after["State"]["StartedAt"]
        one.clock.now += last.paced
        assert (await one.once()).healed


async def broken(one: Sandbox, seconds: int) -> list[Outcome]:
    """What the passes did until something was done, or put off, about a Claude Code that can't run any more."""
    one.sh(f"echo {seconds} > {BROKEN}")
    outcomes = []
    async with asyncio.timeout(90):
        while True:
            outcomes.append(await one.once())
            if outcomes[-1].wrote or outcomes[-1].paced:
                return outcomes
            assert not outcomes[-1].failure
            state = await one.state()
            assert (state.again is None) is (state.reason is not Reason.POD_NOT_READY)
            await asyncio.sleep(0.5)


async def test_one_that_only_lacks_its_key_or_is_paused_is_not_restarted(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        one.adjusted = hasty
        one.secrets.value = b" \n"
        await one.made()
        before = one.inspected["State"]["StartedAt"]
        await waits_for(one, lambda health: health["Status"] == "unhealthy" and health["FailingStreak"] > 5)
        assert not (await one.once()).wrote
        assert "has no key" in (await one.state()).message
        one.sh(f"echo 0 > {BROKEN}")
        await waits_for(one, lambda health: health["Log"][-1]["ExitCode"] != 1)
        pause(one)
        outcome = await one.once()
        (told,) = map(str, outcome.healed)
        assert told == f"Container {one.names.container} put back (State.Paused)"
        assert one.inspected["State"]["StartedAt"] == before


async def waits_for(one: Sandbox, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Until the engine's word on the container's health is as wanted."""
    async with asyncio.timeout(60):
        while not wanted(one.inspected["State"]["Health"]):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.3)


async def test_somebody_elses_objects_are_left_alone_and_nothing_is_started(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        api = one.sdk.api
        theirs = api.create_container(one.image, ["sleep", "1"], name=one.names.container)["Id"]
        api.create_network(one.names.network)
        api.create_volume(one.names.workspace)
        try:
            outcome = await one.once(FIRST)
            assert set(outcome.foreign) == {
                f"Container {one.names.container}",
                f"Network {one.names.network}",
                f"Volume {one.names.workspace}",
            }
            assert outcome.paced
            assert api.inspect_container(theirs)["State"]["Status"] == "created"
            assert (await one.backend.remove(one.identity, retain=False)).done
            assert api.inspect_container(theirs)["Id"] == theirs
            assert api.inspect_volume(one.names.workspace)
        finally:
            api.remove_container(theirs)
            api.remove_network(one.names.network)
            api.remove_volume(one.names.workspace)
        await one.made()


async def test_an_open_network_of_somebody_elses_is_left_at_once(host: EngineDescription) -> None:
    """Its name is the sandbox's, so that the engine would let the container onto it."""
    async with sandbox(host) as one:
        await one.made()
        remove_network(one)
        one.sdk.api.create_network(one.names.network)
        connect_own = one.sdk.api.connect_container_to_network
        connect_own(one.names.container, one.names.network)
        try:
            outcome = await one.once()
            assert outcome.foreign == (f"Network {one.names.network}",)
            assert one.networks == set()
            stop(one)
            await one.once()
            assert not one.running
        finally:
            one.sdk.api.remove_network(one.names.network)
        one.clock.now += 1000
        await one.settled()
        assert one.networks == {one.names.network}


async def test_another_container_with_our_labels_is_told_of_and_not_touched(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        labels = labels_of(CLUSTER, one.identity, names.AGENT)
        other = one.sdk.containers.run(one.image, name="impostor", labels=labels, detach=True)
        one.sdk.api.connect_container_to_network(other.id, one.names.network)
        try:
            outcome = await one.once()
            assert outcome.foreign == ("Container impostor",)
            other.reload()
            assert other.status == "running"
            # On the sandbox's own network there is nobody else.
            assert one.names.network not in other.attrs["NetworkSettings"]["Networks"]
            one.secrets.generation = "2"
            assert (await one.once()).key_sent
        finally:
            other.remove(force=True)


async def test_an_impostor_is_not_taken_for_the_container_that_is_missing(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        labels = {**one.inspected["Config"]["Labels"]}
        remove(one)
        other = one.sdk.containers.run(one.image, name="impostor", labels=labels, detach=True)
        try:
            outcome = await one.once()
            assert outcome.foreign == ("Container impostor",)
            assert not outcome.healed
            other.reload()
            assert other.name == "impostor"
        finally:
            other.remove(force=True)
        await one.settled()
        assert one.key_in_place() == KEY


async def test_what_only_a_new_container_could_mend_is_told_or_mended(host: EngineDescription) -> None:
    """A container that has everything, the name and the labels, but for one thing."""
    async with sandbox(host) as one:
        await one.made()
        labels = one.inspected["Config"]["Labels"]
        remove(one)
        loose = one.sdk.api.create_container(
            one.image,
            name=one.names.container,
            labels=labels,
            host_config=one.sdk.api.create_host_config(privileged=True, network_mode=one.names.network),
        )["Id"]
        outcomes = await one.settled()
        # It did not run, so nobody lost anything by its end.
        assert one.inspected["Id"] != loose
        assert_whole(one, outcomes)


@pytest.mark.parametrize("spec_changed", [False, True])
async def test_changed_settings_are_drift_and_put_back_in_what_runs(
    host: EngineDescription, spec_changed: bool
) -> None:
    """Also in a container of an earlier spec that its user has not let go yet: gained before, they stayed replaced."""
    async with sandbox(host) as one:
        await one.made()
        before = one.inspected["Id"]
        if spec_changed:
            one.spec["env"] = [{"name": "CI", "value": "1"}]
        mount = one.sdk.api.inspect_volume(one.names.settings)["Mountpoint"]
        engines.run_in(host, ["sh", "-c", f"rm -f {mount}/managed-settings.json"])
        # Looked at every few minutes; the operator's own restart looks again.
        one.backend._observer.changed(one.inspected["Id"])
        outcome = await one.once()
        assert outcome.wrote
        assert one.sh("cat /etc/claude-code/managed-settings.json").strip() == one.blueprint.settings.content
        outcomes = await one.settled()
        assert one.inspected["Id"] == before
        assert outcomes[-1].drifted == ()
        assert outcomes[-1].spec_changed is spec_changed
        found, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        failing = [control for control in found.controls if control.result is Result.FAIL and control.required]
        assert [control.id for control in failing] == ["OPS-03"] * spec_changed
        assert all("earlier spec" in control.message for control in failing)


async def test_a_killed_engine_is_waited_for(stand_in_image: object, engine_release: str, state_home: object) -> None:
    from dockerkit import IMAGE  # noqa: F401
    from enginekit import own, ready
    from nodekit import report

    from claude_sandbox.localcluster.images import build_image

    name = own(f"faults-{engine_release.replace('.', '-')}")
    made = ready(name, engine_release, stand_in_image, build_image("operator", report))  # type: ignore[arg-type]
    try:
        async with sandbox(made) as one:
            await one.made()
            before = await one.state()
            engines.kill(made)
            outcome = await one.once()
            assert outcome.failure is not None
            assert not outcome.failure.permanent
            state = await one.state()
            assert (state.status, state.reason) == (ConditionStatus.UNKNOWN, Reason.OBSERVATION_FAILED)
            assert state.workload == before.workload
            _, compliant, isolated = await one.backend.measure(one.blueprint, one.parsed, outcome)
            assert (compliant[0], isolated[0]) == (ConditionStatus.UNKNOWN, ConditionStatus.UNKNOWN)
            assert made.name in isolated[2]
            assert not (await one.backend.remove(one.identity, retain=False)).done
            engines.start(made)
            outcomes = await one.settled()
            assert_whole(one, outcomes)
    finally:
        engines.down(name, print)
