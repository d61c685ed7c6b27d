"""An object that can't be understood ends neither the following of its kind nor the operator: its evidence ages."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from claude_sandbox.kubernetes_api.informer import Informer, Timings
from claude_sandbox.kubernetes_api.resources import SERVICES


class Server:
    """Lists one Service."""

    lists = 0

    async def list(self, *_: Any, keep: Callable[[Any], Any], **__: Any) -> Any:
        self.lists += 1
        metadata = {"name": "a", "namespace": "agents", "uid": "u", "resourceVersion": "7"}
        return SimpleNamespace(items=[keep({"metadata": metadata})], resource_version="7")


async def test_an_object_that_no_code_was_prepared_for_does_not_end_the_watching() -> None:
    server, hostile = Server(), True

    def transform(obj: dict[str, Any]) -> dict[str, Any]:
        if hostile:
            raise RecursionError("\x1b[31m of the object's own")
        return obj

    informer = Informer(server, SERVICES, transform=transform, pace=Timings(backoff=0.01))  # type: ignore[arg-type]
    following = asyncio.create_task(informer.run())
    async with asyncio.timeout(10):
        while server.lists < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not following.done()
        assert not informer.synced.is_set()
        assert "RecursionError" in informer.why_not
        assert "\x1b" not in informer.why_not
        hostile = False
        await informer.synced.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert informer.age() < 10
