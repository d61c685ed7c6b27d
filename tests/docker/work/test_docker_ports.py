"""Declared ports of a sandbox on a real engine, old and new: published by a relay, and by nothing else."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from dockerkit import CLUSTER, HELPER, LATER, Sandbox, counted
from overheard import overhear
from portkit import HTTP, PORT, answers, asked, endpoints, serving

from claude_sandbox.api.status import Result
from claude_sandbox.backends.base import Outcome, Past
from claude_sandbox.backends.docker.backend import DockerBackend
from claude_sandbox.backends.pacing import Pacer
from claude_sandbox.blueprint.model import Image
from claude_sandbox.localcluster.engine import EngineDescription, run_in
from claude_sandbox.localcluster.node.namespaces import enter_network

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.mark.by_turns
async def test_a_declared_port_answers_on_the_hosts_loopback_address(
    host: EngineDescription, relay_image: Image
) -> None:
    async with serving(host, relay_image, HTTP, {"name": "none", "containerPort": 9090}) as one:
        found = await endpoints(one)
        assert set(found) == {"http", "none"}
        assert found["http"].startswith("127.0.0.1:")
        assert await asked(host, found["http"]) == "hello\n", one.sdk.containers.get(one.names.relay).logs()
        again = await one.once()
        assert not again.wrote
        assert not again.unpublished


@pytest.mark.by_turns
async def test_the_other_loopback_address_needs_nobodys_permission_either(
    host: EngineDescription, relay_image: Image
) -> None:
    async with serving(host, relay_image, HTTP | {"hostIP": "::1"}) as one:
        assert not (await one.once()).unpublished
        address = (await endpoints(one))["http"]
        assert address.startswith("[::1]:")
        assert await asked(host, address) == "hello\n"
        assert not answers(host, address.replace("[::1]", "127.0.0.1"))
        assert not (await one.once()).wrote


def machine_addresses(of: EngineDescription) -> list[str]:
    """All IPv4 addresses of the engine's own machine but those of loopback."""
    found = run_in(of, ["ip", "-4", "-o", "address", "show"]).stdout
    return [line.split()[3].partition("/")[0] for line in found.splitlines() if " lo " not in line]


async def test_it_answers_on_no_other_address_of_the_host(host: EngineDescription, relay_image: Image) -> None:
    async with serving(host, relay_image, HTTP | {"hostPort": 30080}) as one:
        assert (await endpoints(one))["http"] == "127.0.0.1:30080"
        assert await asked(host, "127.0.0.1:30080") == "hello\n"
        others = machine_addresses(host)
        assert others
        for address in others:
            assert not answers(host, f"{address}:30080"), address


@pytest.mark.by_turns
async def test_only_an_address_that_is_allowed_is_published_on(host: EngineDescription, relay_image: Image) -> None:
    web = {"name": "web", "containerPort": 9090, "hostIP": "0.0.0.0"}  # noqa: S104
    async with serving(host, relay_image, HTTP, web) as one:
        outcome = await one.once()
        for word in ("web (0.0.0.0)", "hostIP", "publishAddresses"):
            assert word in outcome.unpublished
        assert set(await endpoints(one)) == {"http"}
        assert one.running
    async with serving(host, relay_image, web, addresses=("0.0.0.0",)) as one:  # noqa: S104
        assert not (await one.once()).unpublished
        assert (await endpoints(one))["web"].startswith("0.0.0.0:")


@pytest.mark.by_turns
async def test_without_an_image_for_the_relay_all_but_the_port_is_there(host: EngineDescription) -> None:
    async with serving(host, None, HTTP) as one:
        outcome = await one.once()
        assert "--relay-image" in outcome.unpublished
        assert outcome.failure is None
        assert one.running
        assert await endpoints(one) == {}
        assert counted(host)["containers"] == [f"['/{name}']" for name in (one.names.container, one.names.holder)]


async def test_the_agent_gains_neither_a_way_out_nor_a_listener(host: EngineDescription, relay_image: Image) -> None:
    async with serving(host, relay_image, HTTP) as one:
        assert await asked(host, (await endpoints(one))["http"])
        relay = one.sdk.api.inspect_container(one.names.relay)
        networks = relay["NetworkSettings"]["Networks"]
        assert set(networks) == {one.names.network, one.names.relay}
        inner, outer = networks[one.names.network]["IPAddress"], networks[one.names.relay]["IPAddress"]
        # Of its two networks it is no router, whatever else keeps them apart.
        assert in_network_of(one, one.names.relay, ["grep", "--quiet", "^0$", "/proc/sys/net/ipv4/ip_forward"])
        with listening(host) as (target, port):
            # The control: from the relay's own outer network that target is reachable.
            assert reached(one, one.names.relay, target, port)
            for way in (inner, outer, networks[one.names.relay]["Gateway"]):
                # As root on the machine would set it up, were the agent to get there.
                assert not agent_reaches(one, way, port)
            assert not reached(one, one.names.container, target, port)
            assert not via(one, inner, target, port)
        # The relay's declared ports and every other one are closed on the sandbox's own network.
        open_ports = one.sh(
            f"for p in 22 80 {PORT} 9090 2375; do nc -w 1 {inner} $p </dev/null && echo open $p; done; true"
        )
        assert "open" not in open_ports
        # ... where something else that listens is found.
        own = one.inspected["NetworkSettings"]["Networks"][one.names.network]["IPAddress"]
        assert "hello" in one.sh(f"nc -w 2 {own} {PORT} </dev/null; true")


