"""A sandbox in quarantine on a real engine, old and new, with an attacker at work in it at that moment."""

import asyncio
import contextlib
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest
from dockerkit import CLUSTER, KEY, Sandbox, counted, process_of, sandbox

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status_fields.incident import KeptEvidence
from claude_sandbox.backends.containment import SUMS
from claude_sandbox.backends.docker.containment.keeping import keeper_of
from claude_sandbox.backends.docker.engine.archives import archive_of
from claude_sandbox.cli.incident.collecting import collected
from claude_sandbox.cli.local.engine_address import Tls
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.localcluster.engine import EngineDescription

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

SINCE = datetime(2026, 11, 29, 12, tzinfo=UTC)
CONNECTED = "0100007F:2328 01 "
"""An open connection to port 9000 of the loopback, as the kernel writes it."""
ATTACKER = """
trap '' TERM HUP INT
echo the agent was here
sleep 600 | nc -l -p 9000 &
# The other end waits until that listens: where it is refused, its pipe goes on for as long as what feeds it.
until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ':2328 [0-9A-F]*:0000 0A '; do sleep 0.1; done
sleep 600 | nc 127.0.0.1 9000 &
while :; do n=$((n+1)); echo $n > /tmp/count; done
"""

OTHER_KEY = "sk-ant-" + "stolen-elsewhere-1"
STOLEN = ["/bin/sh", "-c", "sleep 600; true", "sh", "--api-key", OTHER_KEY]
"""A program of the agent's that has a key among its arguments."""


@contextlib.asynccontextmanager
async def attacked(host: EngineDescription) -> AsyncIterator[Sandbox]:
    """A sandbox whose agent ignores signals, writes without end, and is connected; its evidence goes in the end."""
    async with sandbox(host, "mallory") as one:
        await one.made()
        try:
            command = ["/bin/sh", "-c", ATTACKER]
            one.sdk.api.exec_start(one.sdk.api.exec_create(one.names.container, command)["Id"], detach=True)
            async with asyncio.timeout(60):
                while CONNECTED not in one.sh("cat /proc/net/tcp"):  # noqa: ASYNC110 - in a container
                    await asyncio.sleep(0.1)
            yield one
        finally:
            with contextlib.suppress(docker.errors.NotFound):
                one.sdk.containers.get(keeper_of(CLUSTER, one.identity)).remove(v=True)
                one.sdk.volumes.get(keeper_of(CLUSTER, one.identity)).remove(force=True)


def used(process: Path) -> list[int]:
    """The CPU time of all processes in the container's control group, in ticks."""
    parent = process.name
    children = [one for one in Path("/proc").iterdir() if one.name.isdigit()]
    own = (process / "cgroup").read_text()
    found = []
    for one in children:
        with contextlib.suppress(OSError):
            if (one / "cgroup").read_text() == own:
                found.append(sum(map(int, (one / "stat").read_text().rpartition(")")[2].split()[11:13])))
    assert found, parent
    return found


async def fetched(host: EngineDescription, kept: KeptEvidence, output: Path) -> None:
    """The archive of evidence, as the command fetches it."""
    told = kept.model_dump(mode="json", by_alias=True)
    live = {"metadata": {"namespace": "agents", "name": "mallory"}, "status": {"placement": {"host": host.name}}}
    where = Where(None, None, None, host.socket, Tls())
    # Where the engine is named, the API server is not asked for it.
    size = await collected(None, live, told, output, where)  # type: ignore[arg-type]
    assert size == kept.size


def files_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


async def test_it_is_frozen_and_cut_off_whatever_the_attacker_does_and_stays_so(host: EngineDescription) -> None:
    async with attacked(host) as one:
        process = process_of(one)
        found = await one.backend.contain(one.identity, SINCE, {})
        assert found.status is ConditionStatus.TRUE, found
        assert any(did.startswith("froze ") for did in found.did)
        assert one.inspected["State"]["Paused"] is True
        assert one.networks == set()
        before = used(process)
        await asyncio.sleep(0.5)
        assert used(process) == before
        again = await one.backend.contain(one.identity, SINCE, {})
        assert (again.status, again.did) == (ConditionStatus.TRUE, ())
        # Somebody else lets it go on.
        one.sdk.api.unpause(one.names.container)
        one.sdk.api.connect_container_to_network(one.names.container, one.names.network)
        third = await one.backend.contain(one.identity, SINCE, {})
        assert third.status is ConditionStatus.TRUE
        assert len(third.did) == 2
        assert (one.inspected["State"]["Paused"], one.networks) == (True, set())


