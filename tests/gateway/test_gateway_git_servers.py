"""Clones and pushes of all kinds by the gateway, with git's own server and with another one, and broken connections."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cutting import cutting
from git_lab import GitLab, git_lab
from go_git_server import go_git

from claude_sandbox.gateway.git.push.rules import PushRules

RULES = PushRules(("claude/*",), protected=(".github/**",))
MIB = 1024 * 1024
REFS = 10_000
_slow = pytest.mark.slow


@pytest_asyncio.fixture(params=["git", "go-git"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GitLab]:
    async with git_lab(tmp_path, RULES, server_program=go_git if request.param == "go-git" else None) as made:
        yield made


async def _commit(lab: GitLab, clone: Path, name: str, content: bytes) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_bytes(content)
    await lab.run("add", "-A", at=clone)
    await lab.run("commit", "-qm", f"change {name}", at=clone)


async def test_a_clone_pushes_and_refusals(lab: GitLab, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    await lab.run("clone", "-q", lab.url, str(clone))
    await _commit(lab, clone, "src/a.py", b"changed")
    await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)
    await _commit(lab, clone, "src/b.py", b"more")
    await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)
    before = await lab.refs()
    assert before["refs/heads/claude/a"] == (await lab.run("rev-parse", "HEAD", at=clone)).strip()
    assert "only branches" in (await lab.git("push", "origin", "HEAD:refs/heads/main", at=clone)).text
    amended = await lab.git("push", "--force", "origin", "HEAD~1:refs/heads/claude/a", at=clone)
    assert amended.code != 0
    await _commit(lab, clone, ".github/workflows/ci.yml", b"evil")
    assert "is protected" in (await lab.git("push", "origin", "HEAD:refs/heads/claude/a", at=clone)).text
    assert await lab.refs() == before


@_slow
@pytest.mark.parametrize("version", ["0", "1", "2"])
@pytest.mark.parametrize(
    "more", [(), ("--depth=1",), ("--filter=blob:none",), ("--filter=tree:0",), ("--mirror",), ("--single-branch",)]
)
async def test_clones_of_all_kinds(lab: GitLab, tmp_path: Path, version: str, more: tuple[str, ...]) -> None:
    """The same as directly; and where that goes well, it is whole, and is fetched into once more."""
    protocol = ("-c", f"protocol.version={version}")
    header = ("-c", f"http.extraHeader=Authorization: {lab.wants}")
    direct = await lab.git(*protocol, *header, "clone", "-q", *more, lab.direct, str(tmp_path / "direct"))
    said = await lab.git(*protocol, "clone", "-q", *more, lab.url, str(tmp_path / "clone"))
    assert (said.code == 0) == (direct.code == 0), (said.text, direct.text)
    if direct.code:
        pytest.skip(f"this server can't: {direct.text[-200:]}")
    heads = {await lab.run("rev-parse", "HEAD", at=tmp_path / name) for name in ("direct", "clone")}
    assert len(heads) == 1
    await _commit(lab, tmp_path / "first", "src/later.py", b"later")
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=tmp_path / "first")
    await lab.run(*protocol, "fetch", "-q", at=tmp_path / "clone")
    assert "later.py" in await lab.run(*protocol, "ls-tree", "-r", "--name-only", "FETCH_HEAD", at=tmp_path / "clone")


async def test_ten_thousand_refs(tmp_path: Path) -> None:
    async with git_lab(tmp_path, RULES) as lab:
        bare = lab.files / "team/project.git"
        main = (await lab.run("rev-parse", "main", at=bare)).strip()
        packed = [f"{main} refs/heads/many/{number:05}\n" for number in range(REFS)]
        (bare / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(packed))
        listed = await lab.run("ls-remote", lab.url)
        assert listed.count("refs/heads/many/") == REFS
        clone = tmp_path / "clone"
        await lab.run("clone", "-q", lab.url, str(clone))
        await _commit(lab, clone, "src/a.py", b"changed")
        await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)
        assert "refs/heads/claude/a" in await lab.refs()


@pytest.mark.parametrize("where", [pytest.param("before the gateway", marks=_slow), "behind it"])
async def test_a_transfer_that_breaks_off_has_done_nothing_and_works_the_next_time(tmp_path: Path, where: str) -> None:
    async with git_lab(tmp_path, RULES) as lab:
        clone, large = tmp_path / "clone", random.Random(1).randbytes(4 * MIB)  # noqa: S311
        port = int((lab.url if where == "before the gateway" else lab.direct).split(":")[2].partition("/")[0])
        async with cutting(port) as cut:
            direct, url = lab.direct, lab.url
            if where == "behind it":
                lab.direct = direct.replace(f":{port}/", f":{cut.port}/")
            else:
                url = url.replace(f":{port}/", f":{cut.port}/")
            await _commit(lab, tmp_path / "first", "src/large", large)
            await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=tmp_path / "first")

            cut.down = 2 * MIB
            assert (await lab.git("clone", "-q", url, str(clone))).code != 0
            assert not clone.exists()
            cut.down = None
            await lab.run("clone", "-q", url, str(clone))
            assert (clone / "src/large").read_bytes() == large

            await _commit(lab, clone, "src/other", large[::-1])
            before = await lab.refs()
            cut.up = 2 * MIB
            assert (await lab.git("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)).code != 0
            await asyncio.sleep(0.5)
            assert await lab.refs() == before
            cut.up = None
            await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)
            assert "refs/heads/claude/a" in await lab.refs()
