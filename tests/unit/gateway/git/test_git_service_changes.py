"""A repository that is taken away while it is found out who asks for it."""

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from aiohttp.test_utils import make_mocked_request

from claude_sandbox.gateway.audit import Audit
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Follower, Live
from claude_sandbox.gateway.git.credentials.tokens import AppTokens
from claude_sandbox.gateway.git.forwarder import GitForwarder
from claude_sandbox.gateway.git.lfs.transfers import LargeFiles
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


class Tokens:
    """Of repositories that need none."""

    def keep(self, opened: object) -> None:
        """Nothing is held."""

    async def authorization(self, opened: object) -> None:
        """None is needed."""
