"""A sandbox on Kubernetes: its pod, by the API server and the user's own rights."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.sessions import LogOptions
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.pod_exec import PodExec, run
from claude_sandbox.kubernetes_api.pod_logs import log_parts


class PodPlace:
    """A `Place`."""

    def __init__(self, api: Api, target: Target) -> None:
        self._api = api
        self._target = target

    async def run(self, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> PodExec:
        """Raises WorkError where it may not be run."""
        target = self._target
        try:
            return await run(
                self._api, target.namespace, target.workload, target.container, command, stdin=stdin, tty=tty
            )
        except ApiError as error:
            raise refused(
                error, f"A session in ClaudeSandbox {target}", "get and create pods/exec", target.namespace
            ) from None

    async def log(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """Raises WorkError."""
        target = self._target
        parts = log_parts(
            self._api,
            target.namespace,
            target.workload,
            target.container,
            since=options.since,
            follow=options.follow,
            previous=options.previous,
            tail=options.tail,
            timestamps=options.timestamps,
        )
        try:
            async with aclosing(parts):
                async for part in parts:
                    yield part
        except ApiError as error:
            if options.previous and error.status == 400:
                raise WorkError(
                    f"ClaudeSandbox {target} has not been started again: there is no log from before.",
                    "Leave --previous out.",
                ) from None
            raise refused(error, f"The log of ClaudeSandbox {target}", "get pods/log", target.namespace) from None
