"""Tunnels of hours in seconds: what passes bytes on, by real sockets, on a clock that jumps to the next timer."""

import asyncio
import socket
from collections.abc import Sequence

import pytest
from virtual_clock import PatientLoop

from claude_sandbox.gateway.proxy.tunnel import Moved, Side, splice

IDLE = 600.0
CLIENT, SERVER = 0, 1


async def tunnel(steps: Sequence[tuple[float, int]], total: float = 86400.0) -> tuple[str, float, list[int]]:
    """How it ends, after how many seconds, and how many parts came to the client and to the server. A step is a pause
    in seconds, and who says something after it."""
    (client, near), (far, server) = socket.socketpair(), socket.socketpair()
    ends = [await asyncio.open_connection(sock=one) for one in (client, server)]
    sides = [Side(*await asyncio.open_connection(sock=one)) for one in (near, far)]
    loop, came = asyncio.get_running_loop(), [0, 0]

    async def hear(who: int) -> None:
        while part := await ends[who][0].read(100):
            came[who] += len(part)

    hearing = [asyncio.create_task(hear(who)) for who in (CLIENT, SERVER)]
    began = loop.time()
    passing = asyncio.create_task(splice(sides[CLIENT], sides[SERVER], Moved(), IDLE, total))
    for pause, who in steps:
        await asyncio.wait([passing], timeout=pause)
        if passing.done():
            break
        ends[who][1].write(b"x")
    else:
        for _, writer in ends:
            writer.write_eof()
    ended, seconds = await passing, loop.time() - began
    for _, writer in (*ends, *((side.reader, side.writer) for side in sides)):
        writer.close()
    await asyncio.gather(*hearing, return_exceptions=True)
    return ended, seconds, came


def on_that_clock(steps: Sequence[tuple[float, int]], total: float = 86400.0) -> tuple[str, float, list[int]]:
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(tunnel(steps, total))


def test_an_hour_in_which_only_one_side_speaks_now_and_then() -> None:
    ended, seconds, came = on_that_clock([(300.0, SERVER)] * 12)
    assert (ended, came) == ("ended", [12, 0])
    assert seconds == pytest.approx(3600, rel=0.01)


def test_a_silence_within_the_limit_is_borne_and_a_longer_one_ends_it() -> None:
    ended, seconds, came = on_that_clock([(IDLE - 10, CLIENT), (IDLE - 10, SERVER), (IDLE + 10, CLIENT)])
    assert (ended, came) == ("idle", [1, 1])
    assert seconds == pytest.approx(3 * IDLE - 20, rel=0.01)


def test_it_ends_when_its_time_is_over_whatever_moves() -> None:
    ended, seconds, came = on_that_clock([(100.0, CLIENT)] * 40, total=1800.0)
    assert ended == "total time"
    assert came[SERVER] in (17, 18)
    assert seconds == pytest.approx(1800, rel=0.01)
