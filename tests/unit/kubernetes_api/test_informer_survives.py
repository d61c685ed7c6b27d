"""What an API server or an object does to a list: it ends neither the following of a kind nor its account of sizes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from claude_sandbox.kubernetes_api.errors import CONNECTION_FAILED, ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.informers.store import key_of
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


class Churning(Server):
    """Has one Service, another one each time that it is asked, and breaks off every list but each third."""

    async def list(self, *_: Any, keep: Callable[[Any], Any], **__: Any) -> Any:
        self.lists += 1
        name, version = f"s{self.lists}", str(self.lists)
        item = keep({"metadata": {"name": name, "namespace": "agents", "uid": name, "resourceVersion": version}})
        if self.lists % 3:
            raise ApiError(0, CONNECTION_FAILED, "broken off")
        return SimpleNamespace(items=[item], resource_version=version)


async def test_what_came_of_lists_that_broke_off_takes_nothing_of_a_namespaces_share() -> None:
    server = Churning()
    informer = Informer(server, SERVICES, pace=Timings(backoff=0.001))  # type: ignore[arg-type]
    for _ in range(6):
        with suppress(ApiError):
            await informer._list()
    (held,) = informer.store
    assert informer.limits.sum("agents") == informer.limits.size(key_of(held)) > 0


class Emptied(Server):
    """Has one Service, and none any more by the second list."""

    async def list(self, *_: Any, keep: Callable[[Any], Any], **kept: Any) -> Any:
        first = await super().list(keep=keep, **kept)
        return first if self.lists == 1 else SimpleNamespace(items=[], resource_version="20")


async def test_what_was_deleted_before_a_list_is_not_learnt_while_the_list_is_taken_in() -> None:
    def service(name: str, version: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "agents", "uid": name, "resourceVersion": version}}

    def answers(_old: Any, new: Any) -> None:
        if new is None:  # the list's last step, in which others may have the loop
            informer.learn(service("gone", "19"))
            informer.learn(service("later", "21"))

    informer = Informer(Emptied(), SERVICES, on_change=answers)  # type: ignore[arg-type]
    await informer._list()
    await informer._list()
    assert {key_of(held) for held in informer.store} == {("agents", "later")}
