"""What can be reached from a sandbox's own network, tried by a probe: each denied target is made reachable once."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from docker.errors import APIError
from dockerkit import CLUSTER, HELPER, IMAGE, Sandbox, sandbox
from listeners import listen, listening
from world_server import PROGRAM, SERVED, SERVED6, WORLD, WORLD6

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Compliance, EvidenceSource, Result
from claude_sandbox.backends.base import Outcome
from claude_sandbox.backends.docker.documents.hardening import ICC
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.probing import running
from claude_sandbox.backends.docker.probing.running import Questions, ask
from claude_sandbox.backends.docker.probing.targets import own_networks, targets
from claude_sandbox.backends.probing.schedule import Probing
from claude_sandbox.backends.probing.wanted import NO_PORT, Named, Wanted
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.containers.networks import GATEWAY_MODE, INHIBIT
from claude_sandbox.compliance.controls.judges.probed import allowance, denial, metadata, narrower, refusals
from claude_sandbox.compliance.evidence.probes import ProbeReport
from claude_sandbox.compliance.reports.isolation import Judgement
from claude_sandbox.compliance.verdict import Verdict
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

IDENTITY = Identity("agents", "probed", "00000000-0000-4000-8000-00000000face")
CALLED = names_of(CLUSTER, IDENTITY)


async def measured(one: Sandbox) -> tuple[Compliance, Judgement, Judgement]:
    await one.once()
    return await one.backend.measure(one.blueprint, one.parsed, Outcome())


async def judged(one: Sandbox) -> Judgement:
    """What IsolationVerified says as soon as a probe has said something."""
    async with asyncio.timeout(60):
        while "under way" in (isolated := (await measured(one))[2])[2]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return isolated


@pytest.mark.parametrize("delivery", ["Brokered", "Mounted"])
async def test_isolation_is_proven_and_said(host: EngineDescription, delivery: str) -> None:
    spec = {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": delivery}}
    async with sandbox(host, probing=Probing(600), **spec) as one:
        await one.made()
        await one.started()
        isolated = await judged(one)
        assert isolated[:2] == (ConditionStatus.TRUE, Reason.POLICY_IN_PLACE), isolated
        compliance, compliant, _ = await measured(one)
        assert compliant[0] is ConditionStatus.TRUE, compliant
        proven = {"NET-03", "NET-04", "NET-09"} | ({"NET-07"} if delivery == "Brokered" else set())
        assert [proven] == [
            set(group.controls) for group in compliance.passed if group.source is EvidenceSource.NETWORK_PROBE
        ]
        # Nothing of a probe stays, and a sandbox at rest has nothing done to it because of one.
        assert (await one.settled())[-1].wrote is False
        assert [one.sdk.api.containers(all=True, filters={"name": one.names.probe})] == [[]]


async def test_a_sandbox_that_is_made_anew_is_probed_anew(host: EngineDescription) -> None:
    async with sandbox(host, probing=Probing(600)) as one:
        await one.made()
        await one.started()
        assert (await judged(one))[0] is ConditionStatus.TRUE
        one.sdk.api.remove_container(one.names.container, force=True)
        await one.settled()
        assert (await measured(one))[2][:2] == (ConditionStatus.UNKNOWN, Reason.NOT_PROBED)
        assert (await judged(one))[0] is ConditionStatus.TRUE


@dataclass
class Probed:
    """A container on a network as sandboxes have, and what a probe of it finds."""

    sdk: docker.DockerClient
    container: Any
    network: Any
    outer: Any = None
    gateway: Any = None
    others: tuple[str, ...] = ()
    named: tuple[Named, ...] = ()

    async def verdict(self) -> Verdict:
        return denial(await self.report())

    async def report(self) -> ProbeReport:
        engine = Engine(lambda: self.sdk.api)
        documents = [one.attrs if one is not None and not one.reload() else None for one in self._parts]
        network, outer, gateway = documents
        wanted = targets(CALLED, network, gateway, outer, self.others, self.named)
        asked = Questions(IDENTITY, CLUSTER, CALLED, self.container.attrs, wanted, own_networks(network))
        return await ask(engine, HELPER, asked)

    @property
    def _parts(self) -> tuple[Any, Any, Any]:
        return self.network, self.outer, self.gateway


class Made:
    """Networks and containers of one test, which go with it."""

    def __init__(self, sdk: docker.DockerClient) -> None:
        self.sdk = sdk
        self.stack = contextlib.ExitStack()
        self.isolates = tuple(map(int, sdk.version()["ApiVersion"].split("."))) >= (1, 48)

    def network(
        self, name: str, subnet: str = "", *, hostless: bool = True, internal: bool = True, ipv6: str = "", **more: Any
    ) -> Any:
        apart = {GATEWAY_MODE: "isolated"} if self.isolates else {INHIBIT: "true"}
        pools = [docker.types.IPAMPool(subnet=one) for one in (subnet, ipv6) if one]
        made = self.sdk.networks.create(
            name,
            internal=internal,
            options={ICC: "true", **(apart if hostless else {})},
            ipam=docker.types.IPAMConfig(pool_configs=pools) if pools else None,
            **more,
        )
        self.stack.callback(self._remove, made)
        return made

    @staticmethod
    def _remove(network: Any) -> None:
        network.reload()
        for member in network.containers:
            network.disconnect(member, force=True)
        network.remove()

    def container(self, name: str, network: str, command: list[str] | None = None, **more: Any) -> Any:
        made = self.sdk.containers.run(
            IMAGE,
            command or ["sleep", "infinity"],
            entrypoint="/bin/busybox",
            name=name,
            network=network,
            detach=True,
            **more,
        )
        self.stack.callback(made.remove, force=True)
        return made


@pytest.fixture
def made(host: EngineDescription) -> Iterator[Made]:
    with contextlib.closing(docker.DockerClient(base_url=host.socket, timeout=60, version="auto")) as sdk:
        found = Made(sdk)
        with found.stack:
            yield found


@pytest.fixture
async def probed(made: Made) -> Probed:
    """As a sandbox is; nothing that is denied can be reached."""
    network = made.network(CALLED.network, "10.213.0.0/28")
    one = Probed(made.sdk, made.container(CALLED.container, CALLED.network), network)
    found = await one.verdict()
    assert found.result is Result.PASS, found
    return one


async def test_a_metadata_service_is_reached_where_there_is_a_way(made: Made, probed: Probed) -> None:
    cloud = made.network("probed-cloud", "169.254.169.0/24")
    cloud_service = made.container("probed-metadata", "none", listen(80))
    made.sdk.networks.get("none").disconnect(cloud_service)
    cloud.connect(cloud_service, ipv4_address="169.254.169.254")
    listening(cloud_service, 1)
    cloud.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert "the metadata service at 169.254.169.254 can be reached" in found.message
    # The same address, written otherwise.
    assert "the metadata service at ::ffff:169.254.169.254 can be reached" in found.message
    assert metadata(await probed.report()).message == found.message


async def test_a_way_to_the_internet_is_found_without_sending_anything(made: Made, probed: Probed) -> None:
    made.sdk.networks.get("bridge").connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.UNKNOWN
    assert "there is a way to the Internet (IPv4)" in found.message
    assert "there is a way to 0.0.0.0/0" in found.message


async def test_a_metadata_service_of_ipv6_and_a_way_to_the_internet_by_it_are_found(made: Made, probed: Probed) -> None:
    cloud = made.network("probed-cloud-6", "fd00:ec2::/64", enable_ipv6=True)
    cloud_service = made.container("probed-metadata-6", "none", listen(80))
    made.sdk.networks.get("none").disconnect(cloud_service)
    cloud.connect(cloud_service, ipv6_address="fd00:ec2::254")
    listening(cloud_service, 1)
    cloud.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert "the metadata service at fd00:ec2::254 can be reached" in found.message
    cloud.disconnect(probed.container)
    cloud.disconnect(cloud_service)
    made.network("probed-way-6", "fd00:beef::/64", hostless=False, internal=False, enable_ipv6=True).connect(
        probed.container
    )
    found = await probed.verdict()
    assert found.result is Result.UNKNOWN
    assert "there is a way to the Internet (IPv6)" in found.message


SERVED_HERE = (*SERVED, Named(WORLD, NO_PORT, "icmp"))
SERVED_HERE6 = (*SERVED6, Named(WORLD6, NO_PORT, "icmp"))


@pytest.fixture
def _operator_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried from where the tests run, where somebody else may have the address."""

    async def here(wanted: tuple[Wanted, ...], _seconds: float) -> dict[str, bool]:
        return {one.name: True for one in wanted if one.elsewhere}

    monkeypatch.setattr(running, "tried_here", here)