async def test_what_it_was_is_kept_and_outlives_it(host: EngineDescription, tmp_path: Path) -> None:
    async with attacked(host) as one:
        one.sdk.api.exec_start(one.sdk.api.exec_create(one.names.container, STOLEN)["Id"], detach=True)
        async with asyncio.timeout(60):
            while OTHER_KEY not in str(one.sdk.api.top(one.names.container)):  # noqa: ASYNC110 - in a container
                await asyncio.sleep(0.1)
        contained = await one.backend.contain(one.identity, SINCE, {})
        more = {**contained.found, "claudesandbox.json": b"{}"}
        kept = await one.backend.keep_evidence(one.identity, SINCE, more)
        assert isinstance(kept, KeptEvidence), kept
        assert kept.missing == []
        # Gathered once more, as after a crash, it replaces what there was.
        kept = await one.backend.keep_evidence(one.identity, SINCE, more)
        assert isinstance(kept, KeptEvidence), kept
        removal = await one.backend.remove(one.identity, retain=False)
        assert removal.done, removal
        assert await one.backend.orphans(frozenset()) == ()
        await fetched(host, kept, tmp_path / "evidence.tar")
        files = files_of(tmp_path / "evidence.tar")
        keeper = one.sdk.containers.get(keeper_of(CLUSTER, one.identity))
        changed = tarfile.TarInfo(kept.place.rpartition("/")[2])
        keeper.put_archive("/evidence", archive_of([(changed, b"nothing happened")]))
        with pytest.raises(WorkError, match="is not what the sandbox's status says"):
            await fetched(host, kept, tmp_path / "changed.tar")
        assert not (tmp_path / "changed.tar").exists()
    assert len(files) == kept.files
    assert "trap '' TERM" in files["agent/processes.json"].decode()
    assert '"/bin/sh [redacted]"' in files["agent/processes.json"].decode()
    assert b"exec_create: /bin/sh [redacted]" in files["events.jsonl"]
    assert OTHER_KEY.encode() not in b"".join(files.values())
    assert CONNECTED in files["agent/net/tcp"].decode()
    assert json.loads(files["agent/inspect.json"])["State"]["Paused"] is True
    assert one.names.network in files["containers-before.json"].decode()
    assert json.loads(files["agent/usage.json"])["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert b'"pause"' in files["events.jsonl"]
    assert KEY.strip() not in b"".join(files.values())
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    # A program that is not ours.
    checked = await asyncio.create_subprocess_exec("sha256sum", "--check", "--strict", SUMS, cwd=tmp_path)
    assert await checked.wait() == 0


async def test_released_it_never_goes_on_and_another_is_made(host: EngineDescription) -> None:
    async with attacked(host) as one:
        await one.backend.contain(one.identity, SINCE, {})
        frozen = one.inspected["Id"]
        assert await one.backend.release(one.identity) is None
        assert not one.running
        await one.made()
        assert one.inspected["Id"] != frozen
        assert one.networks == {one.names.network}


async def test_rebuilt_with_a_fresh_workspace_nothing_mounts_the_one_before_unasked(host: EngineDescription) -> None:
    async with sandbox(host, "mallory") as one:
        await one.made()
        one.sh("echo planted > /workspace/file")
        first = one.names.workspace
        await one.backend.contain(one.identity, SINCE, {})
        assert await one.backend.release(one.identity) is None
        one.identity = replace(one.identity, workspace=2)
        await one.made()
        assert one.sh("ls -A /workspace") == ""
        assert first != one.names.workspace
        second, planted = one.names.workspace, one.sdk.volumes.get(first)
        # Whoever says no number, as the next sandbox of the name, is not given the one that was set aside.
        await one.backend.release(one.identity)
        one.identity = replace(one.identity, workspace=None)
        refused = (await one.once()).failure
        assert refused is not None
        assert (refused.permanent, refused.reason) == (True, Reason.FOREIGN_OBJECT)
        assert "spec.workspace.instance" in refused.message
        assert not one.running
        # Who writes its number has it again, for instance to look into it.
        one.identity = replace(one.identity, workspace=1)
        await one.made()
        assert one.sh("cat /workspace/file") == "planted\n"
        assert one.sdk.volumes.get(first).attrs["CreatedAt"] == planted.attrs["CreatedAt"]
        removal = await one.backend.remove(one.identity, retain=False)
        assert removal.done, removal
        # The other stays, until somebody removes it.
        one.sdk.volumes.get(second).remove()


async def test_one_that_has_nothing_is_contained(host: EngineDescription) -> None:
    before = counted(host)
    async with sandbox(host, "mallory") as one:
        found = await one.backend.contain(one.identity, SINCE, {})
        assert (found.status, found.vanished) == (ConditionStatus.TRUE, True)
    assert counted(host) == before
