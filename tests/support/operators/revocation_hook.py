"""A server that is told of compromised keys, and answers as a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from claude_sandbox.localcluster.pki.certificates import Subject, issue, new_ca

TOKEN = "not-really-a-token-for-the-hook"


@dataclass
class RevocationServer:
    """`answers`: what each request is answered with, the last of them for ever; `takes`: seconds for each; `asked`:
    what came, with its login."""

    url: str
    authority: Path
    token: Path
    answers: list[int] = field(default_factory=lambda: [204])
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    takes: float = 0.0

    @property
    def options(self) -> tuple[str, ...]:
        """For `claude-sandbox run`."""
        where = (f"--revocation-hook={self.url}", f"--revocation-ca={self.authority}")
        return (*where, f"--revocation-token={self.token}")


@asynccontextmanager
async def revocation_server(directory: Path) -> AsyncIterator[RevocationServer]:
    """It runs until the end of the context; where it redirects to (307) is its own path /elsewhere."""
    now = datetime.now(UTC)
    authority = new_ca("revocations", now)
    pair = issue(authority, Subject("hook", server=True, names=("127.0.0.1",)), now)
    files = {"ca.crt": authority.certificate, "hook.crt": pair.certificate, "hook.key": pair.key}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / "token").write_text(f"{TOKEN}\n")
    found = RevocationServer("", directory / "ca.crt", directory / "token")

    async def revoke(request: web.Request) -> web.Response:
        found.asked.append((request.headers.get("Authorization", ""), await request.json()))
        await asyncio.sleep(found.takes)
        status = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
        headers = {"Location": "/elsewhere"} if status == 307 else {}
        return web.Response(status=status, headers=headers, text=f"{TOKEN} is what you sent")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "hook.crt", directory / "hook.key")
    app = web.Application()
    app.router.add_post("/revoke", revoke)
    app.router.add_post("/elsewhere", revoke)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}/revoke"
    try:
        yield found
    finally:
        await runner.cleanup()
