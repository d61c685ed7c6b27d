"""What a sandbox ran out of, on real engines of this machine: each is brought about by what runs in it, and told."""

import pytest
from dockerkit import Sandbox, sandbox

from claude_sandbox.api.conditions import Reason
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


async def told(one: Sandbox) -> tuple[Reason | None, str]:
    """What is said of it now. It changes once a minute at most, so nothing may have been asked before."""
    await one.once()
    found = await one.state()
    return found.strained, "; ".join(found.pressure)


async def test_a_sandbox_that_has_all_that_it_needs_is_not_strained(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        assert await told(one) == (None, "")


async def test_full_scratch_space_is_told_with_where_and_what_to_do(host: EngineDescription) -> None:
    async with sandbox(host, resources={"memory": "512Mi"}) as one:
        await one.made()
        assert "exit" in one.sh("cat /dev/zero >/tmp/zeros 2>/dev/null")
        reason, clause = await told(one)
        assert (reason, "/tmp is full" in clause, "remove files" in clause) == (Reason.NO_ROOM_LEFT, True, True)


async def test_so_is_a_full_workspace_in_memory(host: EngineDescription) -> None:
    async with sandbox(host, workspace={"type": "EmptyDir", "size": "16Mi"}) as one:
        await one.made()
        assert "exit" in one.sh("cat /dev/zero >/workspace/zeros 2>/dev/null")
        reason, clause = await told(one)
        assert (reason, "raise spec.workspace.size" in clause) == (Reason.NO_ROOM_LEFT, True)


async def test_a_process_that_is_killed_for_memory_is_told(host: EngineDescription) -> None:
    async with sandbox(host, resources={"memory": "512Mi"}) as one:
        await one.made()
        assert "exit 137" in one.sh("/bin/busybox dd if=/dev/zero of=/dev/null bs=700M count=1; exit $?")
        assert one.running
        reason, clause = await told(one)
        assert (reason, "spec.resources.memory" in clause) == (Reason.OUT_OF_MEMORY, True)


async def test_a_process_that_can_not_be_started_is_told(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        one.sh("i=0; while [ $i -lt 600 ]; do sleep 600 & i=$((i+1)); done 2>/dev/null")
        reason, clause = await told(one)
        assert (reason, "process" in clause) == (Reason.PROCESS_LIMIT_REACHED, True)


@pytest.mark.slow
async def test_one_that_is_held_back_for_want_of_cpu_is_told(host: EngineDescription) -> None:
    async with sandbox(host, resources={"cpu": "100m"}) as one:
        await one.made()
        # A minute of work and more, of two that want a tenth of a CPU's time each whole one.
        one.sh("/bin/busybox timeout 100 sh -c 'while :; do :; done & while :; do :; done'")
        reason, clause = await told(one)
        assert (reason, "spec.resources.cpu" in clause) == (Reason.CPU_THROTTLED, True)
