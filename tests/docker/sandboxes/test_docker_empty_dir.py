"""A workspace of type EmptyDir on real engines: in memory, of its size, and as long-lived as a pod's."""

import pytest
from dockerkit import FIRST, Sandbox, counted, process_of, sandbox

from claude_sandbox.api.conditions import ConditionStatus
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = pytest.mark.engine

SIZE = 32 << 20
WORKSPACE = {"type": "EmptyDir", "size": "32Mi"}
MINE = "cat /workspace/mine 2>/dev/null || echo nothing"


async def begun(one: Sandbox) -> None:
    await one.made()
    one.sh("echo mine >/workspace/mine")


def killed(one: Sandbox, *containers: str) -> None:
    for container in containers:
        one.sdk.api.kill(container)


async def test_it_outlives_its_container_and_is_bounded(host: EngineDescription) -> None:
    async with sandbox(host, workspace=WORKSPACE) as one:
        await begun(one)
        assert not (await one.once()).wrote
        before = one.inspected["State"]["Pid"]
        killed(one, one.names.container)
        await one.settled()
        assert one.inspected["State"]["Pid"] != before
        assert one.sh(MINE) == "mine\n"
        # As the agent's, and no larger than it says, however often its container ended.
        size = one.sh("cat /dev/zero >/workspace/zeros 2>/dev/null; stat -c %s /workspace/zeros")
        assert SIZE - (1 << 20) <= int(size) <= SIZE
        options = next(line for line in (process_of(one) / "mountinfo").open() if line.split()[4] == "/workspace")
        assert {"rw", "nosuid", "nodev"} <= set(options.split()[5].split(","))
        assert " - tmpfs " in options


async def test_what_holds_it_does_nothing_else_and_comes_back(host: EngineDescription) -> None:
    async with sandbox(host, workspace=WORKSPACE) as one:
        await begun(one)
        live = one.sdk.api.inspect_container(one.names.holder)
        limits = live["HostConfig"]
        assert (limits["NetworkMode"], limits["ReadonlyRootfs"], limits["CapDrop"]) == ("none", True, ["ALL"])
        assert limits["SecurityOpt"] == ["no-new-privileges:true"]
        assert live["Config"]["User"] == "65532:65532"
        assert [(mount["Destination"], mount["RW"]) for mount in live["Mounts"]] == [("/workspace", False)]
        assert not any("CLAUDE" in entry or "ANTHROPIC" in entry for entry in live["Config"]["Env"])
        killed(one, one.names.holder)
        outcomes = await one.settled()
        assert [
            (f"{healed.kind} {healed.name}", healed.reason) for outcome in outcomes for healed in outcome.healed
        ] == [(f"Holder {one.names.holder}", "Ended")]
        one.sdk.api.remove_container(one.names.holder, force=True)
        outcomes = await one.settled()
        assert [healed.reason for outcome in outcomes for healed in outcome.healed] == ["Missing"]
        one.sdk.api.update_container(one.names.holder, mem_limit="1g", memswap_limit="1g")
        await one.settled()
        assert one.sdk.api.inspect_container(one.names.holder)["HostConfig"]["Memory"] == 16 << 20
        # It holds what there was: while one of the two runs, nothing is lost.
        killed(one, one.names.container)
        await one.settled()
        assert one.sh(MINE) == "mine\n"


async def test_it_is_gone_with_a_suspension_and_with_the_sandbox(host: EngineDescription) -> None:
    before = counted(host)
    async with sandbox(host, workspace=WORKSPACE) as one:
        await begun(one)
        one.spec["operatingMode"] = "Suspended"
        await one.settled()
        assert counted(host)["containers"] == before["containers"]
        one.spec["operatingMode"] = "Running"
        await one.settled()
        assert one.sh(MINE) == "nothing\n"
        assert (await one.started()).status is ConditionStatus.TRUE
    assert counted(host) == before


@pytest.mark.by_turns
async def test_where_both_have_ended_as_with_the_engine_it_begins_empty_and_runs_again(host: EngineDescription) -> None:
    async with sandbox(host, workspace=WORKSPACE) as one:
        await begun(one)
        killed(one, one.names.holder, one.names.container)
        await one.settled()
        assert one.sh(MINE) == "nothing\n"
        assert (await one.started()).status is ConditionStatus.TRUE


@pytest.mark.by_turns
async def test_another_size_is_had_with_another_container(host: EngineDescription) -> None:
    async with sandbox(host, workspace=WORKSPACE, updateStrategy={"type": "Recreate"}) as one:
        await begun(one)
        one.spec["workspace"] = WORKSPACE | {"size": "16Mi"}
        await one.settled(FIRST)
        size = one.sh("cat /dev/zero >/workspace/zeros 2>/dev/null; stat -c %s /workspace/zeros")
        assert 15 << 20 <= int(size) <= 16 << 20
