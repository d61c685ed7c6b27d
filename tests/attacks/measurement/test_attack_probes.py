"""The agent tries to have its network pass for isolated while it is not, or to keep that from being found out.

It shares its network with a probe, so it can listen there, take ports, and see connections. Gained where nothing stops
it: an agent that takes every free port makes all connections fail (EADDRNOTAVAIL), and a probe that takes a failed
connection for a denial says that nothing can be reached. Closed by outcomes that say nothing of the target
(`probe/outcomes.py`), a connection of the probe's with itself, and the gateway as a control.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from dockerkit import CLUSTER, HELPER, IMAGE
from listeners import listen, listening

from claude_sandbox.api.status import Result
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.names import names_of
from claude_sandbox.backends.docker.probing.running import Questions, ask
from claude_sandbox.backends.docker.probing.targets import own_networks, targets
from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.compliance.containers.networks import GATEWAY_MODE, INHIBIT
from claude_sandbox.compliance.controls.judges.probed import denial
from claude_sandbox.compliance.evidence.probes import Expected, ProbeReport
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

IDENTITY = Identity("agents", "hostile", "00000000-0000-4000-8000-00000000beef")
CALLED = names_of(CLUSTER, IDENTITY)
FEW = "40000 40003"
"""The ports that the kernel gives on this network, instead of 28,000: so few are taken at once."""


@pytest.fixture
def sdk(host: EngineDescription) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(base_url=host.socket, timeout=60, version="auto")) as found:
        yield found


@pytest.fixture
def network(sdk: docker.DockerClient) -> Iterator[Any]:
    # As sandboxes have it: the host has no address there.
    isolates = tuple(map(int, sdk.version()["ApiVersion"].split("."))) >= (1, 48)
    apart = {GATEWAY_MODE: "isolated"} if isolates else {INHIBIT: "true"}
    made = sdk.networks.create(CALLED.network, internal=True, options=apart)
    yield made
    made.remove()


@contextlib.contextmanager
def agent(sdk: docker.DockerClient, script: str, listens: int) -> Iterator[Any]:
    """A hostile sandbox, as soon as it listens on so many ports."""
    made = sdk.containers.run(
        IMAGE,
        ["sh", "-c", f"{script} while :; do sleep 1; done"],
        entrypoint="/bin/busybox",
        name=CALLED.container,
        network=CALLED.network,
        user="1000:1000",
        cap_drop=["ALL"],
        sysctls={"net.ipv4.ip_local_port_range": FEW, "net.ipv4.ip_unprivileged_port_start": "0"},
        detach=True,
    )
    try:
        yield listening(made, listens) if listens else made
    finally:
        made.remove(force=True)


@contextlib.contextmanager
def reachable(sdk: docker.DockerClient, network: Any) -> Iterator[str]:
    """The address of something on the network that is denied, and that answers."""
    made = sdk.containers.run(IMAGE, listen(80), entrypoint="/bin/busybox", network=network.name, detach=True)
    try:
        listening(made, 1)
        yield str(made.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"])
    finally:
        made.remove(force=True)


async def probe(sdk: docker.DockerClient, joined: Any, network: Any, *wanted: Wanted) -> ProbeReport:
    network.reload()
    own = own_networks(network.attrs)
    # By whose address an older engine leads everything to nobody.
    nobody = [one for one in targets(CALLED, network.attrs, None, None) if one.expected is Expected.SILENT]
    asked = Questions(IDENTITY, CLUSTER, CALLED, joined.attrs, (*wanted, *nobody), own)
    return await ask(Engine(lambda: sdk.api), HELPER, asked)


async def test_an_agent_that_takes_every_port_proves_nothing(sdk: docker.DockerClient, network: Any) -> None:
    taking = " ".join(f"nc -l -p {port} &" for port in range(40000, 40004))
    with reachable(sdk, network) as address:
        wanted = Wanted("what is denied", address, 80, Expected.DENIED)
        with agent(sdk, "", 0) as idle:
            assert denial(await probe(sdk, idle, network, wanted)).result is Result.FAIL
        with agent(sdk, taking, 4) as hostile:
            report = await probe(sdk, hostile, network, wanted)
            assert report.tried[0].outcome != "connected", "the attack does not work"
            assert not report.able
            assert denial(report).result is Result.UNKNOWN


async def test_what_the_agent_listens_on_is_nowhere_but_with_itself(sdk: docker.DockerClient, network: Any) -> None:
    """Neither a metadata service nor a gateway of its own making is taken for one."""
    own = " ".join(f"nc -ll -p {port} -e /bin/echo &" for port in (80, 8080))
    metadata = Wanted("the metadata service", "169.254.169.254", 80, Expected.DENIED)
    gateway = Wanted("its gateway", "10.213.9.9", 8080, Expected.ALLOWED)
    with agent(sdk, own, 2) as hostile:
        assert denial(await probe(sdk, hostile, network, metadata)).result is Result.PASS
        assert denial(await probe(sdk, hostile, network, metadata, gateway)).result is Result.UNKNOWN


async def test_the_agent_can_neither_end_nor_read_what_probes(sdk: docker.DockerClient, network: Any) -> None:
    """It looks for other processes than its own, over and over, and kills what it finds."""
    hunting = "(while :; do cat /proc/[0-9]*/cmdline; echo; kill -9 -1; sleep 0.1; done) &"
    metadata = Wanted("the metadata service", "169.254.169.254", 80, Expected.DENIED)
    with agent(sdk, hunting, 0) as hostile:
        # What looks from the agent's own container doesn't live long enough to tell, and may be killed unseen.
        for _ in range(50):
            assert b"alive" not in hostile.exec_run(["sh", "-c", "sleep 5; echo alive"])[1], "the attack does not work"
            if b"alive" in hostile.logs():
                break
        assert denial(await probe(sdk, hostile, network, metadata)).result is Result.PASS
        seen = hostile.logs().decode(errors="replace")
        assert "alive" in seen, "it looks for none"
        assert "claude_sandbox" not in seen
