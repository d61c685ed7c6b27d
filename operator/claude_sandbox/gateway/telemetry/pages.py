"""The third listener's pages, which no sandbox can reach: `/healthz`, `/readyz`, `/metrics`, `/usage`.

`/readyz?report` has the sandbox's report too, where there is but one: for the health check of a container beside it.
"""

import asyncio
import json
import time
from collections.abc import Callable

from aiohttp import web

from claude_sandbox.gateway.broker.recent import RecentRequests
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import Account
from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.config.follow import Live
from claude_sandbox.gateway.telemetry.denials import Denials
from claude_sandbox.gateway.telemetry.metrics import Metrics
from claude_sandbox.gateway.telemetry.usage import usage_of

MOST_KEPT = 4000
"""Bytes of `/readyz?report`: an engine keeps 4096 of what a health check prints (Moby, daemon/health.go)."""
_TOGETHER = 8
"""Accounts that are read at a time."""


class Pages:
    """Answers. `readiness`: whether it takes requests, and what `/readyz` says of it."""

    def __init__(
        self,
        live: Callable[[], Live],
        books: Bookkeeper,
        recent: RecentRequests,
        denials: Denials,
        metrics: Metrics,
        readiness: Callable[[], tuple[bool, dict[str, object]]],
        report: Callable[[str], str],
    ) -> None:
        self._live = live
        self._books = books
        self._recent = recent
        self._denials = denials
        self._metrics = metrics
        self._readiness = readiness
        self._report = report
        self._reading = asyncio.Semaphore(_TOGETHER)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"allow": "GET, HEAD"})
        match request.path:
            case "/healthz":
                return web.json_response({"status": "ok"})
            case "/readyz":
                ready, found = self._readiness()
                if request.query_string == "report":
                    return web.Response(body=self._reported(found), status=200 if ready else 503)
                return web.json_response(found, status=200 if ready else 503)
            case "/metrics":
                page = self._metrics.page(request.headers.get("accept", ""))
                return web.Response(body=page.body, headers={"content-type": page.content_type})
            case "/usage":
                return web.json_response(await self._usage())
        return web.Response(status=404)

    def _reported(self, found: dict[str, object]) -> bytes:
        """What is found, with the report of the one sandbox, as far as an engine keeps it."""
        sandboxes = list(self._live().sandboxes)
        text = self._report(sandboxes[0]) if len(sandboxes) == 1 else ""
        alone = json.dumps(found)
        whole = f'{alone[:-1]}, "report": {text}}}' if text else alone
        # Cut in the middle it would be no JSON: then even the revision could not be read, and the gateway be told again
        # and again.
        return (whole if len(whole) <= MOST_KEPT else alone).encode()

    async def _usage(self) -> dict[str, object]:
        sandboxes = list(self._live().sandboxes.values())
        accounts = await asyncio.gather(*(self._account(one.uid) for one in sandboxes))
        now = time.time()
        return {
            "uncounted": self._books.uncounted,
            "sandboxes": [
                usage_of(one, account, self._recent.of(one.uid), self._denials.of(one.uid), now)
                for one, account in zip(sandboxes, accounts, strict=True)
            ],
        }

    async def _account(self, sandbox: str) -> Account | str:
        async with self._reading:
            try:
                return await self._books.account(sandbox)
            except StoreError as error:
                return str(error)
