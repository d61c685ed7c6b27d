"""`claude-sandbox incident`: what a person declares, looks at and lifts. What is done about it the operator does."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.incident.collecting import collected
from claude_sandbox.cli.incident.drill import drill
from claude_sandbox.cli.incident.hosts import host
from claude_sandbox.cli.incident.kept import kept
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import sandbox_named, work
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

_QUARANTINED, _COMPROMISED = "Quarantined", "KeyCompromised"


@click.group()
def incident() -> None:
    """Something bad happened: contain a sandbox, keep the evidence, and lift that again.

    docs/incidents.md says what to do in which order.
    """


incident.add_command(host)
incident.add_command(drill)
incident.add_command(kept)

_SANDBOX = click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
_WAIT = click.option(
    "--timeout", metavar="SECONDS", type=click.IntRange(0, 3600), default=60, show_default=True,
    help="How long to wait until it is so; 0: not at all.",
)  # fmt: skip


@incident.command()
@_SANDBOX
@click.option("--note", metavar="TEXT", default="", help="Why. Everybody who may read the sandbox can read it.")
@_WAIT
@where_options
def quarantine(sandbox: str, note: str, timeout: int, where: Where) -> None:
    """Let nothing in or out of a sandbox, have nothing of it go on, and keep what it was as evidence.

    SANDBOX is NAME or NAMESPACE/NAME. It may be in any state. It takes the right to patch the ClaudeSandbox; to lift it
    takes another.

    \b
      claude-sandbox incident quarantine agents/alice --note "pushed to a branch that nobody asked for"
    """
    found = sandbox_named(sandbox, where)
    declared = {"state": _QUARANTINED, **({"note": note} if note else {})}
    work(lambda: _declared(found, where, declared, timeout, _is_kept))


@incident.command("key-compromised")
@_SANDBOX
@click.option("--note", metavar="TEXT", default="", help="Why. Everybody who may read the sandbox can read it.")
@_WAIT
@where_options
def key_compromised(sandbox: str, note: str, timeout: int, where: Where) -> None:
    """Have a sandbox's key used no more, by it and by all of its namespace that share the Secret.

    Revoke it where it is from, and write another one into the Secret: that ends it, and work goes on.

    \b
      claude-sandbox incident key-compromised agents/alice --note "seen in a public log"
    """
    found = sandbox_named(sandbox, where)
    declared = {"state": _COMPROMISED, **({"note": note} if note else {})}
    work(lambda: _declared(found, where, declared, timeout, _is_withdrawn, _nothing_before))


def _nothing_before(live: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises WorkError where this would lift what a sandbox declares, or say nothing beside it."""
    declared = (live.get("spec") or {}).get("incident") or {}
    if declared.get("state") == _QUARANTINED:
        raise WorkError(
            "It is in quarantine, which this would lift: a sandbox has one incident.",
            "Declare it at another sandbox that shares the Secret.",
        )
    if declared.get("state") == _COMPROMISED and _status(live).get("endedAt"):
        raise WorkError(
            "An earlier key of it was declared compromised, which is over and not lifted: of another key this would say"
            " nothing.",
            "`claude-sandbox incident lift` first, then this again.",
        )
    if declared.get("state", "None") == "None" and _status(live):
        raise WorkError(
            "An earlier incident of it was lifted, which the operator has not seen yet.",
            "`claude-sandbox incident status` says when it has; then this again.",
        )
    return {}


def _is_withdrawn(live: Mapping[str, Any]) -> bool:
    return bool(_status(live).get("state") == _COMPROMISED)


@incident.command()
@_SANDBOX
@click.option("--fresh-workspace", is_flag=True, help="With an empty workspace; the one that it had is kept aside.")
@_WAIT
@where_options
def lift(sandbox: str, fresh_workspace: bool, timeout: int, where: Where) -> None:
    """End an incident: the sandbox gets a new workload, and what was in quarantine never goes on.

    Its workspace is what it was, unless it gets a fresh one: then spec.workspace.instance is a number that was never
    used, and nothing mounts the one before until its number is written there.

    It takes the verb `lift` on claudesandboxes/incident, where the policy of manifests/incidents is installed.

    \b
      claude-sandbox incident lift agents/alice
      claude-sandbox incident lift agents/alice --fresh-workspace
    """
    found = sandbox_named(sandbox, where)
    change = _fresh if fresh_workspace else None
    work(lambda: _declared(found, where, None, timeout, lambda live: not _status(live), change))


