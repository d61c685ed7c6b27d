"""The memory of a sandbox in quarantine on engines that have CRIU: kept for one recipient, and for nobody else."""

import asyncio
import contextlib
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest
from criukit import checkpointing, key_pair, opened
from dockerkit import CLUSTER, Sandbox, furnish, process_of, sandbox
from key_search import Search
from mortal import EndedError, cut_off

from claude_sandbox.api.status_fields.incident import Checkpoint, KeptEvidence
from claude_sandbox.backends.docker.containment.keeping import keeper_of
from claude_sandbox.cli.incident.collecting import collected
from claude_sandbox.cli.local.engine_address import Tls
from claude_sandbox.cli.where import Where
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images import ImageArchive

pytestmark = pytest.mark.engine

SINCE = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECRET = "only-in-memory-4711"
# In no argument and no file: the shell puts it together from its parts.
ATTACKER = """
trap '' TERM HUP INT
part=in-memory; whole=only-$part-$((4700 + 11))
while :; do n=$((n+1)); echo $n > /tmp/count; done
"""
CALLS = 16
"""That change something, until evidence and memory are kept: with room for a few more."""


@pytest.fixture(scope="module")
def programs(engine_release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the engine's `criu`."""
    return tmp_path_factory.mktemp(f"criu-{engine_release}")


@pytest.fixture(scope="module")
def able(
    engine_release: str, state_home: Path, stand_in_image: ImageArchive, programs: Path
) -> Iterator[EngineDescription]:
    with checkpointing(engine_release, programs) as made:
        furnish(made, stand_in_image)
        yield made


@contextlib.asynccontextmanager
async def attacked(of: EngineDescription, recipient: str | None) -> AsyncIterator[Sandbox]:
    """A sandbox whose agent ignores signals, writes without end, and remembers a secret; frozen by the operator."""
    async with sandbox(of, "mallory", checkpoint_recipient=recipient) as one:
        await one.made()
        try:
            # Left alone by whoever began it, it is the first process's child, as what an agent leaves behind.
            command = ["/bin/sh", "-c", f"({ATTACKER}) &"]
            one.sdk.api.exec_start(one.sdk.api.exec_create(one.names.container, command)["Id"], detach=True)
            async with asyncio.timeout(60):
                while len(one.sh("cat /tmp/count")) < 3:  # noqa: ASYNC110 - in a container
                    await asyncio.sleep(0.1)
            yield one
        finally:
            with contextlib.suppress(docker.errors.NotFound):
                one.sdk.containers.get(keeper_of(CLUSTER, one.identity)).remove(v=True)
                one.sdk.volumes.get(keeper_of(CLUSTER, one.identity)).remove(force=True)


async def kept(one: Sandbox) -> KeptEvidence:
    """The evidence, of a sandbox that is frozen for it."""
    await one.backend.contain(one.identity, SINCE, {})
    found = await one.backend.keep_evidence(one.identity, SINCE, {})
    assert isinstance(found, KeptEvidence), found
    return found


async def fetched(of: EngineDescription, what: KeptEvidence | Checkpoint, output: Path) -> Path:
    """As the command fetches it."""
    live = {"metadata": {"namespace": "agents", "name": "mallory"}, "status": {"placement": {"host": of.name}}}
    told, where = what.model_dump(mode="json", by_alias=True), Where(None, None, None, of.socket, Tls())
    await collected(None, live, told, output, where)  # type: ignore[arg-type]
    return output


def readable(of: EngineDescription) -> list[str]:
    """Where on the engine's machine the secret can be read by who has all of its disks."""
    inside = Search(SECRET).in_files(Path("/run"), within=("nsenter", f"--mount={of.mntns}", "--"))
    return Search(SECRET).in_files(of.places.root) + inside


def left(one: Sandbox) -> list[str]:
    """What was only there to encrypt a checkpoint."""
    found = [*one.sdk.api.containers(all=True), *(one.sdk.api.volumes()["Volumes"] or ())]
    return [str(each) for each in found if "-checkpoint" in str(each.get("Names") or each.get("Name"))]


@pytest.mark.by_turns
async def test_its_memory_is_kept_for_the_recipient_alone_and_it_never_goes_on(
    able: EngineDescription, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipient, key = key_pair(tmp_path)
    async with attacked(able, recipient) as one:
        count = process_of(one) / "root/tmp/count"
        one.sdk.api.exec_start(one.sdk.api.exec_create(one.names.container, ["sleep", "600"])["Id"], detach=True)
        await one.backend.contain(one.identity, SINCE, {})
        before = count.read_text()
        evidence = await kept(one)
        assert evidence.missing == ["agent/memory: 1 processes of sessions, which no checkpoint of a container has"]
        assert evidence.checkpoint is not None
        assert evidence.checkpoint.recipient == recipient
        assert (count.read_text(), one.inspected["State"]["Paused"], one.networks) == (before, True, set())
        archive = await fetched(able, evidence, tmp_path / "evidence.tar")
        sealed = await fetched(able, evidence.checkpoint, tmp_path / "memory.tar.age")
        plain = opened(sealed, key)
        assert plain.returncode == 0, plain.stderr
        # Kept from everybody else: on the engine's disks, in what was fetched, in what the operator said.
        assert readable(able) == []
        assert left(one) == []
        assert (await one.backend.remove(one.identity, retain=False)).done
        assert readable(able) == []
    with tarfile.open(fileobj=io.BytesIO(plain.stdout)) as tar:
        pages = [member.name for member in tar if member.isfile() and _holds(tar, member)]
    assert any("pages-" in name for name in pages), pages
    for content in (
        archive.read_bytes(),
        sealed.read_bytes(),
        caplog.text.encode(),
        evidence.model_dump_json().encode(),
    ):
        assert Search(SECRET).in_bytes("kept", content) == []
    (tmp_path / "other").mkdir()
    refused = opened(sealed, key_pair(tmp_path / "other")[1])
    assert (refused.returncode, refused.stdout) == (1, b"")


def _holds(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    file = tar.extractfile(member)
    return file is not None and SECRET.encode() in file.read()


@pytest.mark.slow
@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
@pytest.mark.timeout(900)
async def test_an_operator_that_ends_at_any_call_leaves_no_memory_that_can_be_read(
    able: EngineDescription, heard: bool, tmp_path: Path
) -> None:
    recipient, _ = key_pair(tmp_path)
    # How often there was something to be found: else it could be that nobody ever looks where it is.
    seen, finished = 0, False
    async with attacked(able, recipient) as one:
        keeping = one.backend
        await keeping.contain(one.identity, SINCE, {})
        for last in range(1, CALLS):
            one.backend = keeping
            async with cut_off(one, last, heard=heard) as mortal:
                with contextlib.suppress(EndedError):
                    await one.backend.keep_evidence(one.identity, SINCE, {})
                finished = not mortal.ended
            seen += bool(readable(able))
            # The next one has no recipient, and takes away what it finds all the same.
            found = await kept(one)
            assert (found.checkpoint, left(one)) == (None, []), last
            if finished:
                break
        assert readable(able) == []
    assert finished, "there are more calls than are tried"
    assert seen > 1


@pytest.mark.slow
async def test_memory_that_was_not_encrypted_yet_goes_with_the_sandbox(able: EngineDescription, tmp_path: Path) -> None:
    recipient, _ = key_pair(tmp_path)
    for end in ("release", "remove"):
        async with attacked(able, recipient) as one:
            await one.backend.contain(one.identity, SINCE, {})
            async with cut_off(one, 5, heard=True):
                with contextlib.suppress(EndedError):
                    await one.backend.keep_evidence(one.identity, SINCE, {})
            assert readable(able)
            if end == "release":
                assert await one.backend.release(one.identity) is None
            else:
                assert (await one.backend.remove(one.identity, retain=False)).done
            assert (left(one), readable(able)) == ([], [])


@pytest.mark.by_turns
async def test_an_engine_without_criu_is_told_of_and_all_else_is_kept(
    able: EngineDescription, programs: Path, tmp_path: Path
) -> None:
    recipient, _ = key_pair(tmp_path)
    async with attacked(able, recipient) as one:
        criu = programs / "criu"
        target = criu.readlink()
        criu.unlink()
        try:
            evidence = await kept(one)
        finally:
            criu.symlink_to(target)
        assert evidence.checkpoint is None
        assert evidence.missing[0].startswith("agent/memory: ")
        assert "criu" in evidence.missing[0]
        assert evidence.files > 5
        assert left(one) == []
        assert one.inspected["State"]["Paused"] is True


@pytest.mark.by_turns
async def test_an_engine_that_makes_no_checkpoints_is_told_of(host: EngineDescription, tmp_path: Path) -> None:
    recipient, _ = key_pair(tmp_path)
    async with attacked(host, recipient) as one:
        evidence = await kept(one)
        assert evidence.checkpoint is None
        assert "experimental" in evidence.missing[0]
        assert left(one) == []
