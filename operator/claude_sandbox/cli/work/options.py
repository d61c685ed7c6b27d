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
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.local.engine_address import AddressError, EngineAddress, engine_address
from claude_sandbox.cli.where import Where
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError
from claude_sandbox.cli.work.target import Target, find, named
from claude_sandbox.cli.work.ways.channel import ChannelPlace
from claude_sandbox.cli.work.ways.containers import container_place
from claude_sandbox.cli.work.ways.pods import PodPlace
from claude_sandbox.cli.work.ways.sessions import Place
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.operator_sessions import is_place
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS


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
    async with connected(where) as (api, namespace):
        target = await find(api, sandbox[0] or namespace, sandbox[1])
        # A status is read strictly: it decides where the user's connection goes.
        if target.backend is BackendType.DOCKER and is_place(target.sessions) and not _names_an_engine(where):
            yield ChannelPlace(api, target, target.sessions), target
            return
        if target.backend is BackendType.DOCKER:
            async with container_place(await engine_of(api, str(target), target.host, where), target) as place:
                yield place, target
            return
        if _names_an_engine(where):
            raise click.UsageError(f"ClaudeSandbox {target} is on Kubernetes: leave --host and --tls… out.")
        yield PodPlace(api, target), target


def _names_an_engine(where: Where) -> bool:
    return where.host is not None or where.tls.given


async def engine_of(api: Api, sandbox: str, host: str, where: Where) -> EngineAddress:
    """As the command line says, else as the sandbox's DockerHost does. Raises WorkError, click.UsageError."""
    endpoint = where.host
    if endpoint is None:
        try:
            live = await api.get(DOCKER_HOSTS, host)
        except ApiError as error:
            raise WorkError(
                f"DockerHost {host}, on which ClaudeSandbox {sandbox} is, can't be read: {error}.",
                f"Ask for the right to get {meta.HOST_PLURAL}, or name the engine with --host.",
            ) from None
        endpoint = str((live.get("spec") or {}).get("endpoint", ""))
    try:
        return engine_address(endpoint, where.tls)
    except AddressError as error:
        raise click.UsageError(f"{error}") from None


def work(what: Callable[[], Awaitable[int]], *, failed: Exit = Exit.FAILED) -> None:
    """Do it and exit with the code that it gives; with `failed`, and with words, where it can't be done.

    A signal that would end the program ends what is done first, so that nothing is left half done.
    """
    try:
        code = asyncio.run(_interruptible(what))
    except WorkError as error:
        # Servers and sandboxes chose some of the words.
        click.echo(f"Error: {plain(str(error))}\nRemedy: {plain(error.remedy)}", err=True)
        code = failed
    except ApiError as error:
        click.echo(f"Error: the connection to the sandbox broke: {plain(str(error))}\nRemedy: Try again.", err=True)
        code = failed
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = Exit.INTERRUPTED
    sys.exit(code)


async def _interruptible(what: Callable[[], Awaitable[int]]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - this is one
    for number in (signal.SIGTERM, signal.SIGHUP):
        # In a thread that is not the main one there are no signals.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, task.cancel)
    return await what()
