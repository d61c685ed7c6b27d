"""Two gateways of one namespace, as programs, and one budget: never more is used than it has, whoever is killed."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from gateway_place import BODY, SECRET, Place, ask, ready
from gatewaykit import Gateway, Seen, message, provider, running, until

from claude_sandbox.kubernetes_api import resources as r

pytestmark = pytest.mark.controlplane
TOKENS = BODY["max_tokens"]
FOR_TEN = {"maxOutputTokens": 10 * TOKENS, "window": "24h"}


async def spends_all(_request: web.BaseRequest, _body: bytes) -> web.StreamResponse:
    """Takes a while, and as many tokens as it was asked for at most."""
    await asyncio.sleep(0.3)
    return web.json_response(message(TOKENS))


@pytest.mark.parametrize("killed", [False, True], ids=["both stay", "one is killed"])
async def test_200_requests_at_once_never_use_more_than_a_budget_for_ten(here: Place, killed: bool) -> None:
    await here.make()
    await here.secret()
    credentials = {"apiKeySecretRef": {"name": SECRET}, "delivery": "Brokered"}
    await here.sandbox("work", credentials=credentials, budget=FOR_TEN)
    token = await here.token("sandbox-work")
    uid = (await here.api.get(r.SANDBOXES, "work", here.namespace))["metadata"]["uid"]
    (here.directory / "second").mkdir()
    async with provider() as model:
        model.answer = spends_all

        def sent() -> list[Seen]:
            return [one for one in model.seen if one.method == "POST"]

        configuration = here.configuration(model.url)
        with here.gateway(model.url) as first, running(here.directory / "second", configuration) as second:
            for one in (first, second):
                await ready(one)
                await _known(one, token)

            async def asked(one: Gateway) -> int:
                try:
                    return (await ask(one, token))[0]
                except aiohttp.ClientError:
                    return 0

            everything = asyncio.gather(*(asked(one) for one in (first, second) for _ in range(100)))
            if killed:
                await until(lambda: len(sent()) >= 2)
                second.process.kill()
            statuses = await everything
            # Nor do more come through afterwards, by the one that is left, or by another that takes its place.
            with running(here.directory / "second", configuration) as third:
                await ready(third)
                later = [await asked(one) for one in (first, third) for _ in range(3)]
            assert first.stop() == 0
        assert {*later} <= {402, 429}, later
        assert {*statuses} <= {200, 402, 429, *((0,) if killed else ())}
        assert len(sent()) <= 10
        if not killed:
            assert (len(sent()), statuses.count(200)) == (10, 10)
        kept = json.loads((await here.api.get(r.USAGES, uid, here.namespace))["spec"]["account"])
        held = sum(one["output"] for one in kept["reserved"].values())
        # What the killed one had under way counts in full: the provider may have done it.
        assert len(sent()) * TOKENS <= kept["written"] + held <= FOR_TEN["maxOutputTokens"], kept


async def _known(gateway: Gateway, token: str) -> None:
    """Until it takes the token, at no cost."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while True:
            async with session.get(f"http://{gateway.broker}/v1/models", headers={"x-api-key": token}) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)