@pytest.mark.parametrize(
    ("served", "subnet", "place"),
    [
        pytest.param(SERVED_HERE, "198.51.100.0/24", {"ipv4_address": WORLD}, id="by IPv4"),
        pytest.param(SERVED_HERE6, "2001:db8:7::/64", {"ipv6_address": WORLD6}, id="by IPv6", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("_operator_elsewhere")
async def test_servers_of_the_world_are_reached_where_there_is_a_way(
    made: Made, probed: Probed, served: tuple[Named, ...], subnet: str, place: dict[str, str]
) -> None:
    """By TCP, UDP, QUIC and ICMP."""
    probed = replace(probed, named=served)
    names = [one.wanted().name for one in served]
    found = await probed.verdict()
    assert found.result is Result.PASS, found
    assert [name for name in names if name not in found.value] == []
    world = made.network("probed-world", subnet, enable_ipv6=":" in subnet)
    program = ["python3", "-I", "-c", PROGRAM, *place.values()]
    more = {"entrypoint": [], "user": "0:0", "network": "none"}
    server = made.sdk.containers.create(HELPER.reference, program, name="probed-server", **more)
    made.stack.callback(server.remove, force=True)
    made.sdk.networks.get("none").disconnect(server)
    world.connect(server, **place)
    server.start()
    until_ready(server)
    world.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert [name for name in names if f"{name} can be reached" not in found.message] == []


@pytest.mark.usefixtures("_operator_elsewhere")
async def test_an_engine_s_resolver_that_passes_names_on_is_reached(made: Made, probed: Probed) -> None:
    """Its address is in the sandbox's network, whatever leads out of that."""
    world = made.network("probed-names", "198.51.100.0/24", hostless=False, internal=False)
    asking = made.container("probed-asking", "probed-names", dns=[WORLD])
    server = made.sdk.containers.create(
        HELPER.reference, ["python3", "-I", "-c", PROGRAM, WORLD], name="probed-server", entrypoint=[], user="0:0",
        network="none",
    )  # fmt: skip
    made.stack.callback(server.remove, force=True)
    made.sdk.networks.get("none").disconnect(server)
    world.connect(server, ipv4_address=WORLD)
    server.start()
    until_ready(server)
    found = await replace(probed, container=asking, network=world).verdict()
    assert found.result is Result.FAIL
    assert "the engine's resolver can be reached" in found.message


BY_LINK_LOCAL_ALONE = """import socket, time
while not (own := [one.split() for one in open("/proc/net/if_inet6") if one.startswith("fe80")]):
    time.sleep(0.1)
address, index = ":".join(own[0][0][n:n + 4] for n in range(0, 32, 4)), int(own[0][1], 16)
while True:
    try:
        serving = socket.socket(socket.AF_INET6)
        serving.bind((address, 8080, 0, index))
        break
    except OSError:
        time.sleep(0.1)  # until nobody else is found to have the address
serving.listen()
print("ready", flush=True)
while True: serving.accept()
"""


@pytest.mark.usefixtures("_operator_elsewhere")
async def test_who_answers_by_its_link_local_address_alone_is_reached_from_its_link(made: Made, probed: Probed) -> None:
    """By no address that an engine knows: of it only the neighbour's hardware tells."""
    link = made.network("probed-link", "10.213.9.0/24", enable_ipv6=True, ipv6="fd00:213:9::/64")
    program = ["python3", "-I", "-c", BY_LINK_LOCAL_ALONE]
    server = made.sdk.containers.create(HELPER.reference, program, name="probed-near", entrypoint=[], network="none")
    made.stack.callback(server.remove, force=True)
    made.sdk.networks.get("none").disconnect(server)
    link.connect(server, ipv4_address="10.213.9.9")
    server.start()
    until_ready(server)
    near = Named("10.213.9.9", 8080, "link-local")
    probed = replace(probed, named=(near, near._replace(protocol="tcp")))
    assert (found := await probed.verdict()).result is Result.PASS, found
    link.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert f"{near.wanted().name} can be reached" in found.message
    assert "10.213.9.9, port 8080 can be reached" not in found.message


def until_ready(server: Any) -> None:
    """Until it has said so; it ends where it can't serve."""
    for line in server.logs(stream=True, follow=True):
        if line.strip() == b"ready":
            return
    raise AssertionError(server.logs())


async def test_another_sandbox_is_reached_from_a_network_of_both(made: Made, probed: Probed) -> None:
    other = made.network("probed-other", "10.213.1.0/28")
    neighbour = made.container("probed-neighbour", "probed-other", listen(8080))
    listening(neighbour, 1)
    probed.others = (neighbour.attrs["NetworkSettings"]["Networks"]["probed-other"]["IPAddress"],)
    assert (await probed.verdict()).result is Result.PASS
    other.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert "another sandbox of the host can be reached" in found.message


async def test_the_other_side_of_its_gateway_is_reached_from_that_network(made: Made, probed: Probed) -> None:
    probed.outer = made.network(CALLED.gateway, "10.213.2.0/28", hostless=False)
    probed.gateway = made.container(CALLED.gateway, CALLED.gateway, listen(8080, 3128))
    probed.network.connect(probed.gateway)
    listening(probed.gateway, 2)
    assert (found := await probed.verdict()).result is Result.PASS, found
    probed.outer.connect(probed.container)
    found = await probed.verdict()
    assert found.result is Result.FAIL
    assert "its gateway's outer side can be reached" in found.message


async def test_a_host_that_has_an_address_on_the_sandboxs_network_answers(made: Made) -> None:
    network = made.network(CALLED.network, "10.213.3.0/28", hostless=False)
    one = Probed(made.sdk, made.container(CALLED.container, CALLED.network), network)
    found = await one.verdict()
    assert found.result is Result.FAIL
    assert "somebody answers at the host on the sandbox's own network" in found.message


@pytest.mark.slow
async def test_without_its_gateway_nothing_is_proven(made: Made, probed: Probed) -> None:
    probed.gateway = made.container(CALLED.gateway, CALLED.network)
    found = await probed.verdict()
    assert found.result is Result.UNKNOWN
    assert "its gateway, which is allowed, could not be reached" in found.message
    assert allowance(await probed.report()).result is Result.FAIL


def possible(report: ProbeReport) -> set[str]:
    """The dangerous calls that a probe could make."""
    assert isinstance(report.kernel, tuple), report.kernel
    return {one.name for one in report.kernel if one.outcome == "possible"}


@pytest.fixture
def old(made: Made) -> bool:
    """Whether the engine's own filter is older than what is known of io_uring (Engine 25)."""
    return int(made.sdk.version()["Version"].partition(".")[0]) < 25


async def test_the_kernel_refuses_dangerous_calls_to_a_sandbox(host: EngineDescription, old: bool) -> None:
    async with sandbox(host, probing=Probing(600)) as one:
        await one.made()
        await one.started()
        await judged(one)
        compliance = (await measured(one))[0]
        if old:
            found = next(control for control in compliance.controls if control.id == "KERN-07")
            assert (found.result, found.message) == (Result.FAIL, "io_uring_setup is possible")
            assert "Strict" in found.remedy
        else:
            assert ["KERN-07"] in [
                group.controls for group in compliance.passed if group.source is EvidenceSource.KERNEL_PROBE
            ]


LET_THROUGH_BY_DEFAULT = {
    *("adjtimex", "clock_adjtime", "io_setup", "mq_unlink", "vmsplice", "ptrace", "personality", "generic netlink"),
}
"""What every engine's own filter lets through, on a kernel that has it."""


async def test_the_strict_filter_refuses_them_on_every_engine(host: EngineDescription) -> None:
    strict = {"seccompProfile": {"type": "Strict"}}
    async with sandbox(host, probing=Probing(600), security=strict) as one:
        await one.made()
        await one.started()
        await judged(one)
        assert {"KERN-01", "KERN-07"} <= {id for group in (await measured(one))[0].passed for id in group.controls}
        asked = Questions(IDENTITY, CLUSTER, CALLED, one.inspected, (), (), strict=True)
        found = await ask(Engine(lambda: one.sdk.api), HELPER, asked)
        assert narrower(found).result is Result.PASS, found.strict
        # As somebody may make one behind the operator's back, or an engine may hold to another than it shows.
        host_config = {**one.inspected["HostConfig"], "SecurityOpt": ["no-new-privileges:true"]}
        wider = replace(asked, sandbox={**one.inspected, "HostConfig": host_config})
        found = await ask(Engine(lambda: one.sdk.api), HELPER, wider)
        assert isinstance(found.strict, tuple)
        possible_there = {call.name for call in found.strict if call.outcome == "possible"}
        assert possible_there >= LET_THROUGH_BY_DEFAULT
        assert {call.outcome for call in found.strict} <= {"possible", "denied"}
        assert narrower(found).result is Result.FAIL


async def test_a_container_without_a_filter_is_found_by_trying(made: Made, probed: Probed) -> None:
    """As somebody may make one behind the operator's back: the probe is confined as that is."""
    loose = made.container("probed-unconfined", CALLED.network, security_opt=["seccomp=unconfined"], cap_drop=["ALL"])
    found = await replace(probed, container=loose).report()
    assert {"unshare of users", "keyctl", "io_uring_setup", "userfaultfd", "setuid programs"} <= possible(found)
    assert refusals(found).result is Result.FAIL
    # A probe is never privileged, so it says nothing of what is.
    told = {**loose.attrs, "HostConfig": {**loose.attrs["HostConfig"], "Privileged": True}}
    privileged = await replace(probed, container=SimpleNamespace(attrs=told)).report()
    assert refusals(privileged).result is Result.UNKNOWN


def test_whatever_is_tried_is_possible_for_root_in_a_privileged_container(made: Made) -> None:
    question = json.dumps({"nonce": "n", "seconds": 1, "targets": []})
    program = ["sh", "-c", f"echo '{question}' | python3 -I -m claude_sandbox.probe"]
    more = {"entrypoint": [], "user": "0:0", "privileged": True, "network": "none"}
    asked = made.sdk.containers.create(HELPER.reference, program, **more)
    made.stack.callback(asked.remove, force=True)
    try:
        asked.start()
    except APIError as error:
        # An old runc may know fewer capabilities than the kernel has.
        pytest.skip(f"this engine runs no privileged container here: {error.explanation}")
    assert asked.wait()["StatusCode"] == 0
    came = {one["name"]: one["may"] for one in json.loads(asked.logs(stderr=False))["kernel"]}
    # Without other processes there is no memory of theirs; a kernel may be built without modules.
    assert {name for name, may in came.items() if may != "possible"} <= {"memory of others", "finit_module"}