def _fresh(live: Mapping[str, Any]) -> Mapping[str, Any]:
    """What gives a sandbox the next workspace. Raises WorkError where there is nothing to keep aside, or to lift."""
    spec = live.get("spec") or {}
    # Who asks again after a lift that took long would put the fresh one aside, too.
    if not spec.get("incident"):
        raise WorkError(
            "It has no incident that could be lifted: that was done before, or never declared.",
            "`claude-sandbox incident status` says how far that is, spec.workspace.instance which workspace it has.",
        )
    workspace = spec.get("workspace") or {}
    if workspace.get("type") == "EmptyDir":
        raise WorkError(
            "The workspace is an EmptyDir, which went with what was in quarantine.", "Leave --fresh-workspace out."
        )
    # Not the one after the present: who went back to an earlier one would be given what was put aside after that.
    highest = max(int(workspace.get("instance") or 1), int((live.get("status") or {}).get("workspaces") or 1))
    return {"workspace": {"instance": highest + 1}}


@incident.command()
@_SANDBOX
@where_options
def status(sandbox: str, where: Where) -> None:
    """How far what is done about an incident is, and where the evidence is.

    \b
      claude-sandbox incident status agents/alice
    """
    found = sandbox_named(sandbox, where)
    work(lambda: _told(found, where))


