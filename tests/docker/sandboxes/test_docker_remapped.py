"""Sandboxes on engines with userns-remap, old and new: root in a container is nobody on the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import account_file, ask, settled_to
from dockerkit import IMAGE, KEY, counted, furnish, process_of, sandbox
from enginekit import REMAPPED, client, own, remapping
from nodekit import report
from portkit import HTTP, asked, endpoints, relay_on, serving
from slow_provider import slow_provider_on

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.backends.docker.evidence.proc import read_process
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

AGENT = REMAPPED + 1000


@pytest.fixture(scope="module")
def remapped(engine_release: str, state_home: Path, stand_in_image: ImageArchive) -> Iterator[EngineDescription]:
    name = own(f"tests-userns-{engine_release.replace('.', '-')}")
    try:
        made = remapping(name, engine_release)
        furnish(made, stand_in_image)
        yield made
    finally:
        engine.down(name, report)


async def test_a_sandbox_is_ready_and_compliant_and_its_key_its_owners_alone(remapped: EngineDescription) -> None:
    before = counted(remapped)
    async with sandbox(remapped) as one:
        outcomes = await one.made()
        state = await one.started()
        assert (state.status, state.reason) == (ConditionStatus.TRUE, Reason.SANDBOX_READY), state
        compliance, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
        assert compliant[0] is ConditionStatus.TRUE, [
            f"{each.id}: {each.message}" for each in compliance.controls if each.required
        ]
        assert "PRIV-06" in {id for group in compliance.passed for id in group.controls}
        assert not (await one.once()).wrote
        assert outcomes[0].created

        directory = "/run/claude-sandbox/api-key"
        assert one.key_in_place() == KEY
        assert one.sh(f"stat -c '%a %u:%g' {directory}/api-key") == "400 1000:1000\n"
        assert "Read-only" in one.sh(f"touch {directory}/a")
        inside = process_of(one) / "root" / directory.lstrip("/") / "api-key"
        # On the machine it belongs to a user that nobody is.
        assert (inside.stat().st_uid, inside.stat().st_mode & 0o777) == (AGENT, 0o400)
        assert one.sh("touch /workspace/a /tmp/a && stat -c %u:%g /workspace") == "1000:1000\n"
    assert counted(remapped) == before


async def test_a_new_key_arrives_and_a_container_that_ended_gets_it_again(remapped: EngineDescription) -> None:
    async with sandbox(remapped) as one:
        await one.made()
        one.secrets.value, one.secrets.generation = b"another-key", "2"
        assert (await one.once()).key_sent
        assert one.key_in_place() == b"another-key"
        one.sdk.containers.get(one.names.container).kill()
        await one.settled()
        assert one.running
        assert one.key_in_place() == b"another-key"


async def test_a_gateway_that_is_nobody_on_the_machine_keeps_its_accounts(
    remapped: EngineDescription, tmp_path: Path
) -> None:
    spec = {"credentials": {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}}
    with slow_provider_on(remapped, tmp_path) as url:
        async with sandbox(remapped, gateways={"provider": {"baseURL": url}}, **spec) as one:
            await one.made()
            await one.started()
            for count in (1, 2):
                assert [each.status for each in await ask(one, 1)] == [200]
                assert account_file(one).parent.stat().st_uid == REMAPPED + 65532
                await settled_to(one, 10 * count)
                one.sdk.api.kill(one.names.gateway)
                await one.settled()


async def test_declared_ports_are_published_by_a_relay_that_is_nobody_on_the_machine(
    remapped: EngineDescription,
) -> None:
    before = counted(remapped)
    async with serving(remapped, relay_on(remapped), HTTP) as one:
        assert await asked(remapped, (await endpoints(one))["http"]) == "hello\n"
        assert f"Uid:\t{REMAPPED + 65532}\t" in (process_of(one, one.names.relay) / "status").read_text()
        assert not (await one.once()).wrote
    assert counted(remapped) == before


async def test_the_kernel_tells_users_as_the_container_calls_them(remapped: EngineDescription) -> None:
    async with sandbox(remapped) as one:
        await one.made()
        assert f"Uid:\t{AGENT}\t" in (process_of(one) / "status").read_text()
        found = read_process(one.inspected)
        assert found is not None
        assert set(found.numbers("Uid", found.uid_map)) == {1000}
        assert set(found.numbers("Gid", found.gid_map)) == {1000}
    # And root is root there, whatever number it has here.
    with client(remapped) as connected:
        made = connected.containers.run(IMAGE, ["sleep", "infinity"], user="0:0", detach=True, network_mode="none")
        try:
            made.reload()
            found = read_process(made.attrs)
            assert found is not None
            assert set(found.numbers("Uid", found.uid_map)) == {0}
        finally:
            made.remove(force=True)
