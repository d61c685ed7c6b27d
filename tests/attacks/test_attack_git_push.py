"""An agent that may push some branches of one repository tries to do more with it, by git and by hand.

With a credential of its own, or by a proxy that only adds one, each of these does what it is after: a pipeline changed,
another branch, a tag or another repository written or read. The gateway reads a push before the server does (docs:
`gateway/git`), and passes on what it read.
"""

from pathlib import Path

import pytest
import pytest_asyncio
from git_attacks import ATTACKS, SECRET, git_place, make_template

# Of each kind one; the others take as long, and are run by hand.
_ALWAYS = (
    "another branch beside one that is allowed",
    "a rewritten branch",
    "a branch that stands for another",
    "an option for the server's hook",
    "a path that is protected: changed by a merge",
    "a path that is protected: there twice in one tree",
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
