"""Options that the commands share, and how the place of a sandbox is found and left."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.quantity import bytes_of
from claude_sandbox.api.spec import BackendType
from claude_sandbox.cli.engine_address import AddressError, EngineAddress, engine_address
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.containers import container_place
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.pods import PodPlace
from claude_sandbox.cli.work.sessions import Place
from claude_sandbox.cli.work.target import Target, find, named
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS

INTERRUPTED = 130
"""The exit code of what was ended by a signal, as a shell has it."""


def _size(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        return bytes_of(value)
    except ValueError:
        raise click.BadParameter("write an amount such as 500Mi or 10Gi") from None


def size_option(default: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The bound of what is taken from a sandbox, in bytes."""
    return click.option("--max-size", metavar="AMOUNT", default=default, show_default=True, callback=_size, help=text)


def sandbox_named(text: str, where: Where) -> tuple[str, str]:
    """Namespace (empty: the context's) and name. Raises click.UsageError."""
    found = named(text, where.namespace)
    if found is None:
        inside = f" in namespace {where.namespace}" if where.namespace else ""
        raise click.UsageError(f"{plain(text)!r} is not the name of a ClaudeSandbox{inside}: NAME or NAMESPACE/NAME")
    return found


@asynccontextmanager
async def place_of(sandbox: tuple[str, str], where: Where) -> AsyncIterator[tuple[Place, Target]]:
    """Where the sandbox runs. Raises WorkError."""
    try:
        credentials = await asyncio.to_thread(load, where.kubeconfig, where.context)
    except CredentialsError as error:
        raise WorkError(f"{error}.", "Name the cluster with --kubeconfig or --context.") from None
    async with Api(credentials, user_agent="claude-sandbox") as api:
        target = await find(api, sandbox[0] or credentials.namespace, sandbox[1])
        if target.backend is BackendType.DOCKER:
            async with container_place(await _engine_of(api, target, where), target) as place:
                yield place, target
            return
        if where.host or where.tls.given:
            raise click.UsageError(f"ClaudeSandbox {target} is on Kubernetes: leave --host and --tls… out.")
        yield PodPlace(api, target), target


async def _engine_of(api: Api, target: Target, where: Where) -> EngineAddress:
    """As the command line says, else as its DockerHost does. Raises WorkError, click.UsageError."""
    endpoint = where.host
    if endpoint is None:
        try:
            live = await api.get(DOCKER_HOSTS, target.host)
        except ApiError as error:
            raise WorkError(
                f"DockerHost {target.host}, on which ClaudeSandbox {target} runs, can't be read: {error}.",
                f"Ask for the right to get {meta.HOST_PLURAL}, or name the engine with --host.",
            ) from None
        endpoint = str((live.get("spec") or {}).get("endpoint", ""))
    try:
        return engine_address(endpoint, where.tls)
    except AddressError as error:
        raise click.UsageError(f"{error}") from None


def work(what: Callable[[], Awaitable[int]], *, failed: int = 1) -> None:
    """Do it and exit with the code that it gives; with `failed`, and with words, where it can't be done.

    A signal that would end the program ends what is done first, so that nothing is left half done.
    """
    try:
        code = asyncio.run(_interruptible(what))
    except WorkError as error:
        click.echo(f"Error: {error}\nRemedy: {error.remedy}", err=True)
        code = failed
    except ApiError as error:
        click.echo(f"Error: the connection to the sandbox broke: {plain(str(error))}\nRemedy: Try again.", err=True)
        code = failed
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    sys.exit(code)


async def _interruptible(what: Callable[[], Awaitable[int]]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - this is one
    for number in (signal.SIGTERM, signal.SIGHUP):
        # In a thread that is not the main one there are no signals.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, task.cancel)
    return await what()
