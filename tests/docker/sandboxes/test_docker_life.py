"""A sandbox on a real engine, old and new: made, hardened, with its key, and taken away."""

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from dockerkit import CLUSTER, FIRST, KEY, LATER, Sandbox, counted, on_the_disk, process_of, sandbox

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.docker_hosts.endpoints import parse
from claude_sandbox.api.spec import BackendType
from claude_sandbox.api.status import Result
from claude_sandbox.backends.base import KeyState
from claude_sandbox.blueprint.instructions import Instructions, instructed
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.work.copying import Limits, copy_in, copy_out
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.containers import container_place
from claude_sandbox.cli.work.ways.sessions import LogOptions
from claude_sandbox.kubernetes_api.pod_exec import Channel
from claude_sandbox.localcluster.engine import EngineDescription

KEPT = {"keepHome": {"size": "64Mi"}}

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]


async def test_a_sandbox_becomes_a_container_that_is_ready_and_then_nothing_is_left_to_do(
    host: EngineDescription,
) -> None:
    async with sandbox(host) as one:
        outcomes = await one.made()
        assert outcomes[0].created == (
            f"Network {one.names.network}",
            *(f"Volume {name}" for name in one.names.volumes),
            f"Container {one.names.container}",
        )
        assert not outcomes[0].healed
        state = await one.started()
        assert (state.status, state.reason) == (ConditionStatus.TRUE, Reason.SANDBOX_READY), state
        assert "allowedCIDRs" in state.message
        assert state.workload is not None
        assert state.workload.uid == one.inspected["Id"]
        again = await one.once()
        assert not again.wrote
        assert not again.drifted


