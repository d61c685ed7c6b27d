"""Repositories in a sandbox on a real engine: cloned before the agent begins, pushed as declared, without a credential
in the sandbox."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dockerkit import FIRST, IMAGE, LATER, PRODUCTION, Sandbox, process_of, remove_tools, sandbox
from git_process import TOKEN, GitProcess, git_server_for
from key_search import Search, processes, told

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.api.status import Result
from claude_sandbox.backends.base import Past
from claude_sandbox.blueprint.model import Image
from claude_sandbox.controller.sandboxes.reporting.repositories import condition, reported
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.localcluster.node.namespaces import enter

pytestmark = [pytest.mark.engine, pytest.mark.by_turns]

HOST = "git.example.org"
PUSH = {"branches": ["claude/*"], "protectedPaths": [".github/**"]}
IN_PRODUCTION = PRODUCTION | {
    "workspace": {"type": "PersistentVolumeClaim", "size": "1Gi"},
}
IN_MEMORY = {"workspace": {"type": "EmptyDir"}}
WRONG = {"host": HOST.encode(), "token": b"a-token-that-opens-nothing"}


@pytest.fixture
def server(host: EngineDescription, tmp_path: Path) -> Iterator[tuple[GitProcess, dict[str, Any]]]:
    """A git server that wants a token, and what gateways are told so that they reach it."""
    with git_server_for(host, tmp_path, HOST) as found:
        yield found


@pytest.fixture
async def one(
    host: EngineDescription, image: dict[str, str], server: tuple[GitProcess, dict[str, Any]]
) -> AsyncIterator[Sandbox]:
    """Of the operator's own image, with a Secret for the server."""
    git, settings = server
    async with sandbox(host, gateways=settings) as made:
        made.image = f"{image['repository']}:{image['tag']}"
        made.secrets.of_git["git"] = {"host": f"{HOST}:{git.port}".encode(), "token": TOKEN.encode()}
        yield made


def declaring(*repositories: dict[str, Any], **spec: Any) -> dict[str, Any]:
    credentials = {"apiKeySecretRef": {"name": "anthropic"}, "delivery": "Brokered"}
    return {"credentials": credentials, "repositories": list(repositories), **spec}


def repository(git: GitProcess, name: str = "project", **more: Any) -> dict[str, Any]:
    url = f"https://{HOST}:{git.port}/team/{name}"
    return {"path": f"code/{name}", "url": url, "credentialsSecretRef": {"name": "git"}, **more}


async def told_of(one: Sandbox, reason: Reason, past: Past = LATER) -> tuple[str, str]:
    """The condition RepositoriesReady, as soon as it has this reason: its status and its message."""
    declared = one.blueprint.git
    assert declared is not None
    async with asyncio.timeout(180):
        while (found := condition(declared.clones, await one.state()))[1] is not reason:
            await asyncio.sleep(0.2)
            await one.settled(past)
    return found[0].value, found[2]


async def ready(one: Sandbox) -> None:
    async with asyncio.timeout(180):
        while (await one.state()).status is not ConditionStatus.TRUE:
            await asyncio.sleep(0.2)
            await one.settled()


def of_ours(one: Sandbox) -> list[str]:
    """The containers of the sandbox that there are, by what each is."""
    label = f"claudesandbox.dev/sandbox-uid={one.identity.uid}"
    found = one.sdk.api.containers(all=True, filters={"label": label})
    return sorted(each["Labels"]["claudesandbox.dev/component"] for each in found)


async def judged(one: Sandbox) -> tuple[set[str], set[str]]:
    """The controls that fail, and those that pass, of what there is now."""
    found, _, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once(FIRST))
    passed = {control for part in found.passed for control in part.controls}
    return {each.id for each in found.controls if each.result is Result.FAIL}, passed


def commit(one: Sandbox, path: str) -> str:
    """Change a file of the project, as the agent; the commit's id."""
    changed = f"mkdir -p $(dirname {path}) && date +%N >> {path} && git add -A && git commit -qm x"
    return one.sh(f"cd /workspace/code/project && {changed} && git rev-parse HEAD").strip()


def with_a_submodule(git: GitProcess, directory: Path) -> None:
    """Another repository of the server's, `team/whole`, with `team/other` in it."""
    whole, work = git.files / "team/whole.git", directory / "work"
    work.mkdir()
    git.git("init", "-q", "--bare", "-b", "main", str(whole), at=git.files)
    git.git("init", "-q", "-b", "main", at=work)
    (work / ".gitmodules").write_text(f'[submodule "o"]\n\tpath = o\n\turl = https://{HOST}:{git.port}/team/other\n')
    commit_of_other = git.git("rev-parse", "main", at=git.files / "team/other.git")
    git.git("add", "-A", at=work)
    git.git("update-index", "--add", "--cacheinfo", f"160000,{commit_of_other},o", at=work)
    git.git("commit", "-qm", "whole", at=work)
    git.git("push", "-q", str(whole), "main", at=work)


