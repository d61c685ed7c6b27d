"""A GitHub App's key opens the declared repository for a while, and no other; the agent sees nothing of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from gatewaykit import authority, until
from git_lab import serve
from github_api import APP, INSTALLATION, GitHub, private_key
from repository_place import Place, repository_place

from claude_sandbox.gateway.config.config import parse
from claude_sandbox.gateway.git.credentials.credential import AppKey
from claude_sandbox.gateway.git.credentials.tokens import AppTokens, NoTokenError
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.repositories import Opened, Repository

PRIVATE, PUBLIC = private_key()
KEY = AppKey(APP, INSTALLATION, PRIVATE)


@pytest.fixture
def github() -> GitHub:
    return GitHub(PUBLIC)


@pytest_asyncio.fixture
async def place(tmp_path: Path, github: GitHub) -> AsyncIterator[Place]:
    secret = tmp_path / "secret"
    secret.mkdir()
    for key, value in (("app-id", APP), ("installation-id", str(INSTALLATION)), ("private-key", PRIVATE)):
        (secret / key).write_text(value)
    async with repository_place(tmp_path, {"directory": str(secret)}) as made:
        made.lab.elsewhere["/api/"], made.lab.takes = github.handle, github.takes
        yield made


async def test_it_clones_and_pushes_and_nothing_of_it_is_told(place: Place, github: GitHub, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    said = await place.git("clone", "-q", place.url, str(clone))
    assert said.code == 0, said.text
    (clone / "src/a.py").write_text("changed")
    await place.lab.run("commit", "-qam", "changed", at=clone)
    pushed = await place.git("push", "origin", "HEAD:refs/heads/claude/a", at=clone)
    assert pushed.code == 0, pushed.text
    assert github.asked == [{"repositories": ["project"], "permissions": {"contents": "write"}}]
    await until(lambda: any("refs" in one for one in place.gateway.audit()))
    told = place.gateway.output() + said.text + pushed.text + str(place.gateway.audit())
    for secret in (*github.given, *github.statements, PRIVATE.splitlines()[1]):
        assert secret not in told


async def test_why_there_is_no_token_is_told_the_agent(place: Place, github: GitHub) -> None:
    github.repositories = ("team/other",)
    said = await place.git("ls-remote", place.url)
    assert said.code != 0
    assert "add the repository to its installation" in said.text
    assert place.lab.asked == []


async def test_a_key_that_is_none_is_not_followed_and_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret/private-key").write_text("none")
    await place.says("credential of this repository is not there")
    assert "private-key: it is no private RSA key" in place.gateway.output()


@dataclass
class _Made:
    """What makes tokens by itself, with a clock that is set."""

    tokens: AppTokens
    opened: Opened
    now: float = 1_800_000_000.0

    async def token(self) -> str | None:
        return await self.tokens.authorization(self.opened)


@pytest_asyncio.fixture
async def made(tmp_path: Path, github: GitHub) -> AsyncIterator[_Made]:
    by, config = authority(tmp_path, "localhost"), parse('{"version": 1}')
    github.clock = lambda: made.now
    trusting = ssl.create_default_context(cafile=str(by.bundle))
    async with (
        serve(github.handle, "/{path:.*}", by.server()) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        repository = Repository(f"https://localhost:{port}/team/project", "x", "x", push=PushRules(("claude/*",)))
        made = _Made(AppTokens(lambda: session, lambda: config, lambda: made.now), Opened(repository, KEY))
        yield made


async def test_one_token_serves_all_until_shortly_before_its_end(made: _Made, github: GitHub) -> None:
    first = set(await asyncio.gather(*(made.token() for _ in range(20))))
    assert (len(first), len(github.given)) == (1, 1)
    made.now += 3000
    assert {await made.token()} == first
    made.now += 400
    assert {await made.token()} != first
    assert len(github.given) == 2


async def test_where_it_can_not_be_renewed_it_is_used_to_its_end(made: _Made, github: GitHub) -> None:
    first = await made.token()
    made.now += 3400
    github.answers = web.Response(status=500)
    assert await made.token() == first
    made.now += 180
    github.answers = web.Response(status=500)
    with pytest.raises(NoTokenError, match="HTTP 500"):
        await made.token()


async def test_an_api_that_gives_none_is_not_asked_without_end(made: _Made, github: GitHub) -> None:
    github.repositories = ()
    for _ in range(5):
        with pytest.raises(NoTokenError, match="add the repository"):
            await made.token()
    assert len(github.asked) == 1
    made.now += 11
    github.repositories = ("team/project",)
    await made.token()


async def test_a_token_that_the_server_refuses_is_made_anew_but_not_without_end(made: _Made, github: GitHub) -> None:
    await made.token()
    made.tokens.refused(made.opened)
    await made.token()
    assert len(github.given) == 1
    made.now += 11
    made.tokens.refused(made.opened)
    await made.token()
    assert len(github.given) == 2


async def test_what_is_declared_no_more_is_forgotten(made: _Made, github: GitHub) -> None:
    await made.token()
    made.tokens.keep([made.opened])
    await made.token()
    assert len(github.given) == 1
    made.tokens.keep([])
    await made.token()
    assert len(github.given) == 2


async def test_an_answer_elsewhere_is_not_followed(made: _Made, github: GitHub) -> None:
    github.answers = web.Response(status=307, headers={"location": "/elsewhere"})
    with pytest.raises(NoTokenError, match="HTTP 307"):
        await made.token()
    assert github.statements == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"repositories": ("other/project",)}, "not for this repository's owner"),
        ({"contents": "read"}, "no permission to write contents"),
        ({"public": private_key()[1]}, "see app-id and private-key"),
        ({"clock": lambda: 0.0}, "this machine's clock"),
    ],
)
async def test_what_the_api_refuses_is_said_in_our_words(
    made: _Made, github: GitHub, change: dict[str, object], words: str
) -> None:
    for name, value in change.items():
        setattr(github, name, value)
    with pytest.raises(NoTokenError, match=words):
        await made.token()
