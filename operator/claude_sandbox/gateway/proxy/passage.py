"""What is known of one connection to the proxy, and its line of the audit. No I/O."""

import asyncio
from dataclasses import dataclass, field

from claude_sandbox.gateway.audit import Value, plain, whose
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.destinations.domains import Way
from claude_sandbox.gateway.http.head import Request
from claude_sandbox.gateway.proxy.client_hello import Hello
from claude_sandbox.gateway.proxy.tunnel import Moved
from claude_sandbox.gateway.services.declared import Opened

_LONGEST_PATH = 300
"""Characters of a path in a line of the audit."""


@dataclass(eq=False)
class Passage:
    """What is known of one connection, as it becomes known; the audit's line at its end."""

    peer: str = ""
    sandbox: Sandbox | None = None
    request: Request | None = None
    way: Way | None = None
    verdict: str = "Refused"
    rule: str | None = None
    claimed: str | None = None
    dialled: str | None = None
    hello: Hello | None = None
    ended: str | None = None
    status: int | None = None
    moved: Moved = field(default_factory=Moved)
    task: asyncio.Task[None] | None = None
    closing: str | None = None
    certain: bool = True
    """Whether it is known for certain whose it is, so that a credential may be lent for it."""
    service: str | None = None
    """The name of the service that is asked for."""
    opened: Opened | None = None
    """The service, where it is one of the sandbox's."""

    @property
    def kind(self) -> str:
        """Of its line."""
        if self.service is not None:
            return "service"
        return "tunnel" if self.way is Way.TUNNEL else "http"


def line(passage: Passage, seconds: float) -> dict[str, Value]:
    """As it is written down. Of what is asked of a service the path, and never the query."""
    request, hello, sandbox = passage.request, passage.hello, passage.sandbox
    return {
        **whose(sandbox),
        "verdict": passage.verdict,
        "rule": passage.rule,
        "claimedPod": passage.claimed,
        "host": plain(request.host) if request else None,
        "port": request.port if request else None,
        **_of_a_service(passage),
        "status": passage.status,
        "dialled": passage.dialled,
        "sni": hello.sni if hello else None,
        "ech": True if hello and hello.ech else None,
        "bytesUp": passage.moved.up,
        "bytesDown": passage.moved.down,
        "durationMs": round(seconds * 1000),
        "ended": passage.ended,
    }


def _of_a_service(passage: Passage) -> dict[str, Value]:
    if passage.service is None or passage.request is None:
        return {}
    path = passage.request.path.partition("?")[0]
    return {"service": passage.service, "method": plain(passage.request.method, 20), "path": plain(path, _LONGEST_PATH)}
