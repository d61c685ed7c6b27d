"""`claude-sandbox incident host`: a Docker host that is compromised."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import refused
from claude_sandbox.cli.work.options import work
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import DOCKER_HOSTS

_COMPROMISED = "HostCompromised"


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--compromised", "what", flag_value="compromised", help="Declare that the host is compromised.")
@click.option("--lift", "what", flag_value="lift", help="End the incident; it takes the right to.")
@click.option("--note", metavar="TEXT", default="", help="Why. Everybody who may read the DockerHost can read it.")
@click.option(
    "--since",
    metavar="TIME",
    default="",
    help="Since when it may have been so, in UTC, as 2027-03-31T18:00:00Z. No backup that was made later is trusted.",
)
@click.option(
    "--timeout", metavar="SECONDS", type=click.IntRange(0, 3600), default=60, show_default=True,
    help="How long to wait until it is so; 0: not at all.",
)  # fmt: skip
@where_options
def host(name: str, what: str | None, note: str, since: str, timeout: int, where: Where) -> None:
    """What there is to do about a Docker host that is compromised, and to declare that it is.

    Nothing is placed there any more, asked of its engine or given to it, and no key that was there is used by any
    sandbox, until another one is in its Secret. The host itself a person has to cut off.

    \b
      claude-sandbox incident host build-1 --compromised --note "somebody else logged in"
      claude-sandbox incident host build-1
    """
    if (note or since) and what != "compromised":
        raise click.UsageError(f"{'--note' if note else '--since'} belongs to --compromised")
    more = {name: value for name, value in (("note", note), ("since", since)) if value}
    declared: Mapping[str, Any] = {"state": _COMPROMISED, **more}
    if what is None:
        work(lambda: _told(name, where))
    elif what == "compromised":
        work(lambda: _declared(name, where, declared, timeout, lambda live: bool(_status(live))))
    else:
        work(lambda: _declared(name, where, None, timeout, lambda live: not _status(live)))


async def _declared(
    name: str,
    where: Where,
    declared: Mapping[str, Any] | None,
    patience: int,
    done: Callable[[Mapping[str, Any]], bool],
) -> int:
    begun = time.monotonic()
    async with connected(where) as (api, _):
        try:
            live: Mapping[str, Any] = await api.patch(DOCKER_HOSTS, name, None, {"spec": {"incident": declared}})
        except ApiError as error:
            raise refused(error, f"DockerHost {name}", f"patch {meta.HOST_PLURAL}", "") from None
        while patience and not done(live):
            if time.monotonic() - begun > patience:
                click.echo(f"DockerHost {name}: not so after {patience} s.", err=True)
                _tell(live, name)
                return 1
            await asyncio.sleep(0.1)
            live = await _read(api, name)
        _tell(live, name)
    return 0


async def _told(name: str, where: Where) -> int:
    async with connected(where) as (api, _):
        _tell(await _read(api, name), name)
    return 0


async def _read(api: Api, name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = await api.get(DOCKER_HOSTS, name)
    except ApiError as error:
        raise refused(error, f"DockerHost {name}", f"get {meta.HOST_PLURAL}", "") from None
    return found


def _status(live: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (live.get("status") or {}).get("incident")
    return found if isinstance(found, Mapping) else {}


def _tell(live: Mapping[str, Any], name: str) -> None:
    found, declared = _status(live), (live.get("spec") or {}).get("incident") or {}
    click.echo(f"DockerHost {name}: {plain(str(declared.get('state', 'no incident')))}")
    if declared.get("note"):
        click.echo(f"  note       {plain(str(declared['note']))}")
    if not found:
        return
    click.echo(f"  since      {plain(str(found.get('since')))}")
    if declared.get("since"):
        click.echo(f"  suspected  {plain(str(declared['since']))}")
    click.echo(f"  sandboxes  {found.get('sandboxes')}")
    for one in found.get("ran") or ():
        click.echo(f"  ran there  {plain(str(one))}")
    for one in found.get("secrets") or ():
        which = f"generation {one['generation']}" if one.get("generation") else "every generation"
        used = "used no more" if one.get("use") == "Model" else "still used: change it"
        revoked = f", revocation: {said.get('state')}" if (said := one.get("revocation")) else ""
        told = f"{one.get('namespace')}/{one.get('name')}, {which}, {used}{revoked}"
        click.echo(f"  key        {plain(told)}")
    if found.get("moreSecrets"):
        click.echo(f"  key        and {found['moreSecrets']} more")
    for number, step in enumerate(found.get("steps") or (), 1):
        click.echo(f"  {number}. {plain(str(step))}")
