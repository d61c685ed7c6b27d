"""Repositories that a sandbox declares, by the gateway as a program: git as an agent has it, and a server with TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from gatewaykit import basic, until
from git_lab import AUTHORIZATION
from repository_place import HOST, Place, repository_place
from yarl import URL


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    # `x-access-token:…` of the lab's own authorization.
    (tmp_path / "token").write_text("not-for-the-agent\n")
    async with repository_place(tmp_path, {"file": str(tmp_path / "token")}) as made:
        yield made


async def test_a_clone_a_push_and_what_is_written_down_of_them(place: Place, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    assert (await place.git("clone", "-q", place.url, str(clone))).text == ""
    (clone / "src/a.py").write_text("changed")
    await place.lab.run("commit", "-qam", "changed", at=clone)
    said = await place.git("push", "origin", "HEAD:refs/heads/claude/a", at=clone)
    assert said.code == 0, said.text
    refused = await place.git("push", "origin", "HEAD:refs/heads/main", at=clone)
    assert "only branches claude/*" in refused.text
    head = (await place.lab.run("rev-parse", "HEAD", at=clone)).strip()
    first = (await place.lab.run("rev-parse", "origin/main", at=clone)).strip()
    await until(lambda: len([one for one in place.gateway.audit() if "refs" in one]) == 2)
    lines = [one for one in place.gateway.audit() if one["kind"] == "git"]
    assert {one["repository"] for one in lines if one["status"] == 200} == {place.at}
    assert any(one.get("operation") == "fetch" and first in one.get("wanted", "") for one in lines)
    pushed = [one for one in lines if "refs" in one]
    assert [(one["verdict"], one["refs"]) for one in pushed] == [
        ("Allowed", f"{'0' * 40}..{head} refs/heads/claude/a"),
        ("Refused", f"{first}..{head} refs/heads/main"),
    ]
    assert "not-for-the-agent" not in place.gateway.output() + said.text + refused.text
    assert AUTHORIZATION.partition(" ")[2] not in place.gateway.output()


@pytest.mark.parametrize("path", ["team/other", "team/project-other", "team", "team/project/x", "team/%70roject"])
async def test_another_repository_of_the_same_server_is_not_there(place: Place, path: str) -> None:
    there = place.at.partition("/")[0]
    async with (
        ClientSession() as session,
        session.get(
            URL(f"http://{place.gateway.broker}/git/{there}/{path}/info/refs?service=git-upload-pack", encoded=True),
            headers={"authorization": basic()},
        ) as answer,
    ):
        assert (answer.status, "spec.repositories" in await answer.text()) == (403, True)
    assert place.lab.asked == []


async def test_nobody_else_gets_in(place: Place, tmp_path: Path) -> None:
    said = await place.git("clone", "-q", place.url, str(tmp_path / "clone"), password="another")
    assert said.code != 0
    assert place.lab.asked == []


async def test_whom_it_believes_is_as_the_administrator_says_now(place: Place) -> None:
    assert (await place.git("ls-remote", place.url)).code == 0
    bundle = place.document["provider"].pop("caFile")
    place.gateway.configure(place.document)
    await place.says("egress.caFile")
    # An authority of git's servers, and not of the provider's.
    place.document["egress"]["caFile"] = bundle
    place.gateway.configure(place.document)
    await place.says("refs/heads/main")


async def test_a_declaration_that_is_gone_ends_it(place: Place) -> None:
    place.document["sandboxes"][0]["repositories"] = []
    place.gateway.configure(place.document)
    await place.says("none of the sandbox's repositories")


async def test_another_credential_is_used_by_the_next_request(place: Place, tmp_path: Path) -> None:
    place.lab.wants = "Basic eC1hY2Nlc3MtdG9rZW46YW5vdGhlcg=="  # x-access-token:another
    assert "refuses the credential" in (await place.git("ls-remote", place.url)).text
    (tmp_path / "token").write_text("another")
    await place.says("refs/heads/main")


async def test_a_credential_that_is_gone_is_not_used_any_more(place: Place, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    await place.says("credential of this repository is not there")


async def test_a_server_at_an_address_that_is_refused_is_not_asked(place: Place) -> None:
    place.document["egress"]["privateNetworks"] = []
    place.gateway.configure(place.document)
    await place.says("loopback")


async def test_a_name_that_the_administrator_denies(place: Place) -> None:
    place.document["egress"]["deniedDomains"] = [HOST]
    place.gateway.configure(place.document)
    await place.says("denied by the administrator")


async def test_a_submodule_comes_where_it_is_declared_and_else_not(place: Place, tmp_path: Path) -> None:
    lab, there, first = place.lab, place.at.partition("/")[0], tmp_path / "first"
    for name in ("lib", "secret"):
        await lab.run("clone", "-q", "--bare", str(first), str(lab.files / f"team/{name}.git"))
    place.document["sandboxes"][0]["repositories"].append(
        {"url": f"https://{there}/team/lib", "credential": {"file": str(tmp_path / "token")}}
    )
    place.gateway.configure(place.document)
    # As the sandbox's git is told of the host of what is declared.
    by_gateway = ("-c", f"url.http://{place.gateway.broker}/git/{there}/.insteadOf=https://{there}/")
    async with asyncio.timeout(20):
        while (await place.git(*by_gateway, "ls-remote", f"https://{there}/team/lib.git")).code:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    for name in ("lib", "secret"):
        listed = (await lab.run("rev-parse", "HEAD", at=first)).strip()
        await lab.run("update-index", "--add", "--cacheinfo", f"160000,{listed},{name}", at=first)
    (first / ".gitmodules").write_text(
        f'[submodule "lib"]\n\tpath = lib\n\turl = https://{there}/team/lib.git\n'
        '[submodule "secret"]\n\tpath = secret\n\turl = ../secret.git\n'
    )
    await lab.run("add", ".gitmodules", at=first)
    await lab.run("commit", "-qm", "submodules", at=first)
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=first)
    clone = tmp_path / "clone"
    assert (await place.git("clone", "-q", place.url, str(clone))).code == 0
    came = await place.git(*by_gateway, "submodule", "update", "-q", "--init", "lib", at=clone)
    assert came.code == 0, came.text
    assert (clone / "lib/README").exists()
    said = await place.git(*by_gateway, "submodule", "update", "-q", "--init", "secret", at=clone)
    assert said.code != 0
    assert not (clone / "secret/README").exists()
    assert not any("secret" in path for _, path in lab.asked)


async def test_a_server_is_not_asked_to_close(place: Place) -> None:
    """What has come before the end of a connection is lost while who reads is behind: clones under load broke off."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["connection"])
        return web.Response(body=bytes(4 << 20), content_type="application/x-git-upload-pack-result")

    place.lab.elsewhere["/team/project.git/git-upload-pack"] = handle
    headers = {"authorization": basic(), "content-type": "application/x-git-upload-pack-request"}
    url = f"http://{place.gateway.broker}/git/{place.at}/git-upload-pack"
    async with ClientSession() as session, session.post(url, data=b"0000", headers=headers) as said:
        assert len(await said.read()) == 4 << 20
    assert asked == ["keep-alive"]
