"""`claude-sandbox incident kept`: workspaces that were kept aside when a sandbox got a fresh one."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.cli.columns import columns
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.incident.aside import Archive, Claims, Kept, Volumes
from claude_sandbox.cli.local.engine_address import AddressError, engine_address
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import engine_of, sandbox_named, size_option, work
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

_SANDBOX = click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
_NUMBER = click.option("--number", metavar="N", type=click.IntRange(1), required=True, help="Which, as `list` shows.")


@click.group()
def kept() -> None:
    """Workspaces that were kept aside when a sandbox got a fresh one: see them, fetch what is in them, remove them.

    The sandbox may be gone: its name says which they are. On Docker name the engine with --host then.
    """


@kept.command("list")
@_SANDBOX
@where_options
def show(sandbox: str, where: Where) -> None:
    """Show a sandbox's workspaces by their numbers, and which of them is in use.

    \b
      claude-sandbox incident kept list agents/alice
    """
    found = sandbox_named(sandbox, where)
    work(lambda: _shown(found, where), failed=Exit.UNREADABLE)


@kept.command()
@_SANDBOX
@_NUMBER
@click.option("--home", is_flag=True, help="What was kept of the home, instead of the workspace.")
@click.option("--image", metavar="IMAGE", help="On Kubernetes: what to read it with; it needs tar and a shell."
              " [default: what the sandbox runs]")  # fmt: skip
@click.option("--output", "-o", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="Where to write the archive. What is there is not overwritten.")  # fmt: skip
@size_option("20Gi", "Of the archive, at most.")
@where_options
def collect(
    sandbox: str, number: int, home: bool, image: str | None, output: Path, max_size: int, where: Where
) -> None:
    """Write what is in one as a tar archive, without running any of it. Unpack it where nothing else is.

    \b
      claude-sandbox incident kept collect agents/alice --number 1 -o aside.tar
    """
    found = sandbox_named(sandbox, where)
    if output.exists():
        raise click.UsageError(f"{output} is there already: name another file")
    archive = Archive(output, max_size, image)
    work(lambda: _collected(found, number, "home" if home else "workspace", archive, where))


@kept.command()
@_SANDBOX
@_NUMBER
@where_options
def remove(sandbox: str, number: int, where: Where) -> None:
    """Remove one for good, with what was kept of the home beside it. The sandbox's present one is refused.

    \b
      claude-sandbox incident kept remove agents/alice --number 1
    """
    found = sandbox_named(sandbox, where)
    work(lambda: _removed(found, number, where))


class _Aside:
    """The workspaces of one sandbox, wherever they are."""

    def __init__(self, what: str, present: int | None, of: Claims | Volumes) -> None:
        self.what = what
        self.present = present
        """The number of its own workspace, which is not aside; None where it is gone."""
        self._of = of

    async def all(self) -> list[Kept]:
        return await self._of.all() if isinstance(self._of, Claims) else await asyncio.to_thread(self._of.all)

    async def one(self, number: int) -> list[Kept]:
        """What there is under a number. Raises WorkError where there is nothing, or it is not aside."""
        found = [one for one in await self.all() if one.number == number]
        see = f"claude-sandbox incident kept list {self.what}"
        if not found:
            raise WorkError(f"ClaudeSandbox {self.what} has no workspace {number}.", f"See which there are: {see}")
        if number == self.present:
            raise WorkError(
                f"Workspace {number} is ClaudeSandbox {self.what}'s own, and not kept aside.",
                "Its files are fetched by claude-sandbox cp, and it goes with the sandbox.",
            )
        if users := {user for one in found for user in one.used_by}:
            raise WorkError(f"Workspace {number} is in use by {plain(', '.join(sorted(users)))}.", "Remove that first.")
        return found

    async def collect(self, kept: Kept, archive: Archive) -> int:
        if isinstance(self._of, Volumes):
            return await asyncio.to_thread(self._of.collect, kept, archive)
        return await self._of.collect(kept, archive)

    async def remove(self, kept: Kept) -> None:
        if isinstance(self._of, Claims):
            await self._of.remove(kept)
        else:
            await asyncio.to_thread(self._of.remove, kept)


async def _aside(api: Api, sandbox: tuple[str, str], where: Where) -> _Aside:
    namespace, name = sandbox
    what = f"{namespace}/{name}"
    try:
        live: Mapping[str, Any] = await api.get(SANDBOXES, name, namespace)
    except ApiError as error:
        if not error.is_not_found:
            raise refused(error, f"ClaudeSandbox {what}", f"get {meta.PLURAL}", namespace) from None
        live = {}
    spec = live.get("spec") or {}
    workspace = spec.get("workspace") or {}
    present = int(workspace.get("instance") or 1) if live and workspace.get("type") != "EmptyDir" else None
    on_docker = (spec.get("backend") or {}).get("type") == "Docker" if live else where.host is not None
    if not on_docker:
        return _Aside(what, present, Claims(api, namespace, name))
    if live:
        host = str(((live.get("status") or {}).get("placement") or {}).get("host") or "")
        return _Aside(what, present, Volumes(await engine_of(api, what, host, where), namespace, name))
    try:
        return _Aside(what, present, Volumes(engine_address(where.host, where.tls), namespace, name))
    except AddressError as error:
        raise click.UsageError(f"{error}") from None


async def _shown(sandbox: tuple[str, str], where: Where) -> int:
    async with connected(where) as (api, default):
        aside = await _aside(api, (sandbox[0] or default, sandbox[1]), where)
        for line in table(await aside.all(), aside.present):
            click.echo(line)
    return 0


def table(found: Sequence[Kept], present: int | None) -> list[str]:
    """What is shown."""
    if not found:
        return ["There is none."]
    rows = [("NUMBER", "WHAT", "NAME", "SIZE", "MADE", "STATE")]
    for one in found:
        used = f"in use by {', '.join(one.used_by)}" if one.used_by else "in use by nothing"
        state = f"the sandbox's own, {used}" if one.number == present else f"kept aside, {used}"
        rows.append((str(one.number), one.part, plain(one.name), plain(one.size), plain(one.made), plain(state)))
    return list(columns(rows))


async def _collected(sandbox: tuple[str, str], number: int, part: str, archive: Archive, where: Where) -> int:
    async with connected(where) as (api, default):
        aside = await _aside(api, (sandbox[0] or default, sandbox[1]), where)
        wanted = [one for one in await aside.one(number) if one.part == part]
        if not wanted:
            raise WorkError(f"ClaudeSandbox {aside.what} has no {part} {number}.", "Leave --home out, or write it.")
        size = await aside.collect(wanted[0], archive)
    click.echo(f"{archive.output}: {size} bytes, the {part} {number} of {plain(aside.what)}.")
    return 0


async def _removed(sandbox: tuple[str, str], number: int, where: Where) -> int:
    async with connected(where) as (api, default):
        aside = await _aside(api, (sandbox[0] or default, sandbox[1]), where)
        for one in await aside.one(number):
            await aside.remove(one)
            click.echo(f"{plain(one.name)} is removed.")
    return 0
