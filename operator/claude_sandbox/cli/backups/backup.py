"""`claude-sandbox backup`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.kinds.backups import OVER, BackupConditionType
from claude_sandbox.cli.backups.waiting import awaited, condition, timeout_option
from claude_sandbox.cli.completion import sandbox_names
from claude_sandbox.cli.where import Where, where_options
from claude_sandbox.cli.work.connection import connected
from claude_sandbox.cli.work.errors import refused
from claude_sandbox.cli.work.options import sandbox_named, work
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import BACKUPS


@click.command()
@click.argument("sandbox", metavar="SANDBOX", shell_complete=sandbox_names)
@click.option("--claim", metavar="NAME", help="The PersistentVolumeClaim with the repository, for Kubernetes.")
@click.option("--host-directory", is_flag=True, help="The DockerHost's directory for backups, for Docker.")
@click.option(
    "--server", metavar="URL", help="A server: https://HOST/BUCKET/PREFIX (S3) or sftp://USER@HOST/DIRECTORY."
)
@click.option("--region", metavar="NAME", help="The region of a server of S3. Default: us-east-1.")
@click.option("--credentials", metavar="NAME", help="The Secret that the server lets in with. Default: --secret.")
@click.option("--secret", metavar="NAME", required=True, help="The Secret with the repository's password.")
@click.option("--key", default="password", show_default=True, help="Which of the Secret's keys has it.")
@click.option("--keep-last", type=click.IntRange(1, 1000), help="Let go of older snapshots of the sandbox but these.")
@click.option("--home", is_flag=True, help="With what Claude Code keeps of its work (spec.workspace.keepHome).")
@click.option("--volume-snapshot", is_flag=True, help="Of one moment: read a VolumeSnapshot, on Kubernetes.")
@click.option("--volume-snapshot-class", metavar="NAME", help="Its VolumeSnapshotClass. Default: that of the driver.")
@click.option("--replaces", metavar="ID", help="The repository that was there and is lost: begin anew without it.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is over.")
@timeout_option
@where_options
def backup(
    sandbox: str, claim: str | None, host_directory: bool, server: str | None, region: str | None,
    credentials: str | None, secret: str, key: str, keep_last: int | None, home: bool,
    volume_snapshot: bool, volume_snapshot_class: str | None, replaces: str | None, wait: bool, patience: int,
    where: Where,
) -> None:  # fmt: skip
    """Back up a sandbox's workspace now, and have the backup verified by restoring it beside.

    SANDBOX is NAME or NAMESPACE/NAME. It makes a ClaudeSandboxBackup, which stays and tells what came of it.
    Interrupted, the backup goes on.

    \b
      claude-sandbox backup agents/alice --claim backups --secret backups --volume-snapshot
      claude-sandbox backup agents/bob --host-directory --secret backups --keep-last 14
      claude-sandbox backup agents/bob --server sftp://claude@backups.example.org/srv/agents --secret backups
    """
    if [claim is not None, host_directory, server is not None].count(True) != 1:
        raise click.UsageError(
            "Say where to: --claim NAME for a sandbox on Kubernetes, --host-directory on Docker, or --server URL."
        )
    if server is None and (region or credentials):
        raise click.UsageError("--region and --credentials are for --server.")
    if server is not None:
        target = _server(server, region, credentials or secret)
    else:
        target = {"type": "HostDirectory"} if claim is None else {"type": "VolumeClaim", "claimName": claim}
    spec: dict[str, Any] = {"target": target, "passwordSecretRef": {"name": secret, "key": key}}
    if keep_last is not None:
        spec["retention"] = {"keepLast": keep_last}
    if home:
        spec["includeHome"] = True
    if volume_snapshot or volume_snapshot_class is not None:
        spec["volumeSnapshot"] = {} if volume_snapshot_class is None else {"className": volume_snapshot_class}
    if replaces is not None:
        spec["replacesRepository"] = replaces
    found = sandbox_named(sandbox, where)
    work(lambda: _run(found, spec, wait, patience, where))


def _server(url: str, region: str | None, credentials: str) -> dict[str, Any]:
    """The target that a URL names. What is wrong with it otherwise the API server says."""
    try:
        found = urlsplit(url)
        port, host = found.port, found.hostname or ""
    except ValueError as error:
        raise click.UsageError(f"--server {url}: {error}") from None
    bucket, _, prefix = found.path.strip("/").partition("/")
    lets_in = {"credentialsSecretRef": {"name": credentials}}
    if found.scheme == "https" and host and bucket and found.username is None:
        where: dict[str, Any] = {"endpoint": f"https://{host}" + (f":{port}" if port else ""), "bucket": bucket}
        where |= {"prefix": prefix} if prefix else {}
        return {"type": "S3", "s3": where | ({"region": region} if region else {}), **lets_in}
    path = found.path.rstrip("/")
    if found.scheme == "sftp" and host and path and found.username and found.password is None and not region:
        place: dict[str, Any] = {"host": host, "user": found.username, "path": path.removeprefix("/~/")}
        return {"type": "SFTP", "sftp": place | ({"port": port} if port else {}), **lets_in}
    raise click.UsageError(
        "--server: write https://HOST/BUCKET/PREFIX for S3, or sftp://USER@HOST/DIRECTORY, with /~/DIRECTORY for one"
        " below the user's home; what the server lets in is in a Secret (--credentials)."
    )


async def _run(sandbox: tuple[str, str], spec: Mapping[str, Any], wait: bool, patience: int, where: Where) -> int:
    async with connected(where) as (api, default):
        namespace = sandbox[0] or default
        name = f"{sandbox[1]}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        what = f"{meta.BACKUP_KIND} {namespace}/{name}"
        body = {"apiVersion": BACKUPS.api_version, "kind": BACKUPS.kind, "metadata": {"name": name}}
        try:
            await api.create(BACKUPS, body | {"spec": {"sandboxName": sandbox[1], **spec}}, namespace)
        except ApiError as error:
            raise refused(error, what, f"create {meta.BACKUP_PLURAL}", namespace) from None
        click.echo(f"{what} is made. See: kubectl describe {meta.BACKUP_SINGULAR} {name} -n {namespace}", err=True)
        if not wait:
            return 0
        status = await awaited(api, BACKUPS, namespace, name, _is_over, _said, patience, "progress")
    complete, verified = (condition(status, kind) for kind in BackupConditionType)
    good = complete.get("status") == verified.get("status") == "True"
    told = verified if complete.get("status") == "True" else complete
    click.echo(plain(f"Backup {namespace}/{name}: {told.get('message')}"), err=not good)
    return 0 if good else 1


def _is_over(status: Mapping[str, Any]) -> bool:
    return condition(status, BackupConditionType.COMPLETE).get("reason") in OVER


def _said(status: Mapping[str, Any]) -> str:
    return str(condition(status, BackupConditionType.COMPLETE).get("message") or "")
