"""Deletes sessions that are of no use any more: nobody used them in time, or the operator ended while they were open.

Theory of operation. It holds which sessions are open here; whatever else is in the API server and older than UNUSED is
deleted, now and then. Run by the leader alone, for all namespaces that it looks after. A crash forgets what was open,
and that is over with it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from claude_sandbox.api.kinds.sessions import UNUSED
from claude_sandbox.controller.machinery.election import NotLeadingError
from claude_sandbox.controller.sessions.admission import Admitted
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SESSIONS

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks."""
_MOST = 2000
"""Objects that one look deletes; the next goes on."""


async def tidy_forever(
    api: Api, namespaces: Sequence[str], open_now: Callable[[], Collection[str]], leads: Callable[[], bool]
) -> None:
    """Look now and then, while this replica leads. `open_now`: the UIDs of sessions that are open here.

    No `namespaces`: all.
    """
    while True:
        try:
            for namespace in (namespaces or (None,)) if leads() else ():
                await tidy(api, namespace, open_now, datetime.now(UTC))
        except (ApiError, NotLeadingError) as error:
            logger.warning("sessions that are over can't be deleted: %s", error)
        await asyncio.sleep(EVERY)


async def tidy(api: Api, namespace: str | None, open_now: Callable[[], Collection[str]], now: datetime) -> int:
    """Delete what is over: how many there were. Raises ApiError."""
    deleted = 0
    async for page in api.pages(SESSIONS, namespace, metadata_only=True):
        for live in page.items:
            metadata = live["metadata"]
            made = datetime.fromisoformat(metadata["creationTimestamp"])
            # Asked for each: one may be opened while a page is gone through.
            if metadata["uid"] in open_now() or now - made < timedelta(seconds=UNUSED):
                continue
            await forget(api, metadata["namespace"], metadata["name"], metadata["uid"])
            deleted += 1
            if deleted >= _MOST:
                return deleted
    return deleted


async def forget(api: Api, namespace: str, name: str, uid: str) -> None:
    """Delete a session; one that is gone, or another of its name, is left alone. Raises ApiError."""
    try:
        await api.delete(SESSIONS, name, namespace, uid=uid)
    except ApiError as error:
        if not (error.is_not_found or error.is_conflict):
            raise


def forgetting(api: Api) -> Callable[[Admitted], Awaitable[None]]:
    """Deletes a session that has ended. What can't be deleted now is found by `tidy_forever`."""

    async def over(admitted: Admitted) -> None:
        with suppress(ApiError, NotLeadingError):
            await forget(api, admitted.namespace, admitted.session, admitted.uid)

    return over