async def test_they_are_there_before_the_agent_is_and_pushed_to_as_declared(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]], host: EngineDescription, tmp_path: Path
) -> None:
    git, _ = server
    with_a_submodule(git, tmp_path)
    head = git.refs()["refs/heads/main"]
    whole = repository(git, "whole", submodules=True)
    one.spec = declaring(repository(git, push=PUSH), repository(git, "other", depth=1), whole)
    assert (await told_of(one, Reason.CLONED))[0] == "True"
    await ready(one)
    seen = reported(None, one.blueprint.git.clones if one.blueprint.git else None, await one.state())
    assert [(each.path, each.commit == head) for each in seen or ()] == [
        ("code/project", True), ("code/other", True), ("code/whole", False)
    ]  # fmt: skip
    assert one.sh("git -C /workspace/code/other rev-list --count HEAD").strip() == "1"
    assert one.sh("cat /workspace/code/whole/o/README") == "first\n"
    assert not (await one.once()).wrote
    # What cloned is gone.
    assert of_ours(one) == ["agent", "gateway"]

    one.sh("git -C /workspace/code/project checkout -qb claude/work")
    pushed = commit(one, "src/a.py")
    said = one.sh("git -C /workspace/code/project push origin HEAD 2>&1")
    assert git.refs()["refs/heads/claude/work"] == pushed, said
    assert "main" in one.sh("git -C /workspace/code/project push origin HEAD:main 2>&1")
    commit(one, ".github/workflows/ci.yml")
    assert ".github" in one.sh("git -C /workspace/code/project push origin HEAD 2>&1")
    assert "read-only" in one.sh("git -C /workspace/code/other push origin HEAD:claude/x 2>&1")
    assert "403" in one.sh(f"git ls-remote https://{HOST}:{git.port}/team/third 2>&1")
    assert git.refs() == {"refs/heads/main": head, "refs/heads/claude/work": pushed}
    no_credential_is_in(one, host)


def no_credential_is_in(one: Sandbox, host: EngineDescription) -> None:
    """Nor in a document of the engine's, an environment, an argument or a file; the gateway alone has it, in memory."""
    search = Search(TOKEN)
    found = [hit for where, document in told(host, one.sdk) for hit in search.in_document(where, document)]
    found += [hit for where, content in processes(host) for hit in search.in_bytes(where, content)]
    found += search.in_files(host.places.root)
    found += search.in_files(host.places.root, Path("/run"), within=enter(host.names))
    inside = process_of(one) / "root"
    found += search.in_files(*(inside / part for part in ("tmp", "home", "workspace", "run", "etc")))
    assert found == []


