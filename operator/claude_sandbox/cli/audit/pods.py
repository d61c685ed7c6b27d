"""Lines of the audit of a sandbox on Kubernetes: what the gateways of its namespace have written, in one order.

A gateway writes a line when a request ends, so each log is in the order of its times, and logs are merged. Followed
lines are put in order as far as they come within LINGER of each other: replicas don't wait for one another.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.cli.audit.lines import Line, parse
from claude_sandbox.cli.audit.sandboxes import Audited
from claude_sandbox.cli.unreadable import UnreadableError, unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_logs import log_lines
from claude_sandbox.kubernetes_api.resources import PODS

SELECTOR = f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY},{meta.LABEL_COMPONENT}=gateway"
LINGER = 0.5
"""Seconds that a followed line waits for earlier ones of other replicas."""
LOOK = 3.0
"""Seconds between two looks for pods that are new, or whose log has come to an end."""
_RECENT = 2000
_TOGETHER = 1000


class _AwayError(UnreadableError):
    """Nobody said no: it may go later."""


@dataclass
class Log:
    """One container's log, and how far it was read. The API server begins anew at a second, not at a line."""

    pod: str
    container: str
    restarted: bool
    last: datetime | None = None
    recent: deque[bytes] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def is_new(self, line: Line, data: bytes) -> bool:
        """Whether the line was not there before; it is, from now on."""
        if self.last is not None and line.time <= self.last and data in self.recent:
            return False
        self.recent.append(data)
        self.last = line.time if self.last is None else max(self.last, line.time)
        return True


async def lines(
    api: Api, sandbox: Audited, since: datetime | None, *, follow: bool, linger: float = LINGER, look: float = LOOK
) -> AsyncGenerator[Line, None]:
    """What its gateways have written; with `follow` for ever, of pods that are new too. Raises UnreadableError."""
    logs = {one.pod: one for one in await _logs(api, sandbox)}
    if not logs:
        raise UnreadableError(
            f"No gateway runs in namespace {sandbox.namespace}.",
            f"kubectl describe {meta.SINGULAR} {sandbox.name} --namespace {sandbox.namespace} says why.",
        )
    async for line in _merged([_written(api, sandbox, one, since) for one in logs.values()]):
        yield line
    if not follow:
        return
    async with aclosing(_followed(api, sandbox, logs, since, linger, look)) as followed:
        async for line in followed:
            yield line


def is_of(line: Line, sandbox: Audited) -> bool:
    """Whether it is of the sandbox, or of somebody who presented its pod's token in vain."""
    return line.text("sandbox") == sandbox.uid or (
        not line.text("sandbox") and bool(sandbox.workload) and line.text("claimedPod") == sandbox.workload
    )


async def _logs(api: Api, sandbox: Audited) -> list[Log]:
    try:
        found = await api.list(PODS, sandbox.namespace, label_selector=SELECTOR)
    except ApiError as error:
        if not error.status or error.is_transient:
            raise _AwayError(
                f"The API server does not tell of the pods of namespace {sandbox.namespace}: {error}.", "Try again."
            ) from None
        what, right = f"The pods of namespace {sandbox.namespace}", f"list pods in namespace {sandbox.namespace}"
        raise unread(error, what, right) from None
    return [_log(pod) for pod in found.items]


def _log(pod: dict[str, Any]) -> Log:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    restarted = any(one.get("restartCount", 0) for one in statuses)
    return Log(str(pod["metadata"]["name"]), str(pod["spec"]["containers"][0]["name"]), restarted)


async def _written(api: Api, sandbox: Audited, log: Log, since: datetime | None) -> AsyncGenerator[Line, None]:
    """What is there now, before its last restart too."""
    for previous in (True, False) if log.restarted else (False,):
        async for line in _read(api, sandbox, log, since, previous=previous):
            yield line


async def _read(
    api: Api, sandbox: Audited, log: Log, since: datetime | None, *, previous: bool = False, follow: bool = False
) -> AsyncGenerator[Line, None]:
    reading = log_lines(api, sandbox.namespace, log.pod, log.container, since=since, previous=previous, follow=follow)
    try:
        async with aclosing(reading):
            async for data in reading:
                line = parse(data)
                if line is not None and log.is_new(line, data) and is_of(line, sandbox):
                    yield line
    except ApiError as error:
        # Not begun yet, gone meanwhile, or without what it wrote before a restart: that is no trouble of the others'.
        if error.status in (400, 404) or (follow and not error.is_forbidden):
            return
        what, right = f"The log of pod {sandbox.namespace}/{log.pod}", "get pods/log in that namespace"
        raise unread(error, what, right) from None


async def _merged(sources: list[AsyncGenerator[Line, None]]) -> AsyncIterator[Line]:
    heads: list[tuple[datetime, int, Line]] = []

    async def take(number: int) -> None:
        line = await anext(sources[number], None)
        if line is not None:
            heapq.heappush(heads, (line.time, number, line))

    await asyncio.gather(*map(take, range(len(sources))))
    while heads:
        _, number, line = heapq.heappop(heads)
        yield line
        await take(number)


async def _followed(
    api: Api, sandbox: Audited, logs: dict[str, Log], since: datetime | None, linger: float, look: float
) -> AsyncGenerator[Line, None]:
    queue: asyncio.Queue[Line] = asyncio.Queue(_TOGETHER)

    async def follow(log: Log) -> None:
        async for line in _read(api, sandbox, log, log.last or since, follow=True):
            await queue.put(line)

    tasks: dict[str, asyncio.Task[None]] = {}

    async def keep() -> None:
        while True:
            for pod, log in logs.items():
                if pod in tasks and tasks[pod].done():
                    tasks.pop(pod).result()
                if pod not in tasks:
                    tasks[pod] = asyncio.create_task(follow(log))
            await asyncio.sleep(look)
            # An API server that is away for a while is waited for.
            with suppress(_AwayError):
                now = {one.pod: one for one in await _logs(api, sandbox)}
                for pod in logs.keys() - now.keys():
                    del logs[pod]
                logs.update({pod: one for pod, one in now.items() if pod not in logs})

    keeping = asyncio.create_task(keep())
    try:
        while True:
            async for line in _batch(queue, keeping, linger):
                yield line
    finally:
        for task in (keeping, *tasks.values()):
            task.cancel()
        await asyncio.gather(keeping, *tasks.values(), return_exceptions=True)


async def _batch(queue: asyncio.Queue[Line], keeping: asyncio.Task[None], linger: float) -> AsyncIterator[Line]:
    """What comes within `linger` of the first line, in order. Raises what ends `keeping`."""
    first = asyncio.create_task(queue.get())
    try:
        await asyncio.wait((first, keeping), return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            keeping.result()
        batch = [first.result()]
    finally:
        first.cancel()
    end = asyncio.get_running_loop().time() + linger
    while len(batch) < _TOGETHER and (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            batch.append(await asyncio.wait_for(queue.get(), left))
        except TimeoutError:
            break
    for line in sorted(batch, key=lambda one: one.time):
        yield line