@contextlib.contextmanager
def listening(of: EngineDescription) -> Iterator[tuple[str, int]]:
    """Something that listens on every address of the engine's machine; one of these, and the port."""
    address, port = machine_addresses(of)[0], 18999
    program = f"import socket,time; s=socket.create_server(('0.0.0.0',{port})); print('up',flush=True); time.sleep(300)"
    command = [*enter_network(of.names), "python3", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            yield address, port
        finally:
            process.kill()


def in_network_of(one: Sandbox, container: str, argv: list[str]) -> bool:
    """Whether a program of the machine succeeds in a container's network namespace."""
    pid = one.sdk.api.inspect_container(container)["State"]["Pid"]
    return subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", *argv], check=False).returncode == 0


def reached(one: Sandbox, container: str, address: str, port: int) -> bool:
    return in_network_of(one, container, ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"])


def agent_reaches(one: Sandbox, address: str, port: int) -> bool:
    return "yes" in one.sh(f"nc -w 2 {address} {port} </dev/null && echo yes; true")


def via(one: Sandbox, gateway: str, address: str, port: int) -> bool:
    """Whether the target is reached when the relay is made the sandbox's gateway, which takes root there."""
    ip = ["ip", "route", "add", address, "via", gateway]
    assert in_network_of(one, one.names.container, ip)
    return reached(one, one.names.container, address, port)


@pytest.mark.by_turns
async def test_a_killed_relay_heals_and_keeps_its_port(host: EngineDescription, relay_image: Image) -> None:
    async with serving(host, relay_image, HTTP) as one:
        before = await endpoints(one)
        past = replace(LATER, endpoints=before)
        relay, agent = one.sdk.containers.get(one.names.relay), one.inspected["Id"]
        relay.kill()
        # It is not its turn yet; where it is published is remembered.
        assert (await one.once(past)).paced
        assert dict((await one.state()).endpoints) == before
        one.clock.now += 60
        outcomes = await one.settled(past)
        assert [(healed.kind, healed.reason) for outcome in outcomes for healed in outcome.healed] == [
            ("Relay", "Ended")
        ]
        assert await endpoints(one) == before
        assert await asked(host, before["http"]) == "hello\n"
        one.sdk.containers.get(one.names.relay).remove(force=True)
        one.clock.now += 60
        outcomes = await one.settled(past)
        healed = [str(one) for outcome in outcomes for one in outcome.healed]
        assert healed == [f"Relay {one.names.relay} made again"]
        assert await endpoints(one) == before
        assert one.inspected["Id"] == agent


@pytest.mark.by_turns
async def test_whatever_is_loosened_about_a_relay_is_put_back(host: EngineDescription, relay_image: Image) -> None:
    async with serving(host, relay_image, HTTP) as one:
        before = await endpoints(one)
        past = replace(LATER, endpoints=before)
        api = one.sdk.api

        def third() -> None:
            one.sdk.networks.get("bridge").connect(one.names.relay)

        def off_its_own() -> None:
            one.sdk.networks.get(one.names.network).disconnect(one.names.relay)

        def more_memory() -> None:
            api.update_container(one.names.relay, mem_limit="1g", memswap_limit="1g")

        def paused() -> None:
            one.sdk.containers.get(one.names.relay).pause()

        def outer_gone() -> None:
            one.sdk.networks.get(one.names.relay).disconnect(one.names.relay, force=True)
            one.sdk.networks.get(one.names.relay).remove()

        for loosen in (third, off_its_own, more_memory, paused, outer_gone):
            loosen()
            one.clock.now += 700
            outcomes = await one.settled(past)
            assert any(healed.kind == "Relay" for outcome in outcomes for healed in outcome.healed), loosen.__name__
            assert set(api.inspect_container(one.names.relay)["NetworkSettings"]["Networks"]) == {
                one.names.network, one.names.relay
            }  # fmt: skip
            # Some of it makes the engine choose another port.
            assert await endpoints(one) == before, loosen.__name__
            assert await asked(host, before["http"]) == "hello\n", loosen.__name__
        # Somebody else on the relay's outer network is taken off.
        stranger = one.sdk.containers.run(one.image, detach=True, network=one.names.relay, auto_remove=False)
        try:
            await one.settled(past)
            stranger.reload()
            assert one.names.relay not in stranger.attrs["NetworkSettings"]["Networks"]
        finally:
            stranger.remove(force=True)


@pytest.mark.by_turns
async def test_ports_come_and_go_without_the_container_being_restarted(
    host: EngineDescription, relay_image: Image
) -> None:
    wish = Past(provisioned=True, ran=True, settled=False)
    async with serving(host, relay_image) as one:
        started = one.inspected["State"]["StartedAt"]
        before = counted(host)
        one.spec["network"] = {"egress": {"allowedCIDRs": []}, "ports": [HTTP]}
        outcomes = await one.settled(wish)
        assert not any(outcome.healed or outcome.drifted or outcome.spec_changed for outcome in outcomes), outcomes
        assert await asked(host, (await endpoints(one))["http"]) == "hello\n"
        one.spec["network"] = {"egress": {"allowedCIDRs": []}, "ports": [HTTP | {"hostPort": 30081}]}
        await one.settled(wish)
        assert await endpoints(one) == {"http": "127.0.0.1:30081"}
        assert await asked(host, "127.0.0.1:30081") == "hello\n"
        one.spec["network"] = {"egress": {"allowedCIDRs": []}, "ports": []}
        outcomes = await one.settled(wish)
        assert f"Relay {one.names.relay}" in outcomes[0].removed
        assert not answers(host, "127.0.0.1:30081")
        assert await endpoints(one) == {}
        assert counted(host) == before
        assert one.inspected["State"]["StartedAt"] == started


@pytest.mark.by_turns
@pytest.mark.parametrize("knows", [True, False], ids=["lost meanwhile", "lost while nobody looked"])
async def test_with_its_last_port_goes_the_network_of_a_relay_that_was_lost(
    host: EngineDescription, relay_image: Image, knows: bool
) -> None:
    async with serving(host, relay_image, HTTP) as one:
        one.sdk.containers.get(one.names.relay).remove(force=True)
        one.spec["network"] = {"egress": {"allowedCIDRs": []}, "ports": []}
        if not knows:
            one.backend = DockerBackend(one.engine, CLUSTER, "host", one.secrets, Pacer(one.clock), helper=HELPER)
        await one.settled(Past(provisioned=True, ran=True, settled=False))
        assert one.running
        assert counted(host)["networks"] == [one.names.network]
        overheard = overhear(one)
        assert not (await one.once()).wrote
        assert not [call for call in overheard.calls if one.names.relay in call]


@pytest.mark.by_turns
async def test_a_port_of_the_host_that_is_taken_harms_nobody(host: EngineDescription, relay_image: Image) -> None:
    port = HTTP | {"hostPort": 30082}
    async with serving(host, relay_image, port) as one, serving(host, relay_image, port) as other:
        assert await asked(host, "127.0.0.1:30082") == "hello\n"
        outcome = await other.once()
        assert "30082" in outcome.unpublished
        assert "hostPort" in outcome.unpublished
        assert outcome.failure is None
        assert other.running
        assert not outcome.healed
        assert await endpoints(other) == {}
        assert not (await one.once()).wrote
        other.spec["network"] = {"egress": {"allowedCIDRs": []}, "ports": [HTTP]}
        await other.settled(Past(provisioned=True, ran=True, settled=False))
        assert not (await other.once()).unpublished
        assert await asked(host, (await endpoints(other))["http"]) == "hello\n"


@pytest.mark.by_turns
async def test_nothing_is_left_when_it_is_deleted_or_suspended(host: EngineDescription, relay_image: Image) -> None:
    before = counted(host)
    async with serving(host, relay_image, HTTP | {"hostPort": 30083}) as one:
        assert await asked(host, "127.0.0.1:30083")
        one.spec["operatingMode"] = "Suspended"
        await one.settled(Past(provisioned=True, ran=True, settled=False))
        assert counted(host)["containers"] == before["containers"]
        assert one.names.relay not in counted(host)["networks"]
        one.spec["operatingMode"] = "Running"
        await one.settled(Past(provisioned=True, ran=False, settled=False))
        assert await asked(host, "127.0.0.1:30083")
    assert counted(host) == before


@pytest.mark.by_turns
async def test_the_controls_judge_the_relay_too(host: EngineDescription, relay_image: Image) -> None:
    async with serving(host, relay_image, HTTP) as one:
        await one.started()
        found = await results(one)
        assert found["NET-11"] is Result.PASS
        assert found["NET-08"] is Result.PASS
        # An engine before 28.0 lets the host's neighbours in.
        assert found["NS-06"] is (Result.UNKNOWN if host.release == "20.10" else Result.PASS)
        one.sdk.networks.get("bridge").connect(one.names.relay)
        # Seen before it is put back.
        one.clock.now += 0.1
        outcome = await one.once(replace(LATER, endpoints=dict((await one.state()).endpoints)))
        found = await results(one, outcome)
        assert found["NET-11"] is (Result.PASS if outcome.healed else Result.FAIL)


async def results(one: Sandbox, outcome: Outcome | None = None) -> dict[str, Result]:
    outcome = outcome or await one.once()
    compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    passed = dict.fromkeys((id for some in compliance.passed for id in some.controls), Result.PASS)
    return passed | {control.id: control.result for control in compliance.controls}
