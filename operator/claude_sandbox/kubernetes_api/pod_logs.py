"""What the containers of pods have written, as the API server hands it on from the kubelet."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

import aiohttp

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.informers.watch_events import lines
from claude_sandbox.kubernetes_api.queries import query
from claude_sandbox.kubernetes_api.resources import PODS
from claude_sandbox.kubernetes_api.transport import Request, no_answer, refusal

SILENCE = 60.0
"""Seconds without a byte after which a log that has an end is given up."""


async def log_lines(
    api: Api,
    namespace: str,
    pod: str,
    container: str,
    *,
    since: datetime | None = None,
    follow: bool = False,
    previous: bool = False,
) -> AsyncGenerator[bytes, None]:
    """The lines of a container's log, from `since` on, to the second. Use with `contextlib.aclosing`.

    As `log_parts` says. Raises ApiError.
    """
    async with aclosing(
        log_parts(api, namespace, pod, container, since=since, follow=follow, previous=previous)
    ) as log:
        async for line in lines(log):
            yield line


async def log_parts(
    api: Api,
    namespace: str,
    pod: str,
    container: str,
    *,
    since: datetime | None = None,
    follow: bool = False,
    previous: bool = False,
    tail: int | None = None,
    timestamps: bool = False,
) -> AsyncGenerator[bytes, None]:
    """A container's log as it comes, from `since` on, to the second. Use with `contextlib.aclosing`.

    `follow`: go on as it grows, until the container ends or the API server closes the stream. `previous`: of the
    container that ran before the last restart. `tail`: the last so many lines. `timestamps`: each line begins with
    when it was written. Not retried. Raises ApiError.
    """
    parameters = {"container": container}
    if since is not None:
        parameters["sinceTime"] = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parameters |= {name: "true" for name, wanted in (("follow", follow), ("previous", previous)) if wanted}
    if tail is not None:
        parameters["tailLines"] = str(tail)
    if timestamps:
        parameters["timestamps"] = "true"
    # No Accept of JSON: an error comes as one, a log as text.
    request = Request("GET", PODS.item(pod, namespace, "log") + query(parameters), accept="*/*")
    # Who writes nothing for hours is followed all the same; a dead connection is noticed by the socket's own probes.
    timeouts = aiohttp.ClientTimeout(sock_connect=30.0, sock_read=None if follow else SILENCE)
    try:
        response = await api.open(request, timeouts)
        try:
            if response.status != 200:
                raise refusal(response, await response.read(), sensitive=False)
            async for part in response.content.iter_any():
                yield part
        finally:
            response.close()
    except (aiohttp.ClientError, OSError) as error:
        raise no_answer(error) from None
