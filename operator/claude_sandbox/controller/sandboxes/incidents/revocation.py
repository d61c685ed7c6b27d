"""Compromised keys are revoked where they are from, by a server of the administrator's that is told of them.

Theory of operation. It holds, of each compromised key, who asks for its revocation (sandboxes that declare it, Docker
hosts that it was on), a task that tells the server (the hook), again and again, later each time, until that says that
it is done; and what came of the last try. Passes ask for that (`told`, `ask`), which begins it, and are woken when it
is another. No pass waits for the hook. Of a namespace it is told of one key at a time, so that who declares a thousand
keeps it from no other's. A key is told of once, whoever else asks for it; with the last who asks it is
forgotten. An operator that begins anew tells it again where a sandbox asks, whatever that one's status says, since a
tenant may be able to write it. A DockerHost's nobody else writes: what that calls revoked is not asked for.

The operator has no right at the provider, by which who has the operator could do more; and it names the key by
namespace and Secret alone: an identifier that a tenant could write would let him have the keys of others revoked.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

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


class CompromisedKey(NamedTuple):
    """A generation of a Secret. Where none is known, `since` tells one incident from the next."""

    namespace: str
    secret: str
    generation: str | None
    since: datetime | None

    @classmethod
    def of(cls, namespace: str, secret: str, generation: str | None, since: datetime) -> "CompromisedKey":
        """What one incident says of a key."""
        return cls(namespace, secret, generation, None if generation is not None else since)


@dataclass
class _Asked:
    askers: set[Key | str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    answer: Revocation | None = None


class Revocations:
    """Of one operator; without a hook nothing is told of anything.

    `wake` is called when there is another answer, with each who asked: a sandbox, or the name of a DockerHost.
    """

    def __init__(
        self,
        hook: Hook | None,
        wake: Callable[[Key | str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hook = hook
        self._wake = wake
        self._now = now
        self._asked: dict[CompromisedKey, _Asked] = {}
        self._some = asyncio.Semaphore(_AT_A_TIME)
        # Each as long as a task has it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def told(self, raw: Raw, secret: str, status: IncidentStatus | None) -> IncidentStatus | None:
        """The status of a sandbox's incident, with what came of the revocation; None ends what is tried for it."""
        asker, metadata = key_of(raw), raw["metadata"]
        if status is None:
            self.forget(asker)
            return status
        key = CompromisedKey.of(asker.namespace, secret, status.generation, status.since)
        self.forget(asker, but=key)
        by = {"sandbox": {"name": metadata["name"], "uid": metadata["uid"]}}
        answer = self.ask(asker, key, status.since, by)
        return status.model_copy(update={"revocation": answer}) if answer is not None else status

    def ask(
        self, asker: Key | str, key: CompromisedKey, since: datetime, by: Mapping[str, Mapping[str, str]]
    ) -> Revocation | None:
        """What came of the last try; None where there was none yet. `by`: who asks, as the hook is told of it."""
        if self._hook is None:
            return None
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked()
            turn = self._turns.setdefault(key.namespace, asyncio.Lock())
            telling = self._until_done(self._hook, asked, _document(key, since, by), turn)
            asked.task = asyncio.get_running_loop().create_task(telling, name=f"revocation of {key.secret}")
        asked.askers.add(asker)
        return asked.answer

    def forget(self, asker: Key | str, but: CompromisedKey | None = None) -> None:
        """The incident is lifted, or the sandbox gone: nothing more is tried for who asks for no other reason."""
        for key in [key for key, asked in self._asked.items() if asker in asked.askers and key != but]:
            asked = self._asked[key]
            asked.askers.discard(asker)
            if not asked.askers:
                del self._asked[key]
                if asked.task is not None:
                    asked.task.cancel()

    async def _until_done(self, hook: Hook, asked: _Asked, document: dict[str, Any], turn: asyncio.Lock) -> None:
        pause = _FIRST
        while True:
            async with turn, self._some:
                refused = await _tell(hook, document)
            state = RevocationState.FAILED if refused else RevocationState.REVOKED
            before = asked.answer
            # The same failure again is no news, and no write.
            if before is None or (before.state, before.message) != (state, refused):
                asked.answer = Revocation(state=state, at=self._now().replace(microsecond=0), message=refused)
                for asker in tuple(asked.askers):
                    self._wake(asker)
            if not refused:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST)


def _document(key: CompromisedKey, since: datetime, by: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "CompromisedKey",
        "namespace": key.namespace,
        "secret": key.secret,
        "generation": key.generation,
        **by,
        "since": since.isoformat(),
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
