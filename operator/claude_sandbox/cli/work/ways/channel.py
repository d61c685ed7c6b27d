"""A sandbox on Docker, by the operator: for who has rights in the cluster, and no engine."""

from collections.abc import AsyncGenerator, Sequence

from claude_sandbox.api.clip import plain
from claude_sandbox.api.kinds.sessions import Command, Log
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.target import Target
from claude_sandbox.cli.work.ways.sessions import LogOptions
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.operator_sessions import OperatorSession, SessionRefused, open_session
from claude_sandbox.kubernetes_api.pod_exec import Channel


class ChannelPlace:
    """A `Place`. `at`: where the operator is, as the sandbox's status has it."""

    def __init__(self, api: Api, target: Target, at: str) -> None:
        self._api = api
        self._target = target
        self._at = at

    async def run(self, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> OperatorSession:
        """Raises WorkError where it may not be run."""
        return await self._open(Command(command=list(command), stdin=stdin, tty=tty))

    async def log(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """Raises WorkError."""
        if options.previous:
            raise WorkError("An engine keeps one log over all restarts.", "Leave --previous out.")
        since = options.since.timestamp() if options.since is not None else None
        wanted = Log(follow=options.follow, since=since, tail=options.tail, timestamps=options.timestamps)
        session = await self._open(wanted)
        try:
            async for channel, part in session.output():
                if channel in (Channel.STDOUT, Channel.STDERR):
                    yield part
        except ApiError as error:
            raise WorkError(f"The log ended: {plain(error.message)}.", "Try again.") from None
        finally:
            await session.close()

    async def _open(self, what: Command | Log) -> OperatorSession:
        target = self._target
        try:
            return await open_session(self._api, self._at, target.namespace, target.name, target.uid, what)
        except SessionRefused as error:
            raise WorkError(plain(str(error)), plain(error.remedy)) from None
        except ApiError as error:
            # The proxy of the operator's Service is another right than the session, and another person grants it.
            if error.is_forbidden and "services" in error.message:
                raise _no_way(error, target, self._at) from None
            raise refused(
                error, f"A session in ClaudeSandbox {target}", "create claudesandboxsessions", target.namespace
            ) from None


def _no_way(error: ApiError, target: Target, service: str) -> WorkError:
    namespace = service.partition("/")[0]
    return WorkError(
        f"The operator, which carries sessions in ClaudeSandbox {target}, may not be reached: {plain(str(error))}.",
        f"Ask for the Role claude-sandbox-sessions in namespace {namespace}: kubectl create rolebinding NAME"
        f" --role=claude-sandbox-sessions --user=YOU --namespace={namespace}. Who has the engine of DockerHost"
        f" {target.host} at hand names it with --host.",
    )
