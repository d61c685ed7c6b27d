"""Two gateways of one namespace, as programs: what a sandbox used by either is counted once, in one account."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from gateway_place import Place, answered, ask, ready
from gatewaykit import Gateway, provider, running
from gatewaykit import answered as refusing

from claude_sandbox.api import meta
from claude_sandbox.api.status_fields.usage import TroubleKind
from claude_sandbox.backends.gateway_reports import Report, read
from claude_sandbox.gateway.kubernetes.api_server import ApiServer
from claude_sandbox.gateway.kubernetes.reports import PARTS, ReportStore
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.errors import ApiError

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


async def test_each_reports_its_own_part_and_leaves_the_others(here: Place) -> None:
    """By programs, which both have this machine's name; the stores of two pods beside them."""
    await here.make()
    await here.secret()
    await here.sandbox("work")
    token = await here.token("sandbox-work")
    uid = (await here.api.get(r.SANDBOXES, "work", here.namespace))["metadata"]["uid"]

    async def reports(true: Callable[[dict[str, Report]], bool], seconds: float = 10) -> dict[str, Report]:
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(ApiError):
                    kept = (await here.api.get(r.USAGES, meta.report_name(uid), here.namespace))["spec"]["reports"]
                    found = {pod: one for pod, text in kept.items() if (one := read(text)) is not None}
                    if true(found):
                        return found
                await asyncio.sleep(0.1)

    async with provider() as model:
        with here.gateway(model.url) as gateway:
            await ready(gateway)
            await answered(gateway, token)
            ((pod, first),) = (await reports(lambda found: all(one.used for one in found.values()))).items()
            assert first.answered is not None
            # The key is refused, and is not any more: each is told within some two seconds.
            model.answer = refusing(401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}})
            assert (await ask(gateway, token))[0] == 401
            found = await reports(lambda found: found[pod].trouble is not None, 4)
            assert found[pod].trouble.kind is TroubleKind.KEY_REFUSED  # type: ignore[union-attr]
            model.answer = refusing(200)
            assert (await ask(gateway, token))[0] == 200
            await reports(lambda found: found[pod].trouble is None, 4)
            # The operator can't look into a Secret: that nothing is under its key the gateway has to tell.
            await here.secret(key="")
            found = await reports(lambda found: found[pod].trouble is not None, 4)
            assert found[pod].trouble.kind is TroubleKind.KEY_MISSING  # type: ignore[union-attr]
            await here.secret()
            await reports(lambda found: found[pod].trouble is None, 4)

            server = ApiServer(here.mounted, here.cluster.server)
            stores = [ReportStore(server, f"pod-{number}", {uid: "work"}.get) for number in range(3)]
            text = json.dumps({"version": 1, "at": "2026-01-01T00:00:00Z", "denials": 1})
            await asyncio.gather(*(one.write(uid, text) for one in stores))
            found = await reports(lambda found: len(found) == 4)
            assert set(found) == {pod, "pod-0", "pod-1", "pod-2"}
            # A fifth takes the place of one that is older than all others.
            newer = text.replace("2026-01-01", "2026-01-02")
            await ReportStore(server, "pod-3", {uid: "work"}.get).write(uid, newer)
            found = await reports(lambda found: "pod-3" in found)
            assert {pod, "pod-3"} < set(found)
            assert len(found) == PARTS
            await server.close()
        kept = await here.api.get(r.USAGES, meta.report_name(uid), here.namespace)
        assert [one["uid"] for one in kept["metadata"]["ownerReferences"]] == [uid]
        assert kept["metadata"]["labels"][meta.LABEL_COMPONENT] == meta.COMPONENT_REPORT
        assert "account" not in kept["spec"]
