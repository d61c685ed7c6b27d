"""That somebody uses a sandbox, or wants to: an annotation, by which the operator takes it for active.

Who may not patch the sandbox may work in it all the same; it is then idle by its own requests alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from claude_sandbox.api.meta import ANNOTATION_ACTIVE_AT
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.target import Target
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

EVERY = 120.0
"""Seconds between two signs of activity: the shortest idleTimeout is 5 minutes."""
_FIRST = 5.0
"""Seconds that the end of what is over at once waits at most for the first sign."""


def sign(uid: str) -> dict[str, Any]:
    """What to merge into the sandbox with this UID: somebody uses it now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"uid": uid, "annotations": {ANNOTATION_ACTIVE_AT: now}}}


@asynccontextmanager
async def kept_active(target: Target, where: Where) -> AsyncIterator[None]:
    """Until it is left, somebody uses the sandbox; it was said once at least. Raises nothing of its own."""
    if not target.idles:
        yield
        return
    said = asyncio.Event()
    task = asyncio.create_task(_tell(target, where, said))
    try:
        yield
        # What is over in a moment was use as well.
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                await said.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell(target: Target, where: Where, said: asyncio.Event) -> None:
    try:
        async with connected(where) as (api, _):
            while True:
                try:
                    await api.patch(SANDBOXES, target.name, target.namespace, sign(target.uid))
                except ApiError as error:
                    # Who may not patch it goes on without; what is to end it will end it then.
                    if not error.is_transient:
                        return
                said.set()
                await asyncio.sleep(EVERY)
    finally:
        said.set()
