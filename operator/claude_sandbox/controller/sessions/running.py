"""Begins what a session asks for, in the agent's own container and as its own user."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from claude_sandbox.api.kinds.sessions import Opening
from claude_sandbox.backends.docker.engine.client import Client
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.engine.execution import execute
from claude_sandbox.backends.docker.engine.log_stream import read_log
from claude_sandbox.backends.docker.hosts.backends import Fleet
from claude_sandbox.controller.sessions.admission import Admitted, Refused
from claude_sandbox.controller.sessions.server import Run
from claude_sandbox.controller.sessions.streams import Running

T = TypeVar("T", bound=Running)


def beginning(fleet: Fleet) -> Run:
    """Of sandboxes on these hosts."""

    async def run(admitted: Admitted, opening: Opening, threads: Executor) -> Running:
        identity = admitted.identity
        try:
            # First, since it knows the hosts that there are: a status may name any.
            client = fleet.client(admitted.host)
            container = await fleet.of(admitted.host).agent(identity)
            if container is None:
                raise Refused(
                    f"Nothing of ClaudeSandbox {identity.namespace}/{identity.name} runs now.",
                    f"kubectl describe claudesandbox {identity.name} -n {identity.namespace} says why.",
                )
            begin = _begins(client, container, opening)
            return await _kept(threads, begin)
        except EngineError as error:
            raise Refused(
                f"The Docker Engine does not let you into ClaudeSandbox {identity.namespace}/{identity.name}: {error}.",
                "Try again: the operator makes a container anew that is gone.",
            ) from None

    return run


def _begins(client: Client, container: str, opening: Opening) -> Callable[[], Running]:
    if (log := opening.log) is not None:
        return partial(
            read_log, client, container,
            since=log.since, tail=log.tail, follow=log.follow, timestamps=log.timestamps,
        )  # fmt: skip
    command = opening.run
    assert command is not None  # noqa: S101 - one of the two is there
    return partial(execute, client, container, command.command, stdin=command.stdin, tty=command.tty)


async def _kept(threads: Executor, begin: Callable[[], T]) -> T:
    """What was begun; where nobody waits for it any more, it is closed."""
    beginning = asyncio.get_running_loop().run_in_executor(threads, begin)
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(_close)
        raise


def _close(begun: "asyncio.Future[T]") -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().close()
