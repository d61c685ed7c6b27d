"""An agent that may push some branches of one repository tries to do more with it, by git and by hand.

With a credential of its own, or by a proxy that only adds one, each of these does what it is after: a pipeline changed,
another branch, a tag or another repository written or read. The gateway reads a push before the server does (docs:
`gateway/git`), and passes on what it read.
"""

from pathlib import Path

import pytest
import pytest_asyncio
from git_attacks import ATTACKS, RULES, SECRET, git_place, make_template
from git_lab import AUTHORIZATION, GitLab, git_lab

# Of each kind one; the others take as long, and are run by hand.
_ALWAYS = (
    "another branch beside one that is allowed",
    "a rewritten branch",
    "a branch that stands for another",
    "an option for the server's hook",
    "a path that is protected: changed by a merge",
    "a path that is protected: there twice in one tree",
    "a path that is protected: with what joins two letters",
    "a path that is protected: below a directory of a mode that git does not write",
    "a path that is protected: merged from a pull request",
    "a path that is protected: of another repository with which the server shares objects",
    "commands by hand: compressed",
    "another repository: by a redirect of the server's",
)
_MARKED = [name if name in _ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("git")
    await make_template(directory)
    return directory


@pytest.mark.parametrize("name", _MARKED)
async def test_it_succeeds_where_nothing_judges_it_and_not_by_the_gateway(
    template: Path, tmp_path: Path, name: str
) -> None:
    async with git_place(template, tmp_path / "plain", gateway=False) as place:
        read = await ATTACKS[name](place)
        assert await place.violations() or (read is not None and SECRET in read), "it is no attack"
    async with git_place(template, tmp_path / "gateway", gateway=True) as place:
        read = await ATTACKS[name](place)
        assert await place.violations() == set()
        assert read is None or SECRET not in read


async def _committed(lab: GitLab, clone: Path, name: str) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    with (clone / name).open("a") as file:
        file.write("changed\n")
    await lab.run("add", "-A", at=clone)
    await lab.run("commit", "-qm", name, at=clone)


async def test_where_objects_are_named_by_sha256_too(tmp_path: Path) -> None:
    bare, first, clone = tmp_path / "server/team/project.git", tmp_path / "first", tmp_path / "clone"
    for made in ("server", "spool"):
        (tmp_path / made).mkdir()
    async with git_lab(tmp_path, RULES, made=True) as lab:
        await lab.run("init", "-q", "--bare", "-b", "main", "--object-format=sha256", str(bare))
        await lab.run("init", "-q", "-b", "main", "--object-format=sha256", str(first))
        await _committed(lab, first, ".github/workflows/ci.yml")
        await lab.run("push", "-q", str(bare), "main", at=first)
        await lab.run("clone", "-q", lab.url, str(clone))
        await _committed(lab, clone, "src/a.py")
        await lab.run("push", "-q", "origin", "HEAD:refs/heads/claude/a", at=clone)
        assert len((await lab.refs())["refs/heads/claude/a"]) == 64
        refused = {"HEAD:refs/heads/main": "only branches", "HEAD:refs/heads/claude/b": "is protected"}
        await _committed(lab, clone, ".github/workflows/ci.yml")
        for ref, words in refused.items():
            said = await lab.git("push", "origin", ref, at=clone)
            assert (said.code != 0, words in said.text) == (True, True), said.text
        await lab.run("reset", "-q", "--hard", "origin/main", at=clone)
        await _committed(lab, clone, "src/b.py")
        assert "does not build on" in (await lab.git("push", "--force", "origin", "HEAD:claude/a", at=clone)).text
        assert set(await lab.refs()) == {"refs/heads/main", "refs/heads/claude/a"}
        header = f"http.extraHeader=Authorization: {AUTHORIZATION}"
        await lab.run("-c", header, "push", "-q", lab.direct, *refused, at=clone)
        assert "refs/heads/claude/b" in await lab.refs()
