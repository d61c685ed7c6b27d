"""What the operator records of a sandbox's life, and that it can be verified by who has the public key alone."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger import says
from operator_process import OperatorProcess
from world import KEY, World
from worlds import Worlds

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.trail.keys import PUBLIC, public_key
from claude_sandbox.trail.verification import Verdict, verify

pytestmark = pytest.mark.controlplane
EXCEPTION = {
    "control": "IMG-01",
    "reason": "The image is built from a tag until the registry has digests.",
    "owner": "platform@example.org",
    "expires": (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%d"),
}


def _records(directory: Path) -> list[dict[str, Any]]:
    """All whole lines."""
    data = b"".join(path.read_bytes() for path in sorted(directory.glob("segment-*.jsonl")))
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def _of(directory: Path, kind: str) -> list[dict[str, Any]]:
    return [one for one in _records(directory) if one["kind"] == kind]


async def _recorded(world: World, directory: Path, kind: str, **fields: Any) -> dict[str, Any]:
    """Wait for a record with these fields."""

    for _ in range(600):
        for one in _of(directory, kind):
            if all({**one, **one["data"]}.get(name) == value for name, value in fields.items()):
                return one
        await asyncio.sleep(0.1)
    found = [one["kind"] for one in _records(directory)]
    raise AssertionError(f"never recorded: {kind} with {fields}; there is {found}\n{world.ledger.describe()}")


def _verdict(directory: Path) -> Verdict:
    return verify(directory, [public_key((directory / PUBLIC).read_text())])


async def test_the_life_of_a_sandbox_is_recorded(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "trail"
    process = world.operator(f"--trail-directory={directory}")
    await process.start()
    created = await world.create("alice")
    await world.ready("alice")
    first = await _recorded(world, directory, "SandboxCreated", name="alice", namespace=world.namespace)
    assert first["uid"] == created["metadata"]["uid"]
    assert first["data"]["by"]["operation"] == "Update"
    measured = await _recorded(world, directory, "ResultsChanged", measured=True)
    assert "NET-01" in measured["data"]["results"]["Pass"]

    await world.change(r.NETWORK_POLICIES, "sandbox-alice", {"spec": {"egress": [{}]}})
    await world.healed("alice", 0)
    healed = await _recorded(world, directory, "Healed", name="alice")
    assert "NetworkPolicy" in healed["data"]["message"]

    await world.edit("alice", compliance={"exceptions": [EXCEPTION]})
    changed = await _recorded(world, directory, "SpecChanged", generation=2)
    # Who else wrote in the same second is named as well.
    assert "user" in changed["data"]["by"]["manager"].split(", ")
    assert changed["data"]["changed"] == ["spec.compliance.exceptions"]
    excepted = await _recorded(world, directory, "ExceptionsChanged")
    assert excepted["data"]["added"] == [EXCEPTION]

    await world.change_secret(b"sk-ant-another-key-that-is-not-real")
    await _recorded(world, directory, "CredentialChanged", after={"secret": "api-key", "mountedGeneration": (
        await world.api.get(r.SECRETS, "api-key", world.namespace))["metadata"]["resourceVersion"]})  # fmt: skip

    await world.delete("alice")
    await _recorded(world, directory, "SandboxDeleted", name="alice")
    await process.stop()
    assert _records(directory)[-2]["kind"] == "OperatorStopped"
    verdict = _verdict(directory)
    assert verdict.ok, verdict.findings
    assert verdict.unfinished == 0
    text = b"".join(path.read_bytes() for path in directory.iterdir())
    assert KEY not in text
    assert b"sk-ant-another" not in text


async def test_what_changed_while_no_operator_ran_is_recorded_by_the_next(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "trail"
    process = world.operator(f"--trail-directory={directory}")
    await process.start()
    await world.create("alice")
    await world.ready("alice")
    await _recorded(world, directory, "ResultsChanged", measured=True)
    await process.crash()
    before = _records(directory)
    await world.edit("alice", operatingMode="Suspended")
    await process.start()
    await _recorded(world, directory, "SpecChanged", generation=2)
    await process.stop()
    kinds = [one["kind"] for one in _records(directory)[len(before) - 3 :]]
    assert kinds.count("OperatorStarted") == 1
    assert "SandboxCreated" not in kinds[3:]
    assert _verdict(directory).ok


async def test_at_rest_and_after_a_restart_nothing_is_recorded_of_sandboxes(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "trail"
    process = world.operator(f"--trail-directory={directory}", "--resync=1")
    await process.start()
    await world.create("alice")
    await world.ready("alice")
    await world.said("alice", "Compliant", "True")
    await process.stop()
    before = len(_records(directory))
    await process.start()
    await _evaluated(world, process)
    await process.stop()
    after = [one["kind"] for one in _records(directory)[before:]]
    assert after == ["OperatorStarted", "Checkpoint", "OperatorStopped", "Checkpoint"]


async def _evaluated(world: World, process: OperatorProcess) -> None:
    """Wait until the operator has looked at the sandbox some times."""
    name = 'controller_runtime_reconcile_total{controller="claudesandbox",result="success"}'
    for _ in range(600):
        found = await process.metrics()
        if sum(value for key, value in found.items() if key.startswith(name.partition("{")[0])) >= 3:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"it was never looked at: {await process.metrics()}")


async def test_of_two_replicas_the_leader_writes_and_the_next_goes_on(
    world: World, worlds: Worlds, tmp_path: Path
) -> None:
    directory = tmp_path / "trail"
    options = (f"--lease-namespace={world.namespace}", f"--trail-directory={directory}")
    leader = world.operator(*options, elect=True)
    standby = world.operator(*options, gate=await worlds.gate(), elect=True)
    await leader.start()
    await world.create("alice")
    await world.ready("alice")
    await standby.start()
    await standby.is_up()
    await leader.stop()
    await world.change(r.NETWORK_POLICIES, "sandbox-alice", {"spec": {"egress": [{}]}})
    await world.healed("alice", 0)
    await _recorded(world, directory, "Healed", name="alice")
    await standby.stop()
    kinds = [one["kind"] for one in _records(directory) if one["kind"].startswith("Operator")]
    assert kinds == ["OperatorStarted", "OperatorStopped"] * 2
    assert _verdict(directory).ok


async def test_without_a_disk_the_operator_goes_on_and_says_so(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "file"
    directory.write_text("no directory")
    process = world.operator(f"--trail-directory={directory}/trail")
    await process.start()
    await world.create("alice")
    await world.ready("alice")
    assert says(world.sandbox("alice"), "Ready", "True")
    assert (await process.metrics())["claudesandbox_trail_unwritable"] == 1
    directory.unlink()
    await _recorded(world, directory / "trail", "SandboxCreated", name="alice")
    gap = _of(directory / "trail", "Gap")[0]
    assert gap["data"]["why"] == "Not a directory"
    assert gap["data"]["leftOut"] == {}
    await process.stop()
    assert _verdict(directory / "trail").ok
