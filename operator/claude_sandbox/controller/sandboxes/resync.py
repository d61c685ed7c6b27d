"""Now and then all sandboxes are listed and looked at again: what no event told is found then.

kopf tells of no deletion that happened while its watch was broken, so the list decides which sandboxes there are.

Theory of operation. Holds nothing. One task of each process runs it, whether it leads or not, so that a replica which
takes over knows of every sandbox. Always true: of what the watch tells while a list is read the watch is right
(`Sandboxes.take_over`); a list that fails changes nothing, and the next one comes a round later; and every sandbox is
put in line within 1.7 rounds of a list that succeeds, which `staleness.py` counts on. A crash costs nothing but the
round: whoever starts lists first.
"""

import asyncio
import logging
import random

from claude_sandbox.controller.machinery.queue import WorkQueue
from claude_sandbox.controller.sandboxes.store import Key, Sandboxes
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS
from claude_sandbox.kubernetes_api.informers.yielding import Breath
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.kubernetes_api.unstructured import Manifest

logger = logging.getLogger(__name__)


async def resync_forever(
    api: Api, namespaces: tuple[str, ...], sandboxes: Sandboxes, queue: WorkQueue[Key], seconds: float
) -> None:
    """Every `seconds`, spread by a fifth. What changed unheard is looked at now, the rest in the course of a round."""
    while True:
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
        # Before the request is sent: of who comes after that, the list need not tell.
        before = sandboxes.uids()
        try:
            listed = await list_all(api, namespaces)
        except ApiError as error:
            logger.warning("cannot list the sandboxes: %s", error)
            continue
        for key in await sandboxes.take_over(listed, before):
            queue.add(key)
        # Spread, since together they would be in the way of what just happened to somebody.
        breath = Breath()
        # A copy: the watch adds and removes while others have the loop.
        for key in list(sandboxes):
            queue.add_after(key, random.uniform(0, seconds * 0.5))  # noqa: S311
            await breath()


async def list_all(api: Api, namespaces: tuple[str, ...]) -> list[Manifest]:
    """The sandboxes of the namespaces, or of the whole cluster where none are named."""
    scopes: tuple[str | None, ...] = namespaces or (None,)
    keep = PROJECTIONS[SANDBOXES]
    listings = await asyncio.gather(*(api.list(SANDBOXES, scope, keep=keep) for scope in scopes))
    return [item for listing in listings for item in listing.items]
