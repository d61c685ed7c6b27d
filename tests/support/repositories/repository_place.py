"""The gateway as a program, one sandbox that declares a repository, a server with TLS, and git as an agent has it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewaykit import PLACEHOLDER, Gateway, authority, document, running
from git_lab import GitLab, Said, git_lab

HOST = "git.example.org"
PUSH = {"branches": ["claude/*"], "protectedPaths": [".github/**"]}


@dataclass
class Place:
    gateway: Gateway
    lab: GitLab
    document: dict[str, Any]
    at: str

    @property
    def port(self) -> int:
        """The server's."""
        return int(self.at.partition(":")[2].partition("/")[0])

    @property
    def url(self) -> str:
        """As a person writes it, who knows of no gateway."""
        return f"https://{self.at}.git"

    async def git(self, *arguments: str, at: Path | None = None, password: str = PLACEHOLDER) -> Said:
        """As the sandbox's git is configured."""
        gateway = f"http://{self.gateway.broker}"
        helper = f"!f() {{ echo username=sandbox; echo password={password}; }}; f"
        return await self.lab.git(
            *("-c", f"url.{gateway}/git/{self.at}.insteadOf=https://{self.at}"),
            *("-c", f"credential.{gateway}.helper={helper}", *arguments),
            at=at,
        )

    async def says(self, words: str) -> None:
        """Ask until this is the answer: what is configured holds within a moment."""
        async with asyncio.timeout(20):
            while words not in (await self.git("ls-remote", self.url)).text:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def repository_place(
    directory: Path, credential: dict[str, str], *others: str, more: dict[str, Any] | None = None
) -> AsyncIterator[Place]:
    """`credential`: as the configuration names it; `others`: further names of the server's; `more`: of the document."""
    by = authority(directory, HOST, *others)
    async with git_lab(directory, None, context=by.server()) as lab:
        at = f"{HOST}:{lab.direct.partition(':')[2].partition(':')[2].partition('/')[0]}/team/project"
        one = document(directory) | (more or {})
        one["egress"]["hosts"] = {name: ["127.0.0.1"] for name in (HOST, *others)}
        one["provider"]["caFile"] = str(by.bundle)
        one["sandboxes"][0]["repositories"] = [{"url": f"https://{at}.git", "credential": credential, "push": PUSH}]
        with running(directory, one) as gateway:
            yield Place(gateway, lab, one, at)