async def test_the_kernel_says_of_the_process_what_the_blueprint_promised(host: EngineDescription) -> None:
    async with sandbox(host, resources={"cpu": "1", "memory": "512Mi"}) as one:
        await one.made()
        status = (process_of(one) / "status").read_text()
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            assert line in status
        assert re.search(r"^Uid:\t1000\t1000\t1000\t1000$", status, re.MULTILINE)
        mounts = {fields[4]: fields[5] for fields in map(str.split, (process_of(one) / "mountinfo").open())}
        assert mounts["/"].startswith("ro")
        for path in ("/tmp", "/home/claude"):
            options = set(mounts[path].split(","))
            assert {"nosuid", "nodev"} <= options
            assert "noexec" not in options
        assert mounts["/run/claude-sandbox/api-key"].startswith("ro")
        assert mounts["/etc/claude-code"].startswith("ro")
        assert mounts["/workspace"].startswith("rw")
        limits = (process_of(one) / "limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert one.sh("touch /workspace/a /tmp/a /home/claude/a && stat -c %u:%g /workspace") == "1000:1000\n"
        assert "Read-only" in one.sh("touch /etc/a")
        assert "Read-only" in one.sh("touch /etc/claude-code/managed-settings.json")


async def test_the_cpu_time_that_it_has_used_is_known_and_begins_anew_with_the_container(
    host: EngineDescription,
) -> None:
    async with sandbox(host) as one:
        await one.made()
        before = (await one.started()).cpu
        assert before is not None
        one.sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
        after = (await one.backend.state(one.identity)).cpu
        assert after is not None
        assert after.container == before.container
        assert after.cpu_seconds - before.cpu_seconds > 0.05
        assert after.at > before.at
        one.sdk.containers.get(one.names.container).restart(timeout=1)
        await one.once()
        anew = (await one.started()).cpu
        assert anew is not None
        assert anew.container != before.container


async def test_the_key_is_its_owners_alone_and_nowhere_that_it_should_not_be(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        listing = one.sh("stat -c '%a %u:%g %n' /run/claude-sandbox/api-key/api-key /run/claude-sandbox/api-key")
        assert listing.splitlines() == [
            "400 1000:1000 /run/claude-sandbox/api-key/api-key",
            "700 1000:1000 /run/claude-sandbox/api-key",
        ]
        assert one.key_in_place() == KEY
        assert "Read-only" in one.sh("touch /run/claude-sandbox/api-key/a")
        word = KEY.strip()
        assert word.decode() not in one.everything()
        assert on_the_disk(host, word) == []
        # A search that finds nothing is worth something only where it finds what is there.
        assert on_the_disk(host, one.identity.uid.encode())
        assert all(not any(key.value) for key in one.secrets.handed_out)
        assert KEY.decode().strip() not in (process_of(one) / "environ").read_text()


async def test_a_new_key_is_in_place_without_a_restart(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        started = one.inspected["State"]["StartedAt"]
        one.secrets.value, one.secrets.generation = b"another-key", "2"
        outcome = await one.once()
        assert outcome.key_sent
        assert not outcome.healed
        assert one.key_in_place() == b"another-key"
        assert one.inspected["State"]["StartedAt"] == started
        assert (await one.state()).key_generation == "2"
        assert not (await one.once()).wrote


async def test_nothing_is_started_without_its_key(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        one.secrets.problem = KeyState(problem=Reason.SECRET_NOT_FOUND, message="there is none")
        for _ in range(3):
            await one.once(FIRST)
        assert not one.running
        one.secrets.problem = None
        await one.made()
        assert one.key_in_place() == KEY


async def test_a_suspended_sandbox_keeps_its_files_and_has_no_container(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        one.sh("echo mine > /workspace/file")
        one.spec["operatingMode"] = "Suspended"
        outcomes = await one.settled()
        assert outcomes[0].ended
        assert counted(host)["containers"] == []
        one.spec["operatingMode"] = "Running"
        await one.settled()
        assert one.sh("cat /workspace/file") == "mine\n"


async def test_limits_follow_the_spec_without_another_container(host: EngineDescription) -> None:
    async with sandbox(host, resources={"cpu": "1", "memory": "2Gi"}) as one:
        await one.made()
        before = one.inspected
        one.spec["resources"] = {"cpu": "1500m", "memory": "3Gi"}
        outcomes = await one.settled(LATER)
        after = one.inspected
        assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
        assert after["HostConfig"]["Memory"] == after["HostConfig"]["MemorySwap"] == 3 << 30
        assert after["HostConfig"]["NanoCpus"] == 1_500_000_000
        assert not outcomes[-1].spec_changed


async def test_another_spec_is_told_of_or_carried_out_as_the_update_strategy_says(host: EngineDescription) -> None:
    async with sandbox(host, env=[{"name": "COLOUR", "value": "red"}]) as one:
        await one.made()
        one.sh("echo mine > /workspace/file")
        before = one.inspected["Id"]
        one.spec["env"] = [{"name": "COLOUR", "value": "blue"}]
        told = (await one.settled())[-1]
        assert told.spec_changed
        assert one.inspected["Id"] == before
        one.spec["updateStrategy"] = {"type": "Recreate"}
        await one.settled()
        assert one.inspected["Id"] != before
        assert one.sh("echo $COLOUR; cat /workspace/file") == "blue\nmine\n"
        assert one.key_in_place() == KEY


async def test_what_claude_code_is_told_is_there_and_goes_when_it_is_not_told_any_more(host: EngineDescription) -> None:
    told = Instructions({"model": "opus"}, {".claude/agents/a.md": "You test."})
    async with sandbox(host, updateStrategy={"type": "Recreate"}) as one:
        one.adjusted = lambda blueprint: instructed(blueprint, told)
        await one.made()
        before = one.inspected["Id"]
        assert one.sh("cat /etc/claude-code/.claude/agents/a.md") == "You test."
        assert "Read-only" in one.sh("touch /etc/claude-code/.claude/agents/b.md")
        assert '"model":"opus"' in one.sh("cat /etc/claude-code/managed-settings.json")
        # Settings come into what runs, other files need another container.
        told = Instructions({"model": "sonnet"}, told.files)
        await one.settled()
        assert one.inspected["Id"] == before
        assert '"model":"sonnet"' in one.sh("cat /etc/claude-code/managed-settings.json")
        told = Instructions({}, {".claude/commands/b.md": "Release."})
        await one.settled()
        assert one.inspected["Id"] != before
        assert one.sh("cd /etc/claude-code/.claude && cat */*") == "Release."
        # What can't be read is made for nobody.
        one.adjusted = lambda blueprint: instructed(blueprint, told, held=True)
        one.sdk.api.remove_container(one.names.container, force=True)
        await one.once()
        assert not one.running


@pytest.mark.parametrize("retain", [True, False])
async def test_a_deleted_sandbox_leaves_its_workspace_and_home_or_nothing(
    host: EngineDescription, retain: bool
) -> None:
    before = counted(host)
    async with sandbox(host, workspace=KEPT) as one:
        await one.made()
        assert one.sh("stat -c '%u %a' /home/claude/.claude") == "1000 700\n"
        one.sh("echo mine > /workspace/file; echo mine > /home/claude/.claude/file; echo mine > /home/claude/file")
        removal = await one.backend.remove(one.identity, retain=retain)
        assert removal.done
        kinds = [each.split()[0] for each in removal.removed]
        assert kinds == ["Container", *["Volume"] * (2 if retain else 4), "Network"]
        left = counted(host)
        kept = list(one.names.kept) if retain else []
        assert left == before | {"volumes": sorted([*before["volumes"], *kept])}
        assert (await one.backend.remove(one.identity, retain=retain)).removed == ()
        if retain:
            async with sandbox(host, workspace=KEPT) as next_one:
                await next_one.made()
                assert next_one.sh("cat /workspace/file /home/claude/.claude/file") == "mine\nmine\n"
                assert "No such file" in next_one.sh("cat /home/claude/file")


@pytest.mark.parametrize("profile", ["Development", "Production"])
async def test_no_required_control_fails_and_every_result_says_where_it_is_from(
    host: EngineDescription, profile: str
) -> None:
    # In Production no sandbox may hold its key.
    delivery = "Brokered" if profile == "Production" else "Mounted"
    credentials = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": delivery}
    backup = {"schedule": "30 2 * * *", "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "backups"}}
    bounds = {"budget": {"maxCostUSD": "20"}, "backup": backup} if profile == "Production" else {}
    spec = {"profile": profile, "credentials": credentials, "workspace": KEPT, "lifecycle": {"ttl": "30d"}} | bounds
    async with sandbox(host, **spec) as one:
        outcomes = await one.made()
        await one.started()
        await one.once()
        compliance, compliant, isolated = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        failed = [
            f"{each.id}: {each.message}" for each in compliance.controls if each.required and each.result is Result.FAIL
        ]
        undecided = [
            f"{each.id}: {each.message}"
            for each in compliance.controls
            if each.required and each.result is Result.UNKNOWN
        ]
        assert failed == []
        assert undecided == []
        assert compliant[0] is ConditionStatus.TRUE, compliant
        passed, required = compliance.summary.required.split("/")
        assert int(passed) == int(required) >= 25
        assert isolated[:2] == (ConditionStatus.UNKNOWN, Reason.NOT_PROBED), isolated


async def test_an_image_that_cant_be_had_is_said_and_what_to_do(host: EngineDescription) -> None:
    async with sandbox(host, image={"repository": "localhost:1/claude", "tag": "1"}) as one:
        outcomes = [await one.once(FIRST)]
        while outcomes[-1].failure is None and len(outcomes) < 10:
            assert (await one.state()).reason in (Reason.POD_PENDING, Reason.NO_WORKLOAD)
            outcomes.append(await one.once(FIRST))
        failure = outcomes[-1].failure
        assert failure is not None
        assert failure.reason is Reason.IMAGE_PULL_FAILED
        one.spec["image"]["pullPolicy"] = "Never"
        failure = (await one.once(FIRST)).failure
        assert failure is not None
        assert "docker load" in failure.message


async def test_one_works_in_it_by_the_engine_and_no_control_minds(host: EngineDescription, tmp_path: Path) -> None:
    async with sandbox(host) as one:
        await one.made()
        await one.started()
        identity = one.identity
        target = Target(identity.namespace, identity.name, identity.uid, BackendType.DOCKER, one.inspected["Id"])
        (tmp_path / "up/deep").mkdir(parents=True)
        (tmp_path / "up/deep/file").write_bytes(os.urandom(2_000_000))
        (tmp_path / "up/link").symlink_to("deep/file")
        async with container_place(EngineAddress(host.socket, parse(host.socket)), target) as place:
            await copy_in(place, tmp_path / "up", "", target.directory)
            assert one.sh("wc -c < /workspace/up/link; stat -c %u /workspace/up").split() == ["2000000", "1000"]
            await copy_out(place, "up", tmp_path / "down", target.directory, Limits(1 << 30))
            assert (tmp_path / "down/link").read_bytes() == (tmp_path / "up/link").read_bytes()
            session = await place.run(["sh", "-c", "id -u; cat; echo err >&2; exit 7"], stdin=True)
            await session.write(b"in\n")
            assert [result async for result in _results(one, "PRIV-08")] == [Result.PASS]
            await session.end_input()
            found = [part async for part in session.output()]
            assert b"".join(data for channel, data in found if channel is Channel.STDOUT) == b"1000\nin\n"
            assert b"".join(data for channel, data in found if channel is Channel.STDERR) == b"err\n"
            assert session.exit_code == 7
            await session.close()
            terminal = await place.run(["sh"], stdin=True, tty=True)
            await terminal.resize(121, 33)
            await terminal.write(b"stty size; exit 3\n")
            assert b"33 121" in b"".join([data async for _, data in terminal.output()])
            assert terminal.exit_code == 3
            await terminal.close()
            one.sh("echo said > /proc/1/fd/1; echo complained > /proc/1/fd/2")
            log = b"".join([part async for part in place.log(LogOptions(tail=2))])
            assert sorted(log.split()) == [b"complained", b"said"]
        gone = replace(target, workload="0" * 64)
        async with container_place(EngineAddress(host.socket, parse(host.socket)), gone) as place:
            with pytest.raises(WorkError, match="is not there"):
                await place.run(["true"])


async def _results(one: Sandbox, control: str) -> AsyncIterator[Result]:
    outcome = await one.once()
    compliance, _, _ = await one.backend.measure(one.blueprint, one.parsed, outcome)
    if any(control in passed.controls for passed in compliance.passed):
        yield Result.PASS
    for found in compliance.controls:
        if found.id == control:
            yield found.result


async def test_orphans_are_those_whose_sandbox_is_gone(host: EngineDescription) -> None:
    async with sandbox(host, "alice") as one, sandbox(host, "bob") as other:
        await one.made()
        await other.made()
        assert await one.backend.orphans(frozenset({one.identity.uid, other.identity.uid})) == ()
        assert await one.backend.orphans(frozenset({one.identity.uid})) == (other.identity,)
        await one.backend.remove(other.identity, retain=True)
        assert await one.backend.orphans(frozenset({one.identity.uid})) == ()
        assert one.running
        assert CLUSTER


async def test_a_runtime_of_the_host_is_had_by_its_name_and_one_that_is_not_there_is_told(
    host: EngineDescription,
) -> None:
    """It is runc's by another name: gVisor and Kata Containers take a host that has them."""
    async with sandbox(host, security={"runtimeClassName": "io.containerd.runc.v2"}) as one:
        await one.made()
        assert one.inspected["HostConfig"]["Runtime"] == "io.containerd.runc.v2"
        again = await one.once()
        assert not again.wrote
        assert not again.drifted
        # That the spec asks for another now only a new container could follow.
        one.spec.pop("security")
        outcome = await one.once()
        assert outcome.spec_changed
    async with sandbox(host, security={"runtimeClassName": "not-there"}) as one:
        outcome = await one.once(FIRST)
        assert outcome.failure is not None
        assert "not-there" in outcome.failure.message
        assert not one.running
