"""One request for a repository: where it goes, what is known of it, and how one is refused."""

from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from claude_sandbox.gateway.git.push.request import Command
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.smart_http import Call, Service

LFS_DOWNLOAD = "lfs download"
"""The operation in which a large file comes."""


@dataclass(frozen=True)
class Server:
    """Where one repository is, and how it is asked. `url` has no slash at its end; `authorization` is a header's value,
    or None; `proxy` a URL, for where a company's proxy is asked instead."""

    url: str
    authorization: str | None = field(repr=False)
    push: PushRules | None = None
    timeout: aiohttp.ClientTimeout = field(default_factory=aiohttp.ClientTimeout)
    proxy: str | None = None
    client: str = ""
    """Which sandbox asks: each has its part of what all share."""


@dataclass
class Passage:
    """What is known of one request, as it becomes known; for its line of the audit."""

    call: Call | None = None
    verdict: str = "Refused"
    rule: str | None = None
    commands: tuple[Command, ...] = ()
    wanted: tuple[str, ...] = ()
    """What a fetch asked for."""
    operation: str | None = None
    """Where it is not told by the call."""
    files: tuple[str, ...] = ()
    """Large files that were asked for, by their SHA-256."""
    status: int | None = None
    up: int = 0
    down: int = 0

    @property
    def receives(self) -> bool:
        """Whether it brings the client something of the repository itself: a pack, or a large file."""
        call = self.call
        return self.operation == LFS_DOWNLOAD or (
            call is not None and call.service is Service.FETCH and not call.advertises
        )


class RefusedError(Exception):
    """Not passed on. `status` is HTTP's; the text is shown by git."""

    def __init__(self, status: int, rule: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.rule = rule


def plainly(passage: Passage, error: RefusedError) -> web.StreamResponse:
    """The refusal in plain text, which git shows."""
    passage.rule, passage.status = error.rule, error.status
    response = web.Response(status=error.status, text=f"{error}\n")
    # What is left of its body is not read.
    response.force_close()
    return response
