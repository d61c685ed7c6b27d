"""What answers the operator itself: the control of an attempt that fails."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from claude_sandbox.backends.probing.wanted import Wanted
from claude_sandbox.probe.attempts import LARGEST_ANSWER, Target, attempt
from claude_sandbox.probe.outcomes import REACHED, Outcome, of_answer, question


async def tried_here(wanted: Sequence[Wanted], seconds: float) -> dict[str, bool]:
    """Which of the targets that are to be tried here as well answer the operator, each within so many seconds."""
    named = [one for one in wanted if one.elsewhere]
    found = await asyncio.gather(*(_answers(one, seconds) for one in named))
    return dict(zip([one.name for one in named], found, strict=True))


async def _answers(one: Wanted, seconds: float) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            if one.protocol == "dns-udp":
                return await _resolves(one)
            if one.protocol == "tcp":
                return await _connects(one)
            # Few, and of administrators' naming.
            target = Target(one.name, one.host, one.port, one.protocol, one.query)
            return (await asyncio.to_thread(attempt, target, seconds)).outcome in REACHED
    return False


async def _connects(one: Wanted) -> bool:
    _, writer = await asyncio.open_connection(one.host, one.port)
    writer.close()
    return True


async def _resolves(one: Wanted) -> bool:
    loop, asked = asyncio.get_running_loop(), question(one.query)
    with socket.socket(socket.AF_INET6 if ":" in one.host else socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.setblocking(False)
        await loop.sock_connect(resolver, (one.host, one.port))
        await loop.sock_sendall(resolver, asked)
        return of_answer(asked, await loop.sock_recv(resolver, LARGEST_ANSWER)) is Outcome.ANSWERED
