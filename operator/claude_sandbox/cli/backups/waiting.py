"""Waits for what the operator says of an object, and shows what is new of it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from claude_sandbox.api.clip import plain
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.progress import Progress, amount
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import Resource

EVERY = 1.0
"""Seconds between two looks."""
_DOES = {"List": "listing", "Save": "saving", "Restore": "restoring", "Compare": "comparing"}

timeout_option = click.option(
    "--timeout",
    "patience",
    metavar="SECONDS",
    type=click.IntRange(0),
    default=0,
    help="How long to wait. Default: until it is over, also where somebody has to do something first.",
)


async def awaited(
    api: Api,
    resource: Resource,
    namespace: str,
    name: str,
    over: Callable[[Mapping[str, Any]], bool],
    said: Callable[[Mapping[str, Any]], str],
    patience: int,
    progress: str,
) -> Mapping[str, Any]:
    """The status when it is `over`; what is `said` of it until then is shown once each, and on a terminal how far it
    is, by its field `progress`.

    Raises WorkError, also where it is not over after `patience` seconds; 0: that never comes.
    """
    shown, until = "", time.monotonic() + (patience or float("inf"))
    with Progress(name) as line:
        while True:
            try:
                live = await api.get(resource, name, namespace)
            except ApiError as error:
                what = f"{resource.kind} {namespace}/{name}"
                raise refused(error, what, f"get {resource.plural}", namespace) from None
            status: Mapping[str, Any] = live.get("status") or {}
            if over(status):
                return status
            if (text := said(status)) and text != shown:
                shown = text
                line.clear()
                click.echo(plain(text), err=True)
            if found := status.get(progress):
                line.say(plain(how_far(found)))
            if time.monotonic() >= until:
                why = f": {plain(shown)}" if shown else "."
                raise WorkError(
                    f"{resource.kind} {namespace}/{name} is not over after {patience} s{why}",
                    f"It goes on. See: kubectl describe {resource.kind.lower()} {name} -n {namespace}",
                )
            await asyncio.sleep(EVERY)


def how_far(found: Mapping[str, Any]) -> str:
    """Of what the status says of that, for people."""
    files, size = found.get("files"), f"{amount(found.get('sizeBytes', 0))} of {amount(found.get('totalBytes', 0))}"
    # Of a restore only bytes are known.
    counted = f", {files} of {found.get('totalFiles')} files" if files else ""
    return f"{_DOES.get(str(found.get('phase')), found.get('phase'))}, {found.get('percent')} % ({size}{counted})"


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition; empty where it is not there yet."""
    found = (one for one in status.get("conditions") or () if one.get("type") == kind)
    return next(found, {})
