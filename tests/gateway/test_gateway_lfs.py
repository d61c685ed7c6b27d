"""Large files by the gateway: the real git-lfs brings and fetches them, and never sees where they are or by what."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import ClientConnectionError, ClientSession, web
from gatewaykit import basic, until
from git_lab import AUTHORIZATION
from lfs_server import STORAGE, LfsServer, oid_of, pointer
from repository_place import HOST, Place, repository_place
from yarl import URL

from claude_sandbox.localcluster.programs import os_packages

OLD = b"".join(hashlib.sha256(b"old %d" % number).digest() for number in range(20_000))
NEW = b"".join(hashlib.sha256(b"new %d" % number).digest() for number in range(20_000))
LFS = ("-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true",
       "-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f")  # fmt: skip


@dataclass
class Large:
    place: Place
    server: LfsServer

    @property
    def base(self) -> str:
        return f"http://{self.place.gateway.broker}/git/{self.place.at}.git/info/lfs"

    async def asked(self, method: str, below: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """By hand, as the sandbox."""
        given = {"authorization": basic(), **headers}
        async with (
            ClientSession() as session,
            session.request(method, URL(f"{self.base}/{below}", encoded=True), data=body, headers=given) as answer,
        ):
            return answer.status, await answer.read()

    async def batch(self, operation: str, *contents: bytes, **more: Any) -> tuple[int, dict[str, Any]]:
        objects = [{"oid": oid_of(one), "size": len(one)} for one in contents]
        body = json.dumps({"operation": operation, "transfers": ["basic"], "objects": objects} | more).encode()
        status, said = await self.asked("POST", "objects/batch", body)
        return status, json.loads(said)

    async def git(self, *arguments: str, at: Path | None = None) -> str:
        said = await self.place.git(*LFS, *arguments, at=at)
        assert said.code == 0, said.text
        return said.text


@pytest_asyncio.fixture
async def large(tmp_path: Path) -> AsyncIterator[Large]:
    (tmp_path / "token").write_text("not-for-the-agent\n")
    async with repository_place(tmp_path, {"file": str(tmp_path / "token")}, STORAGE) as place:
        server = LfsServer(place.port, AUTHORIZATION, {oid_of(OLD): OLD})
        place.lab.elsewhere |= {"/team/project.git/info/lfs/": server.api, "/storage/": server.storage}
        made = Large(place, server)
        yield made
        told = place.gateway.output()
        for secret in ("not-for-the-agent", AUTHORIZATION.partition(" ")[2], server.signature, server.token):
            assert secret not in told


async def test_the_real_client_fetches_and_brings_them(large: Large, tmp_path: Path) -> None:
    programs = os_packages.ensure(os_packages.Needed(("git-lfs",), ("git-lfs",)), lambda _: None)
    lab = large.place.lab
    lab.path = programs.search_path()
    first, clone = tmp_path / "first", tmp_path / "clone"
    (first / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (first / "old.bin").write_text(pointer(OLD))
    await lab.run("add", "-A", at=first)
    await lab.run("commit", "-qm", "large", at=first)
    await lab.run("push", "-q", str(lab.files / "team/project.git"), "main", at=first)

    large.server.cut = 300_000
    await large.git("clone", "-q", large.place.url, str(clone))
    assert (clone / "old.bin").read_bytes() == OLD
    assert large.server.ranges, "what was broken off is gone on with"

    await large.git("lfs", "install", "--local", at=clone)
    (clone / "new.bin").write_bytes(NEW)
    await large.git("add", "-A", at=clone)
    await large.git("commit", "-qm", "another", at=clone)
    await large.git("push", "origin", "HEAD:refs/heads/claude/large", at=clone)
    assert large.server.files[oid_of(NEW)] == NEW
    assert large.server.verified == [oid_of(NEW)]
    said = await large.place.git(*LFS, "push", "origin", "HEAD:refs/heads/main", at=clone)
    assert said.code != 0
    await until(lambda: any(one.get("operation") == "lfs upload" for one in large.place.gateway.audit()))
    lines = [one for one in large.place.gateway.audit() if str(one.get("operation")).startswith("lfs")]
    done = {(one["operation"], one["files"]) for one in lines if one["verdict"] == "Allowed"}
    assert {("lfs download", oid_of(OLD)), ("lfs upload", oid_of(NEW))} <= done
    for file in clone.rglob("*"):
        assert not file.is_file() or large.server.signature.encode() not in file.read_bytes()


async def test_what_the_server_names_is_not_told_and_not_told_of_the_credential(large: Large) -> None:
    status, said = await large.batch("download", OLD)
    action = said["objects"][0]["actions"]["download"]
    assert (status, action["href"]) == (200, f"{large.base}/objects/{oid_of(OLD)}/{len(OLD)}")
    assert action["header"] == {"Authorization": basic()}
    for secret in (large.server.signature, large.server.token, STORAGE):
        assert secret not in json.dumps(said)
    assert (await large.asked("GET", f"objects/{oid_of(OLD)}/{len(OLD)}")) == (200, OLD)
    # The credential goes to the repository's own host alone: the storage refuses what has it.
    seen: list[str | None] = []

    async def own(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("authorization"))
        return web.Response(body=OLD)

    large.place.lab.elsewhere["/own/"] = own
    large.server.href = f"https://{HOST}:{large.place.port}/own/x"
    assert (await large.asked("GET", f"objects/{oid_of(OLD)}/{len(OLD)}")) == (200, OLD)
    assert seen == [AUTHORIZATION]
    large.server.href = ""
    _, said = await large.batch("download", NEW)
    assert said["objects"][0]["error"] == {"code": 404, "message": "Object does not exist"}
    assert (await large.asked("GET", f"objects/{oid_of(NEW)}/{len(NEW)}"))[0] == 404


async def test_nothing_is_brought_to_what_is_read_only(large: Large) -> None:
    del large.place.document["sandboxes"][0]["repositories"][0]["push"]
    large.place.gateway.configure(large.place.document)
    status, said = 0, {}
    async with asyncio.timeout(20):
        while status != 403:
            # What is under way at the moment when the declaration changes is cut off.
            with contextlib.suppress(ClientConnectionError):
                status, said = await large.batch("upload", NEW)
    assert "read-only" in said["message"]
    asked = len(large.server.batches)
    assert (await large.asked("PUT", f"objects/{oid_of(NEW)}/{len(NEW)}", NEW))[0] == 403
    assert len(large.server.batches) == asked
    assert (await large.asked("GET", f"objects/{oid_of(OLD)}/{len(OLD)}")) == (200, OLD)


async def test_nothing_is_brought_for_a_branch_or_a_content_that_may_not_be(large: Large) -> None:
    status, said = await large.batch("upload", NEW, ref={"name": "refs/heads/main"})
    assert (status, "only branches claude/*" in said["message"]) == (403, True)
    assert (await large.batch("upload", NEW, ref={"name": "refs/heads/claude/x"}))[0] == 200
    other = NEW[:-1] + b"x"
    status, words = await large.asked("PUT", f"objects/{oid_of(NEW)}/{len(NEW)}", other)
    assert (status, b"not the file" in words) == (422, True)
    assert large.server.stored == []
    assert (await large.asked("PUT", f"objects/{oid_of(NEW)}/{len(NEW)}", NEW + b"more"))[0] == 400
    assert (await large.asked("PUT", f"objects/{oid_of(NEW)}/{len(NEW)}", NEW))[0] == 200
    assert large.server.files[oid_of(NEW)] == NEW
    # What is there already is not brought again.
    _, told = await large.batch("upload", OLD)
    assert "actions" not in told["objects"][0]
    assert (await large.asked("PUT", f"objects/{oid_of(OLD)}/{len(OLD)}", OLD))[0] == 200
    assert large.server.stored == [oid_of(NEW)]


async def test_a_place_that_no_sandbox_may_reach_is_not_reached_for_it(large: Large) -> None:
    large.place.document["egress"]["deniedDomains"] = ["denied.example.org"]
    large.place.document["egress"]["hosts"]["inside.example.org"] = ["10.0.0.1"]
    large.place.gateway.configure(large.place.document)
    for href, words in (
        ("https://denied.example.org/x", b"denied by the administrator"),
        ("https://inside.example.org/x", b"refused"),
        ("https://169.254.169.254/latest/meta-data", b"no name of a host"),
        ("http://storage.example.org/x", b"without TLS"),
    ):
        large.server.href = href
        async with asyncio.timeout(20):
            while words not in (await large.asked("GET", f"objects/{oid_of(OLD)}/{len(OLD)}"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def test_nothing_else_is_passed_on(large: Large) -> None:
    for method, below, status in (
        ("GET", "locks", 501),
        ("POST", "locks/verify", 501),
        ("POST", "locks/1/unlock", 501),
        ("GET", "objects/batch", 403),
        ("POST", "objects/batch?x=1", 403),
        ("POST", "verify", 403),
        ("DELETE", f"objects/{oid_of(OLD)}/1", 403),
        ("GET", f"objects/{oid_of(OLD)}", 403),
        ("GET", f"objects/{oid_of(OLD)}/../1", 403),
        ("GET", "objects/batch/../../other", 403),
    ):
        assert (await large.asked(method, below, b"{}"))[0] == status, (method, below)
    there = large.base.replace("/team/project.git", "/team/other.git")
    async with (
        ClientSession() as session,
        session.post(f"{there}/objects/batch", data=b"{}", headers={"authorization": basic()}) as answer,
    ):
        assert answer.status == 403
    assert (large.server.batches, large.place.lab.asked) == ([], [])
