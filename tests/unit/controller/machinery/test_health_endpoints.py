"""The endpoints, asked over HTTP."""

import asyncio
import socket
import threading

import aiohttp
import pytest

from claude_sandbox.controller.machinery.health import HealthServer, all_running, all_set, no_stuck_worker
from claude_sandbox.controller.metrics.metrics import Metrics


async def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}") as response,
    ):
        return response.status, await response.text(), dict(response.headers)


async def test_a_failed_check_is_a_503_that_says_which_and_why() -> None:
    wrong = ""
    async with HealthServer(
        live={"workers": lambda: wrong, "other": lambda: ""}, ready={}, host="127.0.0.1", port=0
    ) as server:
        assert await ask(server, "/healthz") == (200, "[+]workers ok\n[+]other ok\nhealthz check passed\n", anything())
        wrong = "in work: agents/alice for 700 s"
        status, text, _ = await ask(server, "/healthz")
        assert status == 503
        assert "[-]workers failed: in work: agents/alice for 700 s" in text
        assert (await ask(server, "/readyz"))[0] == 200, "being alive and being ready are two things"


async def test_a_check_that_breaks_is_a_failed_check() -> None:
    def broken() -> str:
        raise KeyError("secret detail")

    async with HealthServer(live={"broken": broken}, ready={}, host="127.0.0.1", port=0) as server:
        status, text, _ = await ask(server, "/healthz")
    assert status == 503
    assert "KeyError" in text
    assert "secret detail" not in text


async def test_head_other_methods_and_other_paths() -> None:
    async with HealthServer(live={}, ready={}, host="127.0.0.1", port=0) as server:
        assert (await ask(server, "/healthz", "HEAD"))[:2] == (200, "")
        assert (await ask(server, "/readyz", "HEAD"))[0] == 200
        assert (await ask(server, "/healthz", "POST"))[0] == 405
        assert (await ask(server, "/"))[0] == 404
        assert (await ask(server, "/metrics"))[0] == 404
        _, _, headers = await ask(server, "/healthz")
        assert headers["Server"] == "claude-sandbox-operator"


async def test_metrics_are_served_from_another_thread() -> None:
    metrics = Metrics(version="1")
    threads: set[int] = set()
    metrics.watch_leading("x", lambda: bool(threads.add(threading.get_ident())) or True)
    async with HealthServer(live={}, ready={}, metrics=metrics.render, host="127.0.0.1", port=0) as server:
        status, text, headers = await ask(server, "/metrics")
    assert status == 200
    assert 'claudesandbox_info{version="1"} 1.0' in text
    assert headers["Content-Type"].startswith("text/plain")
    assert threads
    assert threading.get_ident() not in threads


async def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            async with HealthServer(live={}, ready={}, host="127.0.0.1", port=taken.getsockname()[1]):
                pass


async def test_the_checks_see_a_stuck_worker_an_ended_task_and_what_is_still_to_come() -> None:
    ages = {"agents/alice": 5.0}
    stuck = no_stuck_worker(lambda: ages, 60)
    assert stuck() == ""
    ages["agents/bob"] = 61.0
    assert "agents/bob" in stuck()
    assert "agents/alice" not in stuck()

    task = asyncio.create_task(asyncio.sleep(0))
    running = all_running(lambda: {"pods": task})
    assert running() == ""
    await task
    assert running() == "ended: pods"

    event = asyncio.Event()
    synced = all_set(lambda: {"pods": event})
    assert synced() == "not yet: pods"
    event.set()
    assert synced() == ""


class anything:  # noqa: N801
    """Equal to all."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, _: object) -> bool:
        return True