@incident.command()
@_SANDBOX
@click.option("--output", "-o", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="Where to write the archive. What is there is not overwritten.")  # fmt: skip
@click.option("--checkpoint", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Where to write the agent's memory, encrypted. Default: it is not fetched.")  # fmt: skip
@where_options
def collect(sandbox: str, output: Path, checkpoint: Path | None, where: Where) -> None:
    """Fetch the archive with the evidence, and compare its checksum with the one in the sandbox's status.

    In it SHA256SUMS has those of its files: `sha256sum -c SHA256SUMS`.

    \b
      claude-sandbox incident collect agents/alice -o evidence.tar
      claude-sandbox incident collect agents/alice -o evidence.tar --checkpoint memory.tar.age
    """
    found = sandbox_named(sandbox, where)
    for file in filter(None, (output, checkpoint)):
        if file.exists():
            raise click.UsageError(f"{file} is there already: name another file")
    work(lambda: _collected(found, output, checkpoint, where))


async def _declared(
    sandbox: tuple[str, str],
    where: Where,
    declared: Mapping[str, Any] | None,
    patience: int,
    done: Callable[[Mapping[str, Any]], bool],
    more: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> int:
    """`more`: what else of the spec is changed with it, given the sandbox as it is."""
    begun = time.monotonic()
    async with connected(where) as (api, default):
        namespace, name = sandbox[0] or default, sandbox[1]
        what = f"ClaudeSandbox {namespace}/{name}"
        changed = more(await _read(api, namespace, name)) if more is not None else {}
        patch = {"spec": {"incident": declared, **changed}}
        try:
            live: Mapping[str, Any] = await api.patch(SANDBOXES, name, namespace, patch)
        except ApiError as error:
            raise refused(error, what, f"patch {meta.PLURAL}", namespace) from None
        while patience and not done(live):
            if time.monotonic() - begun > patience:
                click.echo(f"{what}: not so after {patience} s.", err=True)
                _tell(live, what)
                return 1
            await asyncio.sleep(0.1)
            live = await _read(api, namespace, name)
        _tell(live, what)
    return 0


async def _told(sandbox: tuple[str, str], where: Where) -> int:
    async with connected(where) as (api, default):
        namespace, name = sandbox[0] or default, sandbox[1]
        _tell(await _read(api, namespace, name), f"ClaudeSandbox {namespace}/{name}")
    return 0


async def _collected(sandbox: tuple[str, str], output: Path, checkpoint: Path | None, where: Where) -> int:
    async with connected(where) as (api, default):
        namespace, name = sandbox[0] or default, sandbox[1]
        live = await _read(api, namespace, name)
        evidence = _status(live).get("evidence")
        if not evidence:
            raise WorkError(
                f"No evidence of ClaudeSandbox {namespace}/{name} is kept.",
                f"`claude-sandbox incident status {namespace}/{name}` says how far that is.",
            )
        wanted = [(evidence, output)]
        if checkpoint is not None:
            wanted.append((_checkpoint(evidence, f"{namespace}/{name}"), checkpoint))
        for one, file in wanted:
            size = await collected(api, live, one, file, where)
            click.echo(f"{file}: {size} bytes, sha256 {one['sha256']} as in the sandbox's status.")
    return 0


def _checkpoint(evidence: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    found = evidence.get("checkpoint")
    if not isinstance(found, Mapping):
        why = "; ".join(str(one) for one in evidence.get("missing") or () if "memory" in str(one))
        raise WorkError(
            f"No memory of ClaudeSandbox {what} is kept.",
            plain(why) or "It is kept where the operator has --checkpoint-recipient: see docs/incidents.md.",
        )
    return found


async def _read(api: Api, namespace: str, name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = await api.get(SANDBOXES, name, namespace)
    except ApiError as error:
        raise refused(error, f"ClaudeSandbox {namespace}/{name}", f"get {meta.PLURAL}", namespace) from None
    return found


def _status(live: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (live.get("status") or {}).get("incident")
    return found if isinstance(found, Mapping) else {}


def _is_kept(live: Mapping[str, Any]) -> bool:
    """Whether it is contained, and there is evidence, or nothing that there could be any of."""
    conditions = {one["type"]: one["status"] for one in (live.get("status") or {}).get("conditions") or ()}
    at_rest = conditions.get("Reconciling") == "False"
    return conditions.get("Contained") == "True" and (bool(_status(live).get("evidence")) or at_rest)


def _used(user: Mapping[str, Any]) -> str:
    """What a sandbox did with a compromised key, before that was declared and after."""
    if not user.get("lastUsed") and not user.get("requestsSince"):
        return "not told"
    cost = f", {user['costUSD']} USD" if user.get("costUSD") else ""
    since = f"; told since: {user['requestsSince']} requests" if user.get("requestsSince") else ""
    costs = f", {user['costUSDSince']} USD" if since and user.get("costUSDSince") else ""
    return f"last used {user.get('lastUsed', 'before')}, {user.get('requests') or 0} requests{cost}{since}{costs}"


def _tell(live: Mapping[str, Any], what: str) -> None:
    found, declared = _status(live), (live.get("spec") or {}).get("incident") or {}
    click.echo(f"{what}: {plain(str(declared.get('state', 'no incident')))}")
    if declared.get("note"):
        click.echo(f"  note       {plain(str(declared['note']))}")
    for field, shown in (("since", "since"), ("containedAt", "contained"), ("containedWithin", "within")):
        if found.get(field):
            click.echo(f"  {shown:<10} {plain(str(found[field]))}")
    if found.get("generation"):
        click.echo(f"  generation {plain(str(found['generation']))} of the Secret")
    if found.get("endedAt"):
        click.echo(f"  over since {plain(str(found['endedAt']))}: another key is there")
    if revocation := found.get("revocation"):
        why = f": {revocation['message']}" if revocation.get("message") else ""
        state = f"{revocation.get('state')} {revocation.get('at')}{why}"
        click.echo(f"  revocation {plain(state)}")
    for user in found.get("users") or ():
        click.echo(f"  used by    {plain(str(user.get('name')))}: {plain(_used(user))}")
    evidence = found.get("evidence") or {}
    if evidence:
        click.echo(f"  evidence   {plain(str(evidence.get('place')))}")
        click.echo(f"             {evidence.get('files')} files, {evidence.get('size')} bytes")
        click.echo(f"             sha256 {plain(str(evidence.get('sha256')))}")
    if checkpoint := evidence.get("checkpoint") or {}:
        click.echo(f"  memory     {plain(str(checkpoint.get('place')))}, {checkpoint.get('size')} bytes")
        click.echo(f"             sha256 {plain(str(checkpoint.get('sha256')))}")
        click.echo(f"             encrypted to {plain(str(checkpoint.get('recipient')))}")
    for one in evidence.get("missing") or ():
        click.echo(f"  not kept   {plain(str(one))}")
    for one in (live.get("status") or {}).get("conditions") or ():
        if one["type"] == "Contained":
            click.echo(f"  Contained  {one['status']}: {plain(one['message'])}")
