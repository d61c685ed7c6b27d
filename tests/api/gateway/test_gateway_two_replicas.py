"""Two gateways of one namespace, as programs: what a sandbox used by either is counted once, in one account."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from gateway_place import Place, answered, ask, ready
from gatewaykit import Gateway, provider, running

from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane
EACH = 40


async def usage(gateway: Gateway, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What it says of the one sandbox, once this is so."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            async with session.get(f"http://{gateway.health}/usage") as answer:
                (found,) = (await answer.json())["sandboxes"]
            if true(found):
                return dict(found)
            await asyncio.sleep(0.1)


def requests(found: dict[str, Any]) -> int:
    return sum(one["requests"] for one in found.get("account", {}).get("models", []))


async def test_both_count_into_one_account_that_outlives_them(here: Place) -> None:
    await here.make()
    await here.secret()
    await here.sandbox("work")
    token = await here.token("sandbox-work")
    uid = (await here.api.get(r.SANDBOXES, "work", here.namespace))["metadata"]["uid"]
    (here.directory / "second").mkdir()
    async with provider() as model:
        configuration = here.configuration(model.url)
        with here.gateway(model.url) as first, running(here.directory / "second", configuration) as second:
            for one in (first, second):
                await ready(one)
                await answered(one, token)
            statuses = await asyncio.gather(*(ask(one, token) for one in (first, second) for _ in range(EACH)))
            assert {status for status, _ in statuses} == {200}
            total = len(model.seen)
            found = [await usage(one, lambda known: requests(known) == total) for one in (first, second)]
            assert found[0]["account"] == found[1]["account"]
            assert found[0]["lastAccepted"]["generation"] == found[1]["lastAccepted"]["generation"]
            assert first.stop() == second.stop() == 0
        kept = await here.api.get(r.USAGES, uid, here.namespace)
        assert [one["uid"] for one in kept["metadata"]["ownerReferences"]] == [uid]
        account = json.loads(kept["spec"]["account"])
        assert sum(one["requests"] for one in account["models"].values()) == total
        # One that begins anew goes on from there.
        with here.gateway(model.url) as third:
            await ready(third)
            await answered(third, token)
            await usage(third, lambda known: requests(known) == total + 1)
