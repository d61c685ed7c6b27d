"""Working in a sandbox on Docker with rights in the cluster and no engine: the API server, the operator, an engine."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import OWN, Fleet, Operator, condition, create_sandbox, event_notes, get_sandbox, is_ready, prepare
from dockerkit import IMAGE, counted
from session_place import free_port, own_address, person, serve, unserve
from terminal_session import told_by_a_terminal

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES, SESSIONS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.images.recipes import recipe

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.by_turns]

NAME = f"{OWN}/alice"
PATIENCE = 60.0


@dataclass(frozen=True)
class Place:
    api: Api
    cluster: Cluster
    operator: Operator
    directory: Path

    async def worker(self) -> str:
        """The kubeconfig of somebody with the rights to work in sandboxes and no others."""
        return await person(self.api, self.cluster, self.directory, "worker", works_in=[OWN], reaches=[OWN])

    async def sessions(self) -> list[dict[str, Any]]:
        return (await self.api.list(SESSIONS, OWN)).items

    async def none_is_left(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.sessions():  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)


async def work(kubeconfig: str, *arguments: str, stdin: bytes = b"", cwd: Path) -> tuple[int, bytes, str]:
    command = [sys.executable, "-m", "claude_sandbox.cli.main", *arguments]
    environment = {**os.environ, "KUBECONFIG": kubeconfig}
    done = await asyncio.to_thread(
        subprocess.run, command, input=stdin, capture_output=True, check=False, cwd=cwd, env=environment, timeout=120
    )
    return done.returncode, done.stdout, done.stderr.decode()


def git(at: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
async def place(control_plane: Cluster, host: EngineDescription, tmp_path: Path) -> AsyncIterator[Place]:
    """One sandbox, which is ready."""
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    address = own_address()
    port = free_port(address)
    before = counted(host)
    async with Api(credentials, user_agent="tests") as api:
        service = await serve(api, OWN, address, [port])
        operator = Operator(
            control_plane, tmp_path / "log", f"--sandbox-image={IMAGE}",
            f"--relay-image={recipe('operator').reference}",
            f"--sessions-at={service}", f"--sessions-bind={address}:{port}",
        )  # fmt: skip
        operator.start()
        await operator.is_ready()
        fleet = Fleet(api)
        try:
            await fleet.add("engine-1", host.socket, allowedNamespaces={"names": [OWN]})
            await fleet.comes_to("engine-1", is_ready)
            await fleet.secret("alice", {"api-key": "not-really-a-key"}, meta.SECRET_TYPE)
            await create_sandbox(api, "alice", workspace={"type": "EmptyDir", "size": "64Mi"})
            async with asyncio.timeout(PATIENCE):
                while True:
                    found = (await get_sandbox(api, "alice") or {}).get("status") or {}
                    if found.get("conditions") and condition(found, "Ready")[0] == "True":
                        break
                    await asyncio.sleep(0.05)
            yield Place(api, control_plane, operator, tmp_path)
        finally:
            with contextlib.suppress(ApiError):
                await api.delete(SANDBOXES, "alice", OWN)
            async with asyncio.timeout(PATIENCE):
                while await get_sandbox(api, "alice") is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await fleet.close()
            await unserve(api, OWN)
            assert operator.stop() == 0, operator.log.read_text()
            print(operator.log.read_text())
    assert "Traceback" not in operator.log.read_text()
    assert counted(host) == before


async def test_one_works_in_it_with_rights_in_the_cluster_and_no_engine(place: Place, tmp_path: Path) -> None:
    alice = await place.worker()
    script = "id -u; cat; echo err >&2; exit 7"
    found = await work(alice, "shell", NAME, "--", "sh", "-c", script, stdin=b"x" * 300_000, cwd=tmp_path)
    assert found == (7, b"1000\n" + b"x" * 300_000, "err\n"), found[2]
    code, _, _ = await work(alice, "shell", NAME, "--", "no-such-command", cwd=tmp_path)
    assert code in (125, 126, 127)

    (tmp_path / "up/deep").mkdir(parents=True)
    content = os.urandom(3_000_000)
    (tmp_path / "up/deep/file").write_bytes(content)
    (tmp_path / "up/link").symlink_to("deep/file")
    assert await work(alice, "cp", "up", f"{NAME}:", cwd=tmp_path) == (0, b"", "")
    assert await work(alice, "cp", f"{NAME}:up", "down", cwd=tmp_path) == (0, b"", "")
    assert (tmp_path / "down/link").read_bytes() == content

    await work(alice, "shell", NAME, "--", "sh", "-c", "echo said > /proc/1/fd/1", cwd=tmp_path)
    code, log, _ = await work(alice, "logs", NAME, "--tail", "1", cwd=tmp_path)
    assert (code, log) == (0, b"said\n")

    await place.none_is_left()
    await event_notes(place.api, "alice", "SessionOpened", "a command runs")
    notes = await event_notes(place.api, "alice", "SessionOpened", "a log is read")
    # What is run is nobody else's business: a command may have in it what is secret.
    assert script not in str(notes) + place.operator.log.read_text()


async def test_what_the_agent_changed_is_told_by_the_same_way(place: Place, tmp_path: Path) -> None:
    alice = await place.worker()
    project = tmp_path / "project"
    project.mkdir()
    (project / "kept").write_text("kept\n")
    (project / "changed").write_text("before\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-qm", "first")):
        git(project, *command)
    commit = git(project, "rev-parse", "HEAD")
    assert (await work(alice, "cp", "project", f"{NAME}:", cwd=tmp_path))[0] == 0
    edited = "cd /workspace/project && echo after > changed && echo new > added && rm kept"
    assert (await work(alice, "shell", NAME, "--", "sh", "-c", edited, cwd=tmp_path))[0] == 0
    options = ("--path", "project", "--base", commit, "--name-status")
    code, shown, said = await work(alice, "diff", NAME, *options, cwd=tmp_path)
    assert (code, shown.splitlines()) == (0, [b"A\tadded", b"M\tchanged", b"D\tkept"]), said
    assert commit[:12] in said


async def test_a_terminal_there_has_the_size_of_the_one_here_and_a_session_ends_with_its_object(
    place: Place, tmp_path: Path
) -> None:
    alice = await place.worker()

    code, seen = await asyncio.to_thread(told_by_a_terminal, NAME, alice)
    assert code == 5, seen

    async with asyncio.timeout(PATIENCE):
        # The operator removes what has ended a moment after its client has heard of the end.
        while await place.sessions():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        running = asyncio.create_task(work(alice, "shell", NAME, "--", "sleep", "600", cwd=tmp_path))
        while not (found := [one for one in await place.sessions() if one["status"].get("openedAt")]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await place.api.delete(SESSIONS, found[0]["metadata"]["name"], OWN)
    code, _, said = await running
    assert code == 125
    assert "the session was deleted" in said
