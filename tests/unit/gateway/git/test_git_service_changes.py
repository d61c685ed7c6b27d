"""A repository that is taken away while it is found out who asks for it."""

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from claude_sandbox.gateway.audit import Audit
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Follower, Live
from claude_sandbox.gateway.git.credentials.credential import Password
from claude_sandbox.gateway.git.credentials.tokens import AppTokens
from claude_sandbox.gateway.git.forwarder import GitForwarder
from claude_sandbox.gateway.git.lfs.transfers import LargeFiles
from claude_sandbox.gateway.git.repositories import Opened
from claude_sandbox.gateway.git.service import GitService
from claude_sandbox.gateway.identity import Placeholders


class Slowly(Placeholders):
    """Knows the one sandbox when it is let."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__([])
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self._sandbox = sandbox

    async def __call__(self, presented: str, sender: str) -> Sandbox | None:
        self.asked.set()
        await self.answers.wait()
        return self._sandbox


def declared(root: Path, *repositories: str) -> Live:
    sandbox = {
        "uid": "uid-1", "identitySHA256": ["0" * 64], "credential": {"file": "-"},
        "repositories": [{"url": url} for url in repositories],
    }  # fmt: skip
    (root / "config").write_text(json.dumps({"version": 1, "listen": {}, "sandboxes": [sandbox]}))
    follower = Follower(root / "config", lambda _: None)
    follower.start()
    return follower.live


async def test_it_is_not_reached_any_more(tmp_path: Path) -> None:
    before, after = (declared(tmp_path, *urls) for urls in (("https://git.example.org/a",), ()))
    identify = Slowly(before.sandboxes["uid-1"])
    live = [replace(before, identify=identify)]
    lines: list[bytes] = []
    audit = Audit(lines.append)

    def unreached() -> Any:
        raise AssertionError("the server was asked")

    service = GitService(
        lambda: live[0], audit, GitForwarder(unreached), cast(LargeFiles, None), cast(AppTokens, Tokens())
    )
    password = base64.b64encode(b"sandbox:one").decode()
    request = make_mocked_request(
        "GET",
        "/git/git.example.org/a/info/refs?service=git-upload-pack",
        headers={"authorization": f"Basic {password}"},
    )
    answer = asyncio.create_task(service.handle(request))
    await identify.asked.wait()
    live[0] = replace(after, identify=identify)
    service.changed()
    identify.answers.set()
    assert (await answer).status == 403
    await audit.close()
    assert [json.loads(line)["rule"] for line in b"".join(lines).splitlines()] == ["repository"]


@pytest.mark.parametrize("problem", ["", "there is no Secret git"], ids=["another credential", "none any more"])
async def test_what_is_under_way_with_a_credential_ends_when_that_is_taken_away(tmp_path: Path, problem: str) -> None:
    """Else an agent keeps it in use by a push that it does not end."""
    before = declared(tmp_path, "https://git.example.org/a")
    (opened,) = before.repositories["uid-1"].values()
    identify = Slowly(before.sandboxes["uid-1"])
    identify.answers.set()
    live = [replace(before, identify=identify)]
    begun, go_on = asyncio.Event(), asyncio.Event()
    audit = Audit([].append)

    class Forwarder:
        def limit(self, clients: int) -> None:
            """Nothing is limited."""

        async def handle(self, *_: Any) -> web.Response:
            begun.set()
            await go_on.wait()
            return web.Response()

    service = GitService(
        lambda: live[0], audit, cast(GitForwarder, Forwarder()), cast(LargeFiles, None), cast(AppTokens, Tokens())
    )
    password = base64.b64encode(b"sandbox:one").decode()
    request = make_mocked_request(
        "POST", "/git/git.example.org/a/git-receive-pack", headers={"authorization": f"Basic {password}"}
    )
    answer = asyncio.create_task(service.handle(request))
    await begun.wait()
    now = Opened(opened.repository, Password("a", "another") if not problem else None, problem)
    live[0] = replace(live[0], repositories={"uid-1": {opened.repository.at: now}})
    service.changed()
    go_on.set()
    if problem:
        with pytest.raises(asyncio.CancelledError):
            await answer
    else:
        assert (await answer).status == 200
    await audit.close()


class Tokens:
    """Of repositories that need none."""

    def keep(self, opened: object) -> None:
        """Nothing is held."""

    async def authorization(self, opened: object) -> None:
        """None is needed."""
