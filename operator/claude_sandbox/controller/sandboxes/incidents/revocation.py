"""Compromised keys are revoked where they are from, by a server of the administrator's that is told of them.

Theory of operation. It holds, of each sandbox that declares its key to be compromised, a task that tells the server
(the hook), again and again, later each time, until that says that it is done; and what came of the last try. Passes ask
for that (`told`), which begins it, and are woken when it is another. No pass waits for the hook. It is told at least
once for each incident: an operator that begins anew tells it again, whatever the status says.

The operator has no right at the provider, by which who has the operator could do more; and it names the key by
namespace and Secret alone: an identifier that a tenant could write would let him have the keys of others revoked.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.status_fields.incident import IncidentStatus, Revocation, RevocationState
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of

_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=10)
_FIRST, _LONGEST = 2.0, 300.0
"""Seconds until it is tried again: after the first failure, and at the most."""
_AT_A_TIME = 4


@dataclass(frozen=True)
class Hook:
    """The server. `token`: a file with what is sent to it as a bearer token; `authority`: one with certificates."""

    url: str
    token: Path | None = None
    authority: Path | None = None


@dataclass
class _Asked:
    since: datetime
    task: asyncio.Task[None] | None = None
    answer: Revocation | None = None


class Revocations:
    """Of one operator; without a hook nothing is told of anything. `wake` is called when there is another answer."""

    def __init__(
        self,
        hook: Hook | None,
        wake: Callable[[Key], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hook = hook
        self._wake = wake
        self._now = now
        self._asked: dict[Key, _Asked] = {}
        self._some = asyncio.Semaphore(_AT_A_TIME)

    def told(self, raw: Raw, secret: str, status: IncidentStatus | None) -> IncidentStatus | None:
        """The status of a key's incident, with what came of its revocation; None ends what is tried."""
        key = key_of(raw)
        if status is None or self._hook is None:
            self.forget(key)
            return status
        asked = self._asked.get(key)
        if asked is None or asked.since != status.since:
            self.forget(key)
            asked = self._asked[key] = _Asked(status.since)
            telling = self._until_done(self._hook, asked, key, _document(raw, secret, status))
            asked.task = asyncio.get_running_loop().create_task(telling, name=f"revocation for {key}")
        return status.model_copy(update={"revocation": asked.answer}) if asked.answer is not None else status

    def forget(self, key: Key) -> None:
        """The incident is lifted, or the sandbox gone: nothing more is tried for it."""
        asked = self._asked.pop(key, None)
        if asked is not None and asked.task is not None:
            asked.task.cancel()

    async def _until_done(self, hook: Hook, asked: _Asked, key: Key, document: dict[str, Any]) -> None:
        pause = _FIRST
        while True:
            async with self._some:
                refused = await _tell(hook, document)
            state = RevocationState.FAILED if refused else RevocationState.REVOKED
            before = asked.answer
            # The same failure again is no news, and no write.
            if before is None or (before.state, before.message) != (state, refused):
                asked.answer = Revocation(state=state, at=self._now().replace(microsecond=0), message=refused)
                self._wake(key)
            if not refused:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST)


def _document(raw: Raw, secret: str, status: IncidentStatus) -> dict[str, Any]:
    metadata = raw["metadata"]
    sandbox = {"name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "CompromisedKey",
        "namespace": metadata["namespace"],
        "secret": secret,
        "generation": status.generation,
        "sandbox": sandbox,
        "since": status.since.isoformat(),
    }


async def _tell(hook: Hook, document: dict[str, Any]) -> str:
    """Tell the hook; why it did not do it, empty where it did."""
    try:
        # Read each time: whoever exchanges them need not start the operator anew.
        headers, context = await asyncio.to_thread(_credentials, hook)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector, auto_decompress=False) as session,
            # The token goes to the address that the administrator named, and to no other.
            session.post(hook.url, json=document, headers=headers, allow_redirects=False) as response,
        ):
            return "" if 200 <= response.status < 300 else f"the hook answers {response.status}"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"the hook can't be told: {plain(type(error).__name__)}"


def _credentials(hook: Hook) -> tuple[dict[str, str], ssl.SSLContext]:
    token = hook.token.read_text().strip() if hook.token is not None else ""
    context = ssl.create_default_context(cafile=str(hook.authority) if hook.authority is not None else None)
    return ({"Authorization": f"Bearer {token}"} if token else {}), context
