"""The operator ends at any call to the engine, before or after it: the next one brings all to the same end."""

import contextlib

import pytest
from dockerkit import FIRST, KEY, LATER, counted, sandbox
from enginekit import shared_by_engines
from mortal import EndedError, cut_off

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

# Calls that change something, from the first pass to a running sandbox: with room for a few more.
CALLS = 16


@shared_by_engines("heard", {"before": False, "after": True})
async def test_making_a_sandbox(host: EngineDescription, heard: bool) -> None:
    before = counted(host)
    async with sandbox(host) as one:
        finished = False
        for last in range(1, CALLS):
            async with cut_off(one, last, heard=heard) as mortal:
                with contextlib.suppress(EndedError):
                    await one.once(FIRST)
                finished = not mortal.ended
            await one.settled(FIRST)
            assert one.running
            assert one.networks == {one.names.network}
            assert one.key_in_place() == KEY
            found = counted(host)
            assert found["containers"] == [f"['/{one.names.container}']"]
            assert len(found["volumes"]) == len(before["volumes"]) + 3
            assert (await one.backend.remove(one.identity, retain=False)).done
            assert counted(host) == before
            if finished:
                break
        assert finished, "there are more calls than are tried"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
async def test_making_a_sandbox_with_a_gateway(host: EngineDescription, heard: bool) -> None:
    before = counted(host)
    brokered = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}
    async with sandbox(host, credentials=brokered) as one:
        finished = False
        for last in range(1, 2 * CALLS):
            async with cut_off(one, last, heard=heard) as mortal:
                with contextlib.suppress(EndedError):
                    await one.once(FIRST)
                finished = not mortal.ended
            await one.settled(FIRST)
            state = await one.started()
            assert (state.status, state.key_generation) == (ConditionStatus.TRUE, "1"), (last, state)
            assert one.key_in_place().startswith(b"csb-")
            found = counted(host)
            assert found["containers"] == sorted(f"['/{name}']" for name in (one.names.container, one.names.gateway))
            assert len(found["networks"]) == len(before["networks"]) + 2
            assert (await one.backend.remove(one.identity, retain=False)).done
            assert counted(host) == before
            if finished:
                break
        assert finished, "there are more calls than are tried"


@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
async def test_replacing_and_healing_a_sandbox(host: EngineDescription, heard: bool) -> None:
    async with sandbox(host, updateStrategy={"type": "Recreate"}) as one:
        await one.made()
        one.sh("echo mine > /workspace/file")
        finished = False
        for last in range(1, CALLS):
            one.spec["env"] = [{"name": "ROUND", "value": str(last)}]
            one.sdk.api.connect_container_to_network(one.names.container, "bridge")
            async with cut_off(one, last, heard=heard) as mortal:
                with contextlib.suppress(EndedError):
                    await one.once(LATER)
                finished = not mortal.ended
            await one.settled(LATER)
            assert one.sh("echo $ROUND; cat /workspace/file") == f"{last}\nmine\n"
            assert one.networks == {one.names.network}
            assert one.key_in_place() == KEY
            if finished:
                break
        assert finished, "there are more calls than are tried"
