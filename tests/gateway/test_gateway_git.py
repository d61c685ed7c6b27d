"""Git by the gateway: it works without a credential, and does what was declared; a push that does more does nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from git_lab import AUTHORIZATION, GitLab, git_lab

from claude_sandbox.gateway.git.forwarder import Judging
from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.spool import Room

RULES = PushRules(("claude/*",), protected=(".github/**",))


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[GitLab]:
    async with git_lab(tmp_path, RULES) as made:
        yield made


@pytest_asyncio.fixture
async def clone(lab: GitLab, tmp_path: Path) -> Path:
    """A clone by the gateway, on a branch `claude/work` with one commit more."""
    await lab.run("clone", "-q", lab.url, str(tmp_path / "clone"))
    await lab.run("checkout", "-qb", "claude/work", at=tmp_path / "clone")
    await change(lab, tmp_path / "clone", "src/a.py", "changed")
    return tmp_path / "clone"


async def change(lab: GitLab, clone: Path, name: str, content: str) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_text(content)
    await lab.run("add", "-A", at=clone)
    await lab.run("commit", "-qm", f"change {name}", at=clone)


@pytest.mark.parametrize("version", ["0", "1", "2"])
@pytest.mark.parametrize("more", [(), ("--depth=1",), ("--filter=blob:none",)])
async def test_a_clone(lab: GitLab, tmp_path: Path, version: str, more: tuple[str, ...]) -> None:
    await lab.run("-c", f"protocol.version={version}", "clone", "-q", *more, lab.url, str(tmp_path / "clone"))
    assert (tmp_path / "clone/README").read_text() == "README\n"


async def test_without_the_gateway_a_credential_is_asked_for(lab: GitLab, tmp_path: Path) -> None:
    assert (await lab.git("clone", "-q", lab.direct, str(tmp_path / "clone"))).code != 0


async def test_a_branch_that_was_asked_for_is_pushed(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    await change(lab, clone, "src/b.py", "more")
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    refs = await lab.refs()
    assert refs["refs/heads/claude/work"] == (await lab.run("rev-parse", "HEAD", at=clone)).strip()
    passage = lab.passages[-1]
    assert (passage.verdict, passage.commands[0].ref) == ("Allowed", b"refs/heads/claude/work")


async def test_from_a_shallow_clone_too(lab: GitLab, tmp_path: Path) -> None:
    await lab.run("clone", "-q", "--depth=1", lab.url, str(tmp_path / "clone"))
    await change(lab, tmp_path / "clone", "src/a.py", "changed")
    await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/shallow", at=tmp_path / "clone")
    assert "refs/heads/claude/shallow" in await lab.refs()


async def test_a_large_push_is_sent_in_chunks(lab: GitLab, clone: Path) -> None:
    data = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
    (clone / "large").write_bytes(data)
    await lab.run("add", "-A", at=clone)
    await lab.run("commit", "-qm", "large", at=clone)
    await lab.run("-c", "http.postBuffer=65536", "push", "-q", "origin", "claude/work", at=clone)
    assert "refs/heads/claude/work" in await lab.refs()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("HEAD:refs/heads/main",), "only branches claude/*"),
        (("HEAD:refs/heads/claude/work", "HEAD:refs/heads/main"), "another part of this push is refused"),
        (("HEAD:refs/tags/v1",), "no tags"),
        (("HEAD:refs/notes/x",), "no tags"),
        ((":refs/heads/main",), "only branches claude/*"),
        (("--atomic", "HEAD:refs/heads/claude/work", "HEAD:refs/heads/main"), "only branches claude/*"),
        (("--mirror",), "no tags"),
    ],
)
async def test_another_push_does_nothing_and_says_why(
    lab: GitLab, clone: Path, arguments: tuple[str, ...], words: str
) -> None:
    before = await lab.refs()
    asked = len(lab.asked)
    said = await lab.git("push", "origin", *arguments, at=clone)
    assert said.code != 0
    assert words in said.text
    assert await lab.refs() == before
    # The server was asked what it has, and of the push it has heard nothing.
    assert [method for method, _ in lab.asked[asked:]] == ["GET"]
    assert lab.passages[-1].verdict == "Refused"


async def test_the_same_pushes_succeed_where_nothing_judges_them(lab: GitLab, clone: Path) -> None:
    header = f"http.extraHeader=Authorization: {AUTHORIZATION}"
    await change(lab, clone, ".github/workflows/ci.yml", "evil")
    await lab.run("-c", header, "push", "-q", lab.direct, "HEAD:refs/heads/main", "HEAD:refs/tags/v1", at=clone)
    assert {"refs/heads/main", "refs/tags/v1"} <= set(await lab.refs())


async def test_a_protected_path(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    before = await lab.refs()
    await change(lab, clone, ".github/workflows/ci.yml", "evil")
    await change(lab, clone, "src/c.py", "innocent")
    said = await lab.git("push", "origin", "claude/work", at=clone)
    assert said.code != 0
    assert ".github/workflows/ci.yml, which is protected" in said.text
    assert await lab.refs() == before
    assert (await lab.git("push", "origin", "HEAD:refs/heads/claude/new", at=clone)).code != 0
    assert await lab.refs() == before


async def test_what_people_changed_there_may_be_merged(lab: GitLab, clone: Path, tmp_path: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    await change(lab, tmp_path / "first", ".github/workflows/ci.yml", "the people's own")
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=tmp_path / "first")
    await lab.run("pull", "-q", "--no-rebase", "--no-edit", "origin", "main", at=clone)
    await lab.run("push", "-q", "origin", "claude/work", at=clone)


async def test_a_branch_is_not_rewritten_unless_it_may_be(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    before = await lab.refs()
    await lab.run("commit", "-q", "--amend", "-m", "another", at=clone)
    said = await lab.git("push", "--force", "origin", "claude/work", at=clone)
    assert "does not build on what is there" in said.text
    assert await lab.refs() == before
    lab.rules = PushRules(("claude/*",), force=True)
    await lab.run("push", "-q", "--force", "origin", "claude/work", at=clone)
    assert await lab.refs() != before


async def test_a_branch_is_set_to_what_the_server_has_if_that_builds_on_it(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", "claude/work:claude/other", at=clone)
    files = str(lab.files / "team/project.git")
    for number in range(3):
        await change(lab, clone, "src/a.py", f"theirs {number}")
    await lab.run("push", "-q", files, "HEAD:refs/heads/main", at=clone)
    await lab.run("push", "-q", "origin", "HEAD:claude/other", at=clone)
    # Beyond it there is a commit of its own.
    await change(lab, clone, "src/b.py", "ours")
    await lab.run("push", "-q", "origin", "HEAD:claude/work", at=clone)
    before = await lab.refs()
    for target in ("HEAD~1", "HEAD~3"):
        said = await lab.git("push", "--force", "origin", f"{target}:claude/work", at=clone)
        assert "does not build on what is there" in said.text
    assert await lab.refs() == before


async def test_where_it_can_not_be_told_it_is_refused(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    await change(lab, clone, "src/a.py", "theirs")
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "HEAD:refs/heads/main", at=clone)
    await lab.run("config", "uploadpackfilter.tree.allow", "false", at=lab.files / "team/project.git")
    said = await lab.git("push", "origin", "HEAD:claude/work", at=clone)
    assert "can't be told" in said.text
    assert said.code != 0


async def test_a_branch_is_not_deleted_unless_it_may_be(lab: GitLab, clone: Path) -> None:
    await lab.run("push", "-q", "origin", "claude/work", at=clone)
    assert "push.delete" in (await lab.git("push", "origin", ":claude/work", at=clone)).text
    assert "refs/heads/claude/work" in await lab.refs()
    lab.rules = PushRules(("claude/*",), delete=True)
    await lab.run("push", "-q", "origin", ":claude/work", at=clone)
    assert "refs/heads/claude/work" not in await lab.refs()


async def test_a_push_that_is_too_large_or_takes_too_long_is_refused(tmp_path: Path) -> None:
    async with git_lab(tmp_path, RULES, judging=Judging(Room(each=100_000), seconds=0.5)) as lab:
        await lab.run("clone", "-q", lab.url, str(tmp_path / "clone"))
        (tmp_path / "clone/large").write_bytes(b"".join(hashlib.sha256(b"%d" % one).digest() for one in range(10_000)))
        await change(lab, tmp_path / "clone", "src/a.py", "changed")
        said = await lab.git("push", "origin", "HEAD:refs/heads/claude/a", at=tmp_path / "clone")
        assert "more than 100000 bytes: push it in parts" in said.text

        async def slowly() -> AsyncIterator[bytes]:
            yield packet(b"%s %s refs/heads/claude/a\0report-status" % (ZERO, SOME)) + FLUSH
            await asyncio.sleep(1.5)

        status, text = await _raw(lab, slowly())
        assert (status, text) == (408, b"the push takes too long\n")


async def test_of_one_sandbox_one_push_is_read_at_a_time(lab: GitLab, clone: Path) -> None:
    ended = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield packet(b"%s %s refs/heads/claude/b\0report-status" % (ZERO, SOME)) + FLUSH
        await ended.wait()

    first = asyncio.create_task(_raw(lab, slowly()))
    async with asyncio.timeout(20):
        while "another push is being read" not in (await lab.git("push", "origin", "claude/work", at=clone)).text:
            await lab.git("push", "origin", ":claude/work", at=clone)
    ended.set()
    await first
    await lab.run("push", "-q", "origin", "claude/work", at=clone)


async def test_nothing_is_pushed_to_what_is_read_only(lab: GitLab, clone: Path) -> None:
    lab.rules = None
    said = await lab.git("push", "origin", "claude/work", at=clone)
    assert "this repository is read-only" in said.text


async def test_options_for_the_servers_hooks_are_not_offered(tmp_path: Path) -> None:
    async with git_lab(tmp_path, RULES, {"receive.advertisePushOptions": "true"}) as lab:
        header = f"http.extraHeader=Authorization: {AUTHORIZATION}"
        first = tmp_path / "first"
        await lab.run("-c", header, "push", "-q", "-o", "ci.skip", lab.direct, "HEAD:refs/heads/claude/a", at=first)
        said = await lab.git("push", "-o", "ci.skip", lab.url, "HEAD:refs/heads/claude/b", at=first)
        assert "does not support push options" in said.text


async def test_a_server_that_filters_nothing_is_asked_for_everything(tmp_path: Path) -> None:
    async with git_lab(tmp_path, RULES, {"uploadpack.allowFilter": "false"}) as lab:
        await lab.run("clone", "-q", lab.url, str(tmp_path / "clone"))
        await change(lab, tmp_path / "clone", "src/a.py", "changed")
        await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=tmp_path / "clone")
        await change(lab, tmp_path / "clone", ".github/x", "changed")
        assert (await lab.git("push", "origin", "HEAD:refs/heads/claude/a", at=tmp_path / "clone")).code != 0


async def _raw(lab: GitLab, body: bytes | AsyncIterator[bytes], **headers: str) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{lab.url}/git-receive-pack", data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


ZERO, SOME = b"0" * 40, b"a" * 40


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        packet(b"%s %s refs/heads/claude/a\0report-status" % (ZERO, SOME)),
        packet(b"%s %s refs/heads/claude/a\0push-options" % (ZERO, SOME)) + FLUSH + packet(b"ci.skip") + FLUSH,
        packet(b"push-cert\0report-status") + FLUSH,
        packet(b"%s %s refs/heads/claude/a\0report-status" % (ZERO, SOME)) + FLUSH + b"PACKgarbage",
        packet(b"%s %s refs/heads/claude/a\0report-status" % (ZERO, SOME)) + FLUSH,
    ],
)
async def test_what_is_not_gits_never_reaches_the_server(lab: GitLab, body: bytes) -> None:
    status, said = await _raw(lab, body)
    assert status == 400 or b"ng refs/heads/claude/a" in said
    assert ("POST", "/team/project.git/git-receive-pack") not in lab.asked


@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", "HEAD"),
        ("GET", "objects/info/packs"),
        ("GET", "info/refs"),
        ("GET", "info/refs?service=git-upload-archive"),
        ("GET", "info/refs?service=git-upload-pack&x=1"),
        ("GET", "../other.git/info/refs?service=git-upload-pack"),
        ("POST", "git-upload-archive"),
        ("PUT", "git-receive-pack"),
        ("GET", "config"),
    ],
)
async def test_only_what_git_asks_for_is_passed_on(lab: GitLab, method: str, below: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, f"{lab.url}/{below}") as answer:
        assert answer.status in (403, 404)
    assert lab.asked == []


async def test_compressed_commands_are_refused(lab: GitLab) -> None:
    assert (await _raw(lab, b"x", **{"content-encoding": "gzip"}))[0] == 415


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"www-authenticate": "Basic"}, "refuses the credential: HTTP 401"),
        (302, {"location": "https://example.org/other.git/info/refs"}, "sends elsewhere"),
        (200, {"content-type": "text/html"}, "no answer of git's"),
        (404, {}, "not found"),
        (500, {}, "no answer of git's"),
    ],
)
async def test_what_the_server_answers_else_is_told(
    lab: GitLab, tmp_path: Path, status: int, headers: dict[str, str], words: str
) -> None:
    lab.answers = web.Response(status=status, headers=headers)
    said = await lab.git("clone", lab.url, str(tmp_path / "clone"))
    assert said.code != 0
    assert words in said.text
    assert len(lab.asked) == 1


async def test_a_credential_that_is_not_taken_is_told(lab: GitLab, tmp_path: Path) -> None:
    lab.wants = "Basic another"
    assert "refuses the credential" in (await lab.git("clone", lab.url, str(tmp_path / "clone"))).text
