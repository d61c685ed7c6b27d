"""`claude-sandbox restore`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.fields.lifecycle import utc
from claude_sandbox.cli.backups.waiting import awaited, condition, timeout_option
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import WorkError, refused
from claude_sandbox.cli.work.options import sandbox_named, work
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import BACKUPS, SANDBOXES, Resource

_ITS_OWN = frozenset({"incident", "operatingMode", "restoreFrom"})
"""What of a spec is about the old sandbox: that it was suspended or in quarantine is no wish for the new one."""
_TIMES = ("ttl", "shutdownTime", "idleTimeout")


@click.command()
@click.argument("backup", metavar="BACKUP")
@click.option("--as", "name", metavar="NAME", required=True, help="What the new sandbox is called.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until its workspace is filled.")
@timeout_option
@where_options
def restore(backup: str, name: str, wait: bool, patience: int, where: Where) -> None:
    """Make a new sandbox, like the one that was backed up, whose workspace is the backup's.

    BACKUP is the name of a ClaudeSandboxBackup, NAME or NAMESPACE/NAME. The new sandbox has the spec of the old one,
    but for its incident, its suspension, and a shutdownTime that is over. The old one has to be there still; where it
    is not, write spec.restoreFrom into a manifest of your own. Interrupted, the restoring goes on.

    \b
      kubectl get claudesandboxbackups -n agents
      claude-sandbox restore agents/alice-20270331-020000 --as alice-again
    """
    found = sandbox_named(backup, where)
    work(lambda: _run(found, name, wait, patience, where))


async def _run(backup: tuple[str, str], name: str, wait: bool, patience: int, where: Where) -> int:
    async with connected(where) as (api, default):
        namespace = backup[0] or default
        made = await _got(api, BACKUPS, backup[1], namespace)
        try:
            old = await api.get(SANDBOXES, made["spec"]["sandboxName"], namespace)
        except ApiError as error:
            raise WorkError(
                f"The sandbox that was backed up can't be read: {error}.",
                f"Make one of your own with spec.restoreFrom.backupName {backup[1]}; the snapshot has its manifest as"
                " about/manifest.json.",
            ) from None
        body = {
            "apiVersion": SANDBOXES.api_version,
            "kind": SANDBOXES.kind,
            "metadata": {"name": name},
            "spec": spec_of(old["spec"], datetime.now(UTC)) | {"restoreFrom": {"backupName": backup[1]}},
        }
        try:
            await api.create(SANDBOXES, body, namespace)
        except ApiError as error:
            raise refused(error, f"ClaudeSandbox {namespace}/{name}", f"create {meta.PLURAL}", namespace) from None
        click.echo(f"ClaudeSandbox {namespace}/{name} is made.", err=True)
        if not wait:
            return 0
        status = await awaited(
            api, SANDBOXES, namespace, name, lambda told: bool(told.get("restore")), _said, patience, "restoring"
        )
    told = status["restore"]
    good = told.get("state") == "Restored"
    click.echo(plain(f"ClaudeSandbox {namespace}/{name}: {told.get('message')}"), err=not good)
    return 0 if good else 1


def spec_of(old: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What of the old sandbox's spec is the new one's as well."""
    found = {name: value for name, value in old.items() if name not in _ITS_OWN}
    lifecycle = dict(found.get("lifecycle") or {})
    ends = utc(lifecycle.get("shutdownTime"))
    # By it the new one would be suspended from its beginning, and nothing is restored into one that is.
    if ends is not None and ends <= now:
        del lifecycle["shutdownTime"]
        # A lifecycle without any time is refused.
        if any(time in lifecycle for time in _TIMES):
            return found | {"lifecycle": lifecycle}
        del found["lifecycle"]
    return found


async def _got(api: Api, resource: Resource, name: str, namespace: str) -> Mapping[str, Any]:
    try:
        return await api.get(resource, name, namespace)
    except ApiError as error:
        raise refused(error, f"{resource.kind} {namespace}/{name}", f"get {resource.plural}", namespace) from None


def _said(status: Mapping[str, Any]) -> str:
    return str(condition(status, "Ready").get("message") or "")
