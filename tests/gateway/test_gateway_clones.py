"""What clones a sandbox's repositories, and how git there finds the gateway: by what the operator writes for both."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest_asyncio
import repository
from aiohttp import web
from gatewaykit import PLACEHOLDER
from git_lab import AUTHORIZATION
from lfs_server import STORAGE, LfsServer, oid_of, pointer
from repository_place import Place, repository_place

from claude_sandbox.api.fields.work.repositories import Repository
from claude_sandbox.backends.cloning import outcomes_of
from claude_sandbox.backends.gateway_reports import read_document
from claude_sandbox.blueprint import repositories
from claude_sandbox.blueprint.model import Image
from claude_sandbox.claudecode.pinned import Api
from claude_sandbox.localcluster.programs import os_packages

PROGRAM = repository.ROOT / "images/sandbox/clone-repositories"


@dataclass
class Workspace:
    """An empty workspace, git's configuration as the operator writes it, and the program that clones."""

    place: Place
    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    async def clone(self, *wishes: dict[str, object], **more: str) -> tuple[int, tuple[str, ...] | None, str]:
        """How it ended, what became of each, and all that it said."""
        process = await self.begin(*wishes, **more)
        said, _ = await process.communicate()
        text = said.decode()
        assert process.returncode is not None
        return process.returncode, outcomes_of(text.splitlines()[-1] if text else ""), text

    async def begin(
        self, *wishes: dict[str, object], gateway: str = "", then: tuple[str, ...] = (), **more: str
    ) -> asyncio.subprocess.Process:
        declared = [Repository.model_validate({"url": self.place.url} | one) for one in wishes]
        given = self.path.parent / "given"
        given.mkdir(exist_ok=True)
        (given / "token").write_text(PLACEHOLDER)
        made = repositories.git(
            declared,
            Api(f"http://{gateway or self.place.gateway.broker}"),
            str(given / "token"),
            str(self.path),
            Image("x", None, ""),
        )
        assert made is not None
        (given / "config").write_text(made.config)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(given),
            "GIT_CONFIG_SYSTEM": str(given / "config"),
            "CLAUDE_SANDBOX_WORKSPACE": str(self.path),
            repositories.REPOSITORIES_VARIABLE: repositories.wishes(made.clones),
        }
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            *then,
            env=self.environment | more,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def git(self, *arguments: str, at: str = "project") -> str:
        """As the agent's git: with the operator's configuration, and nothing else."""
        process = await asyncio.create_subprocess_exec(
            "git", *arguments, cwd=self.path / at, env=self.environment, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return (await process.communicate())[0].decode().strip()


@pytest_asyncio.fixture
async def workspace(tmp_path: Path) -> AsyncIterator[Workspace]:
    (tmp_path / "token").write_text("not-for-the-agent\n")
    async with repository_place(tmp_path, {"file": str(tmp_path / "token")}, STORAGE) as place:
        (tmp_path / "workspace").mkdir()
        yield Workspace(place, tmp_path / "workspace")


async def head(workspace: Workspace, ref: str = "refs/heads/main") -> str:
    return (await workspace.place.lab.refs())[ref]


async def more_commits(workspace: Workspace, directory: Path) -> str:
    """Three more on `main`, of which the first has a tag, and a branch `work/a` that ends there; its id."""
    lab = workspace.place.lab
    await lab.run("clone", "-q", str(lab.files / "team/project.git"), str(directory))
    for number in range(3):
        (directory / "README").write_text(str(number))
        await lab.run("commit", "-qam", str(number), at=directory)
        if not number:
            await lab.run("tag", "v1", at=directory)
            await lab.run("branch", "work/a", at=directory)
    await lab.run("push", "-q", "origin", "main", "v1", "work/a", at=directory)
    return (await lab.run("rev-parse", "v1", at=directory)).strip()


async def test_one_is_cloned_once_and_never_touched_again(workspace: Workspace) -> None:
    first = await head(workspace)
    assert (await workspace.clone({"path": "project"}))[:2] == (0, (f"Cloned {first}",))
    assert await workspace.git("config", "remote.origin.url") == workspace.place.url
    assert await workspace.git("status", "--short") == ""
    (workspace.path / "project/README").write_text("the agent's")
    assert (await workspace.clone({"path": "project"}))[:2] == (0, ("Kept",))
    assert (workspace.path / "project/README").read_text() == "the agent's"
    assert sorted(one.name for one in workspace.path.iterdir()) == ["project"]


async def test_what_is_asked_for_is_checked_out(workspace: Workspace, tmp_path: Path) -> None:
    tagged = await more_commits(workspace, tmp_path / "more")
    wishes = {
        "branch": {"ref": "work/a"},
        "tag": {"ref": "v1"},
        "commit": {"ref": tagged},
        "shallow": {"depth": 1},
        "shallow-commit": {"ref": tagged, "depth": 1},
    }
    for path, wish in wishes.items():
        code, outcomes, said = await workspace.clone({"path": path, **wish})
        expected = tagged if "ref" in wish else await head(workspace)
        assert (code, outcomes) == (0, (f"Cloned {expected}",)), said
        count = int(await workspace.git("rev-list", "--count", "HEAD", at=path))
        assert count == (1 if "depth" in wish else 2 if "ref" in wish else 4)
    assert await workspace.git("branch", "--show-current", at="branch") == "work/a"


async def test_large_files_are_there_and_the_agent_s_go_where_they_came_from(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = os_packages.ensure(os_packages.Needed(("git-lfs",), ("git-lfs",)), lambda _: None).search_path()
    lab, more = workspace.place.lab, tmp_path / "more"
    content, new = os.urandom(1 << 20), os.urandom(1 << 20)
    server = LfsServer(workspace.place.port, AUTHORIZATION, {oid_of(content): content})
    lab.elsewhere |= {"/team/project.git/info/lfs/": server.api, "/storage/": server.storage}
    await lab.run("clone", "-q", str(lab.files / "team/project.git"), str(more))
    (more / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (more / "a.bin").write_text(pointer(content))
    await lab.run("-c", "filter.lfs.clean=cat", "add", "-A", at=more)
    await lab.run("commit", "-qm", "large", at=more)
    await lab.run("push", "-q", "origin", "main", at=more)

    code, outcomes, said = await workspace.clone({"path": "project", "lfs": True}, PATH=path)
    assert (code, outcomes) == (0, (f"Cloned {await head(workspace)}",)), said
    clone = workspace.path / "project"
    assert (clone / "a.bin").read_bytes() == content
    workspace.environment["PATH"] = path
    assert await workspace.git("status", "--short") == ""
    # As git-lfs is used to: by a hook of its own.
    (clone / "b.bin").write_bytes(new)
    await workspace.git("add", "-A")
    await workspace.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "another")
    said = await workspace.git("push", "origin", "HEAD:refs/heads/claude/large")
    assert server.files.get(oid_of(new)) == new, said


async def test_git_finds_the_gateway_by_every_url_of_it(workspace: Workspace) -> None:
    await workspace.clone({"path": "project"})
    at = workspace.place.at
    host, _, path = at.partition("/")
    for url in (f"https://{at}", f"https://{at}.git", f"ssh://git@{host.partition(':')[0]}/{path}",
                f"git@{host.partition(':')[0]}:{path}.git"):  # fmt: skip
        assert "refs/heads/main" in await workspace.git("ls-remote", url), url


async def test_what_was_cut_off_is_begun_anew(workspace: Workspace, tmp_path: Path) -> None:
    lab = workspace.place.lab
    await more_commits(workspace, tmp_path / "more")
    slow = asyncio.Event()
    begun = asyncio.Event()

    async def answer(_: object) -> None:
        begun.set()
        await slow.wait()

    lab.before = answer
    process = await workspace.begin({"path": "project"})
    await asyncio.wait_for(begun.wait(), 30)
    # As a container's end does it: with all that it has started.
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    lab.before = None
    slow.set()
    assert not (workspace.path / "project").exists()
    assert (await workspace.clone({"path": "project"}))[:2] == (0, (f"Cloned {await head(workspace)}",))
    assert sorted(one.name for one in workspace.path.iterdir()) == ["project"]


async def test_the_gateway_tells_how_much_of_a_clone_has_come(workspace: Workspace, tmp_path: Path) -> None:
    lab, more, posts = workspace.place.lab, tmp_path / "more", 0
    await lab.run("clone", "-q", str(lab.files / "team/project.git"), str(more))
    (more / "large").write_bytes(os.urandom(16 << 20))
    await lab.run("add", "large", at=more)
    await lab.run("commit", "-qm", "large", at=more)
    await lab.run("push", "-q", "origin", "main", at=more)

    async def stop(request: web.Request) -> None:
        nonlocal posts
        posts += request.method == "POST"
        if posts == 2:
            # The refs were asked for by the first; of what comes now the client takes nothing for a while.
            os.killpg(process.pid, signal.SIGSTOP)

    async def fetching() -> dict[str, int]:
        url = f"http://{workspace.place.gateway.health}/readyz?report"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            report = read_document(json.loads(await answer.read()).get("report"))
        return dict(report.fetching) if report is not None else {}

    lab.before = stop
    process = await workspace.begin({"path": "project"})
    try:
        async with asyncio.timeout(30):
            while not (found := (await fetching()).get(workspace.place.at, 0)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert found < 16 << 20
        os.killpg(process.pid, signal.SIGCONT)
        await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    assert await fetching() == {}


async def test_a_network_that_opens_a_moment_later_is_waited_for(workspace: Workspace, tmp_path: Path) -> None:
    git, begun = shutil.which("git"), tmp_path / "begun"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f'#!/bin/sh\necho "$*" >>{begun}\nexec {git} "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gateway = f"127.0.0.1:{taken.getsockname()[1]}"
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    process = await workspace.begin({"path": "project"}, gateway=gateway, PATH=path)
    await asyncio.sleep(1.5)
    assert process.returncode is None
    assert " clone " not in begun.read_text()
    host, _, port = workspace.place.gateway.broker.partition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async with await asyncio.start_server(through, "127.0.0.1", int(gateway.partition(":")[2])):
        said, _ = await process.communicate()
    assert outcomes_of(said.decode().splitlines()[-1]) == (f"Cloned {await head(workspace)}",)
    assert begun.read_text().count(" clone ") == 1


async def test_git_s_own_reason_is_told_and_the_others_are_cloned(workspace: Workspace) -> None:
    host = workspace.place.at.partition("/")[0]
    other = {"path": "other", "url": f"https://{host}/team/other"}
    code, outcomes, said = await workspace.clone(other, {"path": "project"}, {"path": "x", "ref": "nothing"})
    assert code == 1
    assert outcomes is not None
    assert "none of the sandbox's repositories" in outcomes[0]
    assert outcomes[1].startswith("Cloned ")
    assert "nothing" in outcomes[2]
    assert PLACEHOLDER not in said
    assert sorted(one.name for one in workspace.path.iterdir()) == ["project"]


async def test_in_a_container_of_its_own_it_tries_again_until_all_is_there_and_becomes_the_command(
    workspace: Workspace, tmp_path: Path
) -> None:
    wants, workspace.place.lab.wants = workspace.place.lab.wants, "another"
    told = tmp_path / "told"
    process = await workspace.begin({"path": "project"}, then=(str(told), "sh", "-c", 'echo "$0 $PPID"', "begun"))
    async with asyncio.timeout(30):
        while not told.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    first = outcomes_of(told.read_text())
    assert first is not None
    assert first[0].startswith("Failed")
    assert process.returncode is None
    workspace.place.lab.wants = wants
    said, _ = await process.communicate()
    assert outcomes_of(told.read_text()) == (f"Cloned {await head(workspace)}",)
    # The same process, so that what ends the container ends it.
    assert said.decode().splitlines()[-1] == f"begun {os.getpid()}"
    assert process.returncode == 0
    assert (workspace.path / "project/README").exists()


async def test_what_is_cloned_stays_said_while_another_one_is_tried_again(workspace: Workspace, tmp_path: Path) -> None:
    told = tmp_path / "told"
    process = await workspace.begin({"path": "project"}, {"path": "b", "ref": "later"}, then=(str(told), "true"))
    async with asyncio.timeout(30):
        while not told.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    lab = workspace.place.lab
    await lab.run("branch", "later", "main", at=lab.files / "team/project.git")
    await process.communicate()
    first = await head(workspace)
    assert outcomes_of(told.read_text()) == (f"Cloned {first}", f"Cloned {first}")


async def test_a_clone_of_another_url_is_told_of(workspace: Workspace) -> None:
    await workspace.clone({"path": "project"})
    moved = {"path": "project", "url": "https://git.example.org/team/moved"}
    assert (await workspace.clone(moved))[:2] == (0, ("Other",))
    (workspace.path / "notes").mkdir()
    assert (await workspace.clone(moved | {"path": "notes"}))[:2] == (0, ("Kept",))


async def test_nothing_of_an_earlier_agent_s_is_run_or_followed(workspace: Workspace, tmp_path: Path) -> None:
    """The workspace outlives the pod, and its agent may have left anything where clones are made."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (workspace.path / ".claude-sandbox-clones").symlink_to(outside)
    (workspace.path.parent / "given").mkdir()
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    ran = tmp_path / "ran"
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (hooks / "post-checkout").chmod(0o755)
    (workspace.path.parent / "given/.gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n\tfsmonitor = "touch {ran}"\n[filter "x"]\n\tsmudge = touch {ran}\n'
    )
    assert (await workspace.clone({"path": "project"}))[0] == 0
    assert not ran.exists()
    assert (outside / "kept").read_text() == "kept"
    assert sorted(outside.iterdir()) == [outside / "kept"]


def test_what_is_no_outcome_is_none() -> None:
    for text in ("", "x", "{}", "[1]", '["Done x"]', json.dumps(["Kept"] * 17), "[" * 100_000):
        assert outcomes_of(text) is None