async def test_a_refused_credential_is_told_of_and_another_one_heals_it(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    git, _ = server
    right = one.secrets.of_git["git"]
    one.secrets.of_git["git"] = WRONG
    one.spec = declaring(repository(git))
    status, message = await told_of(one, Reason.CLONE_FAILED, FIRST)
    assert (status, f"is for {HOST}," in message) == ("False", True), message
    assert (await one.state()).reason is Reason.REPOSITORIES_NOT_READY
    assert of_ours(one) == ["clone", "gateway"]
    first, token = one.sdk.api.inspect_container(one.names.cloner)["Id"], WRONG["token"]
    one.secrets.of_git["git"] = right | {"token": token}
    await one.settled()
    async with asyncio.timeout(60):
        while "code/project can't be cloned" not in message or "is for" in message:
            await asyncio.sleep(0.5)
            await one.settled()
            _, message = await told_of(one, Reason.CLONE_FAILED)
    assert "40" in message, message
    assert token.decode() not in message + one.everything()
    assert one.sdk.api.inspect_container(one.names.cloner)["Id"] == first
    one.secrets.of_git["git"] = right
    assert (await told_of(one, Reason.CLONED))[0] == "True"
    await ready(one)


async def test_in_production_and_in_an_image_of_theirs_the_agent_may_only_read_them(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    """Nothing in the sandbox could have cloned: its image has no git, and its workspace can't be written to."""
    git, _ = server
    of_the_operator = Image(one.image, None, "Never")
    one.default = of_the_operator
    one.sdk.images.get(IMAGE).tag("example.org/theirs", "1")
    digest = "sha256:" + "a" * 64
    named = Image("example.org/theirs:1", None, "Never")
    one.adjusted = lambda found: replace(found, image=named)
    one.spec = declaring(repository(git), image={"repository": "example.org/theirs", "digest": digest}, **IN_PRODUCTION)
    right, one.secrets.of_git["git"] = one.secrets.of_git["git"], WRONG
    try:
        await told_of(one, Reason.CLONE_FAILED, FIRST)
        assert of_ours(one) == ["clone", "gateway"]
        # It is judged as an init container is: by all that a sandbox's own would be.
        failed, passed = await judged(one)
        assert {"PRIV-01", "PRIV-02", "KERN-01", "FS-01", "RES-01", "NET-08"} <= passed, failed
        one.secrets.of_git["git"] = right
        await told_of(one, Reason.CLONED, FIRST)
        await ready(one)
        assert one.inspected["Config"]["Image"] == "example.org/theirs:1"
        assert one.sh("cat /workspace/code/project/README") == "first\n"
        assert "exit 1" in one.sh("touch /workspace/code/project/x")
        assert "exit" in one.sh("git --version")
        assert of_ours(one) == ["agent", "gateway"]
        assert not (await one.once()).wrote
        # What is the machine's own, as users that are not remapped, is no better or worse of the one than of the other.
        # What clones is alone in writing to the workspace, whose size no engine here can bound.
        assert failed - {"RES-07"} <= (await judged(one))[0]
    finally:
        assert (await one.backend.remove(one.identity, retain=False)).done
        remove_tools(one.sdk)


async def test_one_that_is_cut_begins_anew_and_goes_with_the_sandbox(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    git, _ = server
    right, one.secrets.of_git["git"] = one.secrets.of_git["git"], WRONG
    one.spec = declaring(repository(git))
    await told_of(one, Reason.CLONE_FAILED, FIRST)
    one.sdk.api.kill(one.names.cloner)
    await one.settled(FIRST)
    assert one.sdk.api.inspect_container(one.names.cloner)["State"]["Running"]
    # Somebody takes it away, or changes it: it comes back as it should be.
    one.sdk.api.remove_container(one.names.cloner, force=True)
    await one.settled(FIRST)
    one.sdk.api.update_container(one.names.cloner, mem_limit="1g", memswap_limit="1g")
    before = one.sdk.api.inspect_container(one.names.cloner)["Id"]
    await one.settled(FIRST)
    after = one.sdk.api.inspect_container(one.names.cloner)
    assert after["Id"] != before
    assert after["HostConfig"]["Memory"] == one.blueprint.limits.memory
    # Another key comes to it while it is at work.
    one.secrets.generation, one.secrets.value = "2", b"another-key\n"
    await one.settled(FIRST)
    assert one.sdk.api.inspect_container(one.names.cloner)["Id"] == after["Id"]
    one.spec = one.spec | {"operatingMode": "Suspended"}
    await one.settled(FIRST)
    assert of_ours(one) == []
    one.spec = one.spec | {"operatingMode": "Running"}
    await one.settled(FIRST)
    assert of_ours(one) == ["clone", "gateway"]
    one.secrets.of_git["git"] = right
    assert (await told_of(one, Reason.CLONED, FIRST))[0] == "True"
    await ready(one)


@pytest.mark.slow
async def test_a_workspace_in_memory_keeps_them_and_is_filled_anew_when_all_has_ended(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    git, _ = server
    one.spec = declaring(repository(git), **IN_MEMORY)
    await told_of(one, Reason.CLONED, FIRST)
    await ready(one)
    assert of_ours(one) == ["agent", "gateway", "holder"]
    one.sh("echo mine >/workspace/code/project/README")
    one.sdk.api.kill(one.names.container)
    await one.settled()
    await told_of(one, Reason.CLONED)
    assert one.sh("cat /workspace/code/project/README") == "mine\n"
    # As after a restart of the engine: nothing holds the files any more.
    one.sdk.api.kill(one.names.holder)
    one.sdk.api.kill(one.names.container)
    await one.settled()
    await told_of(one, Reason.CLONED)
    await ready(one)
    assert one.sh("cat /workspace/code/project/README") == "first\n"


@pytest.mark.slow
async def test_what_the_agent_made_of_them_outlives_its_container(
    one: Sandbox, server: tuple[GitProcess, dict[str, Any]]
) -> None:
    git, _ = server
    volume = {"type": "PersistentVolumeClaim", "size": "1Gi"}
    # The command of its own begins when they are there.
    command = ["sh", "-c", "cat /workspace/code/project/README >/tmp/seen; exec sleep infinity"]
    one.spec = declaring(repository(git), workspace=volume, command=command)
    await told_of(one, Reason.CLONED, FIRST)
    await ready(one)
    assert one.sh("cat /tmp/seen") == "first\n"
    before = await one.state()
    one.sh("echo mine >/workspace/code/project/README")
    one.sdk.api.kill(one.names.container)
    await one.settled()
    await ready(one)
    assert one.sh("cat /workspace/code/project/README /tmp/seen") == "mine\nmine\n"
    # Nor does a new container.
    one.sdk.api.remove_container(one.names.container, force=True)
    await one.settled()
    await ready(one)
    _, message = await told_of(one, Reason.CLONED)
    assert "were there before" in message
    assert one.sh("cat /workspace/code/project/README /tmp/seen") == "mine\nmine\n"
    # Another URL is told of, and not carried out.
    one.spec = declaring(
        repository(git) | {"url": f"https://{HOST}:{git.port}/team/other"}, workspace=volume, command=command,
        updateStrategy={"type": "Recreate"},
    )  # fmt: skip
    await one.settled(Past(provisioned=True, ran=True, settled=False))
    status, _ = await told_of(one, Reason.OTHER_REPOSITORY)
    assert status == "False"
    assert one.sh("cat /workspace/code/project/README") == "mine\n"
    assert (await one.state()).workload != before.workload
