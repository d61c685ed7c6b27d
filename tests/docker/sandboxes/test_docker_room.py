"""How large a workspace may become on real engines: where the disk has project quotas, and where it has none."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerkit import FIRST, Sandbox, furnish, sandbox
from enginekit import own, run_inside
from nodekit import report

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Result
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


async def told_of_size(one: Sandbox) -> tuple[Result, str]:
    """What control RES-07 says of a sandbox that was made."""
    outcome = await one.once()
    compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    found = [control for control in compliance.controls if control.id == "RES-07"]
    return (found[0].result, found[0].remedy) if found else (Result.PASS, "")


async def test_without_quotas_a_sandbox_runs_and_says_that_its_size_is_not_enforced(host: EngineDescription) -> None:
    async with sandbox(host, workspace={"size": "32Mi"}) as one:
        await one.made()
        state = await one.started()
        assert state.status is ConditionStatus.TRUE
        assert "the size of its workspace is not enforced, which takes XFS or ext4 with project quotas" in state.message
        assert one.engine.enforces_sizes is False
        result, remedy = await told_of_size(one)
        assert (result, "prjquota" in remedy) == (Result.FAIL, True)


async def test_without_quotas_nothing_is_made_where_sizes_are_required(host: EngineDescription) -> None:
    async with sandbox(host, "bob", sizes_required=True, workspace={"size": "32Mi"}) as one:
        failure = (await one.once(FIRST)).failure
        assert failure is not None
        assert (failure.reason, failure.permanent) == (Reason.REJECTED, True)
        assert "spec.storage.sizes" in failure.message
        assert one.names.workspace not in {volume.name for volume in one.sdk.volumes.list()}
        assert not one.running
        one.spec["workspace"] = {"type": "EmptyDir"}
        await one.made()


@pytest.fixture
def with_quotas(tmp_path: Path, host: EngineDescription, stand_in_image: ImageArchive) -> Iterator[EngineDescription]:
    """An engine whose data is on ext4 with project quotas, which takes a kernel that has them."""
    disk, name = tmp_path / "disk", own("quotas")
    disk.touch()
    with disk.open("r+b") as file:
        file.truncate(1 << 30)
    made = ["mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", str(disk)]
    place = tmp_path / "data"
    place.mkdir()
    subprocess.run(made, check=True)
    tried = subprocess.run(["mount", "-o", "loop,prjquota", str(disk), str(place)], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("this machine's kernel has no project quotas for ext4 (CONFIG_QFMT_V2)")
    subprocess.run(["umount", str(place)], check=True)
    try:
        plain = engine.up(name, host.release, say=report)
        run_inside(plain, f"mkdir -p /run/data && mount -o loop,prjquota {disk} /run/data")
        made_of = engine.up(name, say=report, settings={"data-root": "/run/data"})
        furnish(made_of, stand_in_image)
        yield made_of
    finally:
        engine.down(name, report)


async def test_with_quotas_a_sandbox_that_fills_its_workspace_harms_nobody(with_quotas: EngineDescription) -> None:
    async with sandbox(with_quotas, workspace={"size": "32Mi"}) as one:
        await one.made()
        assert (await told_of_size(one))[0] is Result.PASS
        assert "not enforced" not in (await one.started()).message
        told = one.sh("cat /dev/zero > /workspace/zeros; stat -c %s /workspace/zeros")
        size = int(told.split()[-1])
        assert 16 << 20 <= size <= 32 << 20
